"""Reading pieces of a store: views, silence beyond the ends, black frames."""

import numpy as np
import pytest
import torch

from mtpkdot.data.media.clips import PictureClips, SignalClips, SoundClips
from mtpkdot.data.media.jpegs import decode_jpegs, encode_jpeg
from mtpkdot.data.media.store import Content, Store, index_entry, write_index, write_recording
from mtpkdot.data.media.transforms import Augment

JPEGS = [encode_jpeg(np.random.default_rng(n).integers(0, 255, (16, 16, 3), np.uint8), 90) for n in range(5)]
FILES = [JPEGS[0], b"", *JPEGS[1:]]
OFFSETS = np.concatenate([[0], np.cumsum([len(file) for file in FILES])])
SOUND = (np.arange(1, 101) * 300).astype(np.int16)
ROWS, SAME = np.array([0, 1]), np.array([0, 0])


@pytest.fixture(scope="module")
def common(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    pictures = np.frombuffer(b"".join(FILES), np.uint8)
    signals = {f"signal.s.{c}": np.arange(50, dtype=np.float32) * k for k, c in enumerate("ab", start=1)}
    write_recording(
        folder, "r", Content({}, {"offsets": OFFSETS}, {"pictures": pictures, "sound": SOUND, **signals}), "x"
    )
    write_index(folder, [index_entry(folder, "r")], {})
    return Store.open(folder), np.array(["r", "r"]), np.array(["r-0", "r-1"]), Augment()


@pytest.fixture(scope="module")
def pictures(common):
    return PictureClips(*common, np.array([[2, 0, -1, 2], [5, 4, 4, 3]], np.int32), {"r": OFFSETS}, 16)


@pytest.fixture(scope="module")
def signals(common):
    return SignalClips(*common, np.array([7, -1]), 20, ["s.a", "s.b"])


@pytest.fixture(scope="module")
def pieces(common):
    return SignalClips(*common, np.array([[7, 10, -1], [-1, 30, 0]]), 20, ["s.a", "s.b"])


@pytest.fixture(scope="module")
def sounds(common):
    return SoundClips(*common, np.array([[-6, 10, 95], [-30, 99, 100]]), {"r": 100}, 12)


def test_pictures_are_the_frames_in_their_order(pictures):
    seen = pictures.read(ROWS, SAME)
    assert seen.shape == pictures.shape == (2, 4, 3, 16, 16)
    for row, frames in enumerate(pictures.frames.tolist()):
        for step, frame in enumerate(frames):
            whole = decode_jpegs([FILES[frame]], "x")[0] if frame >= 0 else torch.zeros(3, 16, 16, dtype=torch.uint8)
            assert torch.equal(seen[row, step], whole)


def test_signals_begin_where_they_should(signals):
    seen = signals.read(ROWS, SAME)
    np.testing.assert_array_equal(seen[0], np.stack([np.arange(7, 27), 2 * np.arange(7, 27)], axis=1))
    assert not seen[1].any()


def test_every_step_has_its_own_piece_of_the_signals(pieces):
    seen = pieces.read(ROWS, SAME)
    assert seen.shape == pieces.shape == (2, 3, 20, 2)
    for row, starts in enumerate(pieces.starts.tolist()):
        for step, start in enumerate(starts):
            ramp = np.arange(start, start + 20)
            np.testing.assert_array_equal(seen[row, step], np.stack([ramp, 2 * ramp], axis=1) * (start >= 0))


def test_sound_beyond_the_ends_is_silence(sounds):
    seen = sounds.read(ROWS, SAME).numpy()
    for row, starts in enumerate(sounds.starts.tolist()):
        for step, start in enumerate(starts):
            expected = [SOUND[i] / 32767 if 0 <= i < 100 else 0 for i in range(start, start + 12)]
            np.testing.assert_allclose(seen[row, step], expected, atol=1e-7)


@pytest.mark.parametrize("name", ["pictures", "signals", "pieces", "sounds"])
def test_views_belong_to_their_sample_whatever_the_batch(name, request):
    clips = request.getfixturevalue(name)
    alone = [clips.read(np.array([row]), np.array([view]))[0] for row, view in ((0, 0), (0, 3), (0, 4))]
    together = clips.read(np.array([1, 0, 0, 0]), np.array([1, 4, 0, 3]))
    for one, place in zip(alone, (2, 3, 1), strict=True):
        assert torch.equal(one, together[place])
    assert not torch.equal(alone[0], alone[1])
    assert not torch.equal(alone[1], alone[2])
    kept = clips.keep(np.array([False, True]))
    assert kept.shape == (1, *clips.shape[1:])
    assert torch.equal(kept.read(np.array([0]), np.array([2])), clips.read(np.array([1]), np.array([2])))
    assert torch.equal(clips.read(ROWS[:0], SAME[:0]), torch.empty(0, *clips.shape[1:]))


def test_absent_steps_stay_empty_in_every_view(pictures, signals, pieces):
    assert not pieces.read(np.array([0]), np.array([5]))[0, 2].any()
    assert not pictures.read(np.array([0]), np.array([5]))[0, 2].any()
    assert not signals.read(np.array([1]), np.array([5])).any()


def test_two_signals_do_not_share_their_noise(common):
    one, two = (SignalClips(*common, np.array([7, 7]), 20, [f"s.{c}"]) for c in "ab")
    noise = [
        clips.read(np.array([0]), np.array([1])) - clips.read(np.array([0]), np.array([0])) for clips in (one, two)
    ]
    assert abs(np.corrcoef(noise[0].flatten(), noise[1].flatten())[0, 1]) < 0.95
