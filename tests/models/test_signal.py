import math

import pytest
import torch

from mtpkdot.errors import ConfigError
from mtpkdot.models.encoder import Steps
from mtpkdot.models.signal import SignalEncoder, SpectrogramEncoder, decibels
from tests.loops import over
from tests.models.helpers import assert_close, assert_finite_gradients, gradients, random, random_mask

STEPS = Steps((2,), 64.0)
KINDS = {
    "spectrogram": lambda: SpectrogramEncoder(STEPS, model="test_resnet", dim=8),
    "convolutions": lambda: SignalEncoder(STEPS, channels=(4, 6), stride=3, dim=8),
}
every_kind = over("kind", KINDS)


def seeded(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval()


def encoder(kind):
    return seeded(KINDS[kind])


def gaps(samples, steps):
    """No real step, all real, cut off at the end, missing at the begin, and gaps."""
    mask = random_mask(samples, steps, seed=1)
    mask[0], mask[1], mask[2, steps // 2 :], mask[3, : steps // 2] = False, True, False, False
    return mask


@every_kind
def test_a_sample_depends_neither_on_its_batch_mates_nor_on_appended_masked_steps(kind):
    model, x, mask = encoder(kind), random(6, 64, 2), gaps(6, 64)
    together, mask_out = model(x, mask)
    longer = torch.cat([x, random(6, 31, 2, seed=2)], dim=1)
    padded, padded_mask = model(longer, torch.cat([mask, torch.zeros(6, 31, dtype=torch.bool)], dim=1))
    steps = together.shape[1]
    assert_close(padded[:, :steps], together)
    assert torch.equal(padded_mask[:, :steps], mask_out)
    assert not padded_mask[:, steps:].any()
    for i in range(6):
        assert_close(model(x[i : i + 1], mask[i : i + 1])[0][0], together[i])
    assert torch.equal(together[~mask_out], torch.zeros_like(together[~mask_out]))


@every_kind
@over("garbage", [1e6, math.nan, math.inf])
def test_masked_samples_may_hold_anything(kind, garbage):
    model, x, mask = encoder(kind), random(6, 64, 2), gaps(6, 64)
    clean = model(x, mask)[0]
    x[~mask] = garbage
    dirty = model(x, mask)[0]
    assert torch.equal(dirty, clean)
    assert all(torch.equal(a, b) for a, b in zip(gradients(model, dirty), gradients(model, clean), strict=True))


@every_kind
@over("training", [True, False])
def test_a_batch_without_a_real_sample_is_zero_with_finite_gradients(kind, training):
    model = encoder(kind).train(training)
    encoded, mask = model(random(3, 64, 2), torch.zeros(3, 64, dtype=torch.bool))
    assert torch.equal(encoded, torch.zeros_like(encoded))
    assert not mask.any()
    assert_finite_gradients(model, encoded)


@every_kind
def test_signals_are_standardised_by_the_training_part(kind):
    assert encoder(kind).standardize


# spectrograms


def test_the_bins_of_the_released_recipe_follow_from_the_window_in_either_unit():
    for settings in ({}, {"window_ms": 250.0}, {"n_fft": 128}, {"n_fft": 128, "hop": 22}, {"hop_ms": 62.5}):
        model = seeded(lambda settings=settings: SpectrogramEncoder(Steps((1,), 512.0), "test_resnet", **settings))
        hop = settings.get("hop", 32)
        assert model.spectrogram(random(2, 2816, 1)).shape == (2, 1, 65, 1 + 2816 // hop)


def test_the_picture_of_the_released_recipe_has_its_size_and_its_windows():
    scipy = pytest.importorskip("scipy.signal")
    settings = {"n_fft": 128, "window": 16, "hop": 12, "centre": False}
    model = seeded(lambda: SpectrogramEncoder(Steps((1,), 512.0), "test_resnet", **settings))
    signal = random(2, 1536, 1)
    hann = scipy.get_window("hann", 16)
    power = (
        scipy.spectrogram(
            signal[:, :, 0].numpy(),
            window=hann,
            noverlap=4,
            nfft=128,
            detrend=False,
            scaling="spectrum",
            mode="magnitude",
        )[2]
        ** 2
    )
    expected = decibels(torch.from_numpy(power).float() * 4, -80.0)
    picture = model.spectrogram(signal)
    assert picture.shape == (2, 1, 65, 127)
    assert_close(picture[:, 0], expected)
    # Samples behind the last whole window are in no picture, and a short signal gives one window.
    assert torch.equal(model.spectrogram(signal[:, :1530]), picture)
    assert model.spectrogram(signal[:, :9]).shape == (2, 1, 65, 1)


@over("window", [1, 129])
def test_a_window_fits_into_its_transform(window):
    with pytest.raises(ValueError, match="too short, or longer"):
        SpectrogramEncoder(Steps((1,), 512.0), "test_resnet", n_fft=128, window=window)


def test_a_tone_lies_in_its_bin_and_at_its_level():
    model = seeded(lambda: SpectrogramEncoder(Steps((2,), 512.0), "test_resnet"))
    time = torch.arange(2816) / 512
    signal = torch.stack([torch.sin(2 * math.pi * 40 * time), 0.1 * torch.sin(2 * math.pi * 120 * time)], dim=1)
    picture = model.spectrogram(signal[None])[0, :, :, 4:-4].mean(dim=2)
    assert picture.argmax(dim=1).tolist() == [10, 30]
    assert_close(picture.amax(dim=1), torch.tensor([2.0, 1.0]))


def test_silence_is_the_floor():
    model = encoder("spectrogram")
    x = torch.zeros(1, 64, 2, requires_grad=True)
    assert torch.equal(model.spectrogram(x), torch.full((1, 2, 9, 17), -2.0))
    assert_finite_gradients(model, model(x, torch.ones(1, 64, dtype=torch.bool))[0])
    assert x.grad.isfinite().all()


def test_decibels_map_the_range_above_the_floor_to_that_of_a_picture():
    power = torch.tensor([0.0, 1e-12, 1e-8, 1e-4, 1.0, 10.0])
    assert_close(decibels(power, -80.0), torch.tensor([-2.0, -2.0, -2.0, 0.0, 2.0, 2.5]))


@over("length", [1, 3, 20])
def test_signals_shorter_than_the_window_are_encoded(length):
    encoded, mask = encoder("spectrogram")(random(2, length, 2), torch.ones(2, length, dtype=torch.bool))
    assert encoded.isfinite().all()
    assert mask.shape == (2, 1)


def test_the_window_needs_a_rate_or_a_number_of_samples():
    with pytest.raises(ValueError, match="set `n_fft` in samples"):
        SpectrogramEncoder(Steps((1,)), "test_resnet")
    assert SpectrogramEncoder(Steps((1,)), "test_resnet", n_fft=16).hop == 4
    with pytest.raises(ValueError, match="too short"):
        SpectrogramEncoder(STEPS, "test_resnet", window_ms=1.0)


def test_networks_for_one_size_are_refused():
    with pytest.raises(ConfigError, match="one size only"):
        SpectrogramEncoder(STEPS, "test_vit")


# convolutions


@over("steps, expected", [(1, 1), (3, 1), (4, 2), (9, 1), (10, 2), (64, 8)])
def test_every_layer_divides_the_steps_and_rounds_up(steps, expected):
    layers = (4, 6) if steps > 4 else (4,)
    model = seeded(lambda: SignalEncoder(STEPS, layers, stride=3))
    assert model(random(2, steps, 2), torch.ones(2, steps, dtype=torch.bool))[0].shape == (2, expected, 128)


def test_a_reduced_step_is_real_if_any_of_its_steps_is():
    model = seeded(lambda: SignalEncoder(STEPS, channels=(4,), stride=3))
    mask = torch.zeros(1, 11, dtype=torch.bool)
    mask[0, [1, 9]] = True
    assert model(random(1, 11, 2), mask)[1].tolist() == [[True, False, False, True]]


def test_every_real_sample_is_read():
    model = seeded(lambda: SignalEncoder(STEPS, channels=(4, 6), kernel=5, stride=3, dim=8))
    x = random(1, 40, 2).requires_grad_()
    encoded = model(x, torch.ones(1, 40, dtype=torch.bool))[0]
    (encoded * random(*encoded.shape, seed=9)).sum().backward()
    assert bool((x.grad.abs() > 0).all())


@over("settings", [{"kernel": 6}, {"kernel": 5, "stride": 4}, {"channels": ()}])
def test_layers_that_would_skip_samples_are_refused(settings):
    with pytest.raises(ValueError, match="odd kernel"):
        SignalEncoder(STEPS, **settings)


@over("cls", [SignalEncoder, SpectrogramEncoder])
def test_other_steps_are_refused(cls):
    with pytest.raises(ValueError, match=r"reads signals \(C,\) or pieces"):
        cls(Steps((3, 4, 5), 64.0))


@every_kind
def test_pieces_of_a_signal_are_encoded_one_by_one(kind):
    whole = encoder(kind)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pieces = {
            "spectrogram": lambda: SpectrogramEncoder(Steps((32, 2), 64.0), model="test_resnet", dim=8),
            "convolutions": lambda: SignalEncoder(Steps((32, 2), 64.0), channels=(4, 6), stride=3, dim=8),
        }[kind]().eval()
    pieces.load_state_dict(whole.state_dict())
    x, mask = random(5, 3, 32, 2), random_mask(5, 3, seed=1)
    mask[0] = False
    x[~mask] = math.nan
    features, mask_out = pieces(x, mask)
    assert features.shape == (5, 3, 8)
    assert torch.equal(mask_out, mask)
    assert not features[~mask].any()
    real = x[mask]
    expected = whole(real, torch.ones(real.shape[:2], dtype=torch.bool))[0].mean(dim=1)
    assert_close(features[mask], expected)
    assert_finite_gradients(pieces, features)
