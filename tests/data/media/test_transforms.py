"""Views: a function of sample and number, alike over all frames, within range."""

import hashlib
import subprocess
import sys

import pytest
import torch

from mtpkdot.data.media.transforms import Augment

CODE = """
import hashlib, torch
from mtpkdot.data.media.transforms import Augment
frames = torch.arange(4 * 3 * 20 * 20).reshape(4, 3, 20, 20).mul(7).remainder(256).to(torch.uint8)
print(hashlib.sha256(Augment().pictures(frames, "a-0001", 3).numpy().tobytes()).hexdigest())
"""


def frames(count=4, size=20):
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_equal_arguments_give_equal_pixels_in_any_process():
    elsewhere = subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True, text=True).stdout
    frames = torch.arange(4 * 3 * 20 * 20).reshape(4, 3, 20, 20).mul(7).remainder(256).to(torch.uint8)
    here = Augment().pictures(frames, "a-0001", 3).numpy().tobytes()
    assert elsewhere.strip() == hashlib.sha256(here).hexdigest()


def test_other_views_and_samples_differ_and_the_input_stays():
    given, before = frames(), frames()
    views = [Augment().pictures(given, sample, view) for sample in ("a", "b") for view in (1, 2)]
    assert torch.equal(given, before)
    for i, one in enumerate(views):
        assert one.dtype == torch.uint8
        assert not any(torch.equal(one, other) for other in views[:i])


@pytest.mark.parametrize("view", range(1, 9))
def test_all_frames_are_changed_alike(view):
    one = frames(1)
    pictures = Augment().pictures(one.repeat(5, 1, 1, 1), "a", view)
    assert all(torch.equal(pictures[0], other) for other in pictures)
    assert torch.equal(Augment().pictures(one, "a", view), pictures[:1])


def test_flips_are_mirror_images_of_all_frames():
    augment, given = Augment(flip=0.5, zoom=0, brightness=0, contrast=0), frames(6)
    flipped = 0
    for view in range(1, 41):
        seen = augment.pictures(given, "a", view)
        mirrored = torch.equal(seen, given.flip(-1))
        assert mirrored or torch.equal(seen, given)
        flipped += mirrored
    assert 8 <= flipped <= 32


@pytest.mark.parametrize("size", [8, 21, 112])
def test_the_strongest_changes_stay_in_range(size):
    augment = Augment(1, 1, 1, 1, 1, 1)
    for view in range(1, 150 if size == 8 else 20):
        assert augment.pictures(frames(2, size), "a", view).shape == (2, 3, size, size)
        sound = augment.sound(torch.linspace(-1, 1, 50).view(2, 25), "a", view)
        assert sound.abs().max() <= 1


def test_signals_keep_their_mean_level_and_get_a_little_noise():
    values = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 100.0])
    seen = Augment(gain=0, noise=0.1).signal(values, "a", 1)
    assert ((seen - values).std(dim=0) / values.std(dim=0)).tolist() == pytest.approx([0.1, 0.1], rel=0.05)
    louder = Augment(gain=0.5, noise=0).signal(values, "a", 1) / values
    assert louder.std() < 1e-5
    assert 0.5 <= louder.mean() <= 1.5


@pytest.mark.parametrize("wrong", [{"flip": 1.1}, {"noise": -0.1}])
def test_amounts_are_shares(wrong):
    with pytest.raises(ValueError, match="from 0 to 1"):
        Augment(**wrong)
