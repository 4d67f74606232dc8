import math

import pytest
import torch
from torchaudio.functional import melscale_fbanks

from mtpkdot.models.audio import LogMelEncoder
from mtpkdot.models.encoder import Steps
from tests.loops import over
from tests.models.helpers import assert_close, assert_finite_gradients, gradients, random, random_mask

RATE, LENGTH = 8000.0, 1600


def encoder(rate=RATE, length=LENGTH, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LogMelEncoder(Steps((length,), rate), **{"model": "test_resnet", "dim": 8, **settings}).eval()


def tone(frequency, amplitude=1.0, rate=RATE, length=LENGTH):
    return amplitude * torch.sin(2 * math.pi * frequency * torch.arange(length) / rate)


def centres(n_mels=64, rate=RATE):
    """Centre of every band in Hz, by the formula of the mel scale (HTK)."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    return 700 * (10 ** (torch.linspace(0, top, n_mels + 2)[1:-1] / 2595) - 1)


@over("frequency", [300.0, 1000.0, 2500.0, 3500.0])
@over("rate", [8000.0, 16000.0, 44100.0])
def test_a_tone_lies_in_its_band(frequency, rate):
    sound = tone(frequency, rate=rate, length=round(rate / 5))
    spectrum = encoder(rate, len(sound)).log_mel(sound[None])[0, 0, :, 5:-5].mean(dim=1)
    assert abs(int(spectrum.argmax()) - int((centres(rate=rate) - frequency).abs().argmin())) <= 1


@over("rate", [8000.0, 16000.0, 44100.0])
def test_full_scale_is_2_and_every_20_decibels_less_are_0_8_less_at_any_rate(rate):
    model = encoder(rate, round(rate / 5), n_mels=32)
    frequency = float(centres(32, rate)[20])
    loud, quiet = (model.log_mel(tone(frequency, a, rate, round(rate / 5))[None])[..., 5:-5] for a in (1.0, 0.1))
    assert float(loud.max()) == pytest.approx(2.0, abs=0.1)
    assert float(loud.max() - quiet.max()) == pytest.approx(0.8, abs=1e-3)


def test_silence_is_the_floor_with_a_finite_gradient():
    model, sound = encoder(), torch.zeros(1, 1, LENGTH, requires_grad=True)
    assert torch.equal(model.log_mel(sound[0]), torch.full((1, 1, 64, 21), -2.0))
    encoded, _ = model(sound, torch.ones(1, 1, dtype=torch.bool))
    assert_finite_gradients(model, encoded)
    assert sound.grad.isfinite().all()


@over("rate", [8000.0, 16000.0, 22050.0, 44100.0, 48000.0])
def test_no_band_is_empty(rate):
    model = encoder(rate, round(rate / 5))
    assert bool((model.spectrogram.mel_scale.fb > 0).any(dim=0).all())


def test_the_bands_and_frames_are_those_of_torchaudio():
    model, sound = encoder(n_mels=20, f_min=100.0, f_max=3000.0, window_ms=32.0), random(2, LENGTH)
    window = torch.hann_window(256)
    bins = torch.stft(sound, 256, 80, window=window, pad_mode="constant", return_complex=True).abs() ** 2
    power = (bins.mT @ melscale_fbanks(129, 100.0, 3000.0, 20, 8000)).mT * 4 / (256 * window.square().sum())
    expected = (10 * power.log10().clamp_min(-10) + 50) / 25
    assert_close(model.log_mel(sound)[:, 0], expected)


def test_half_precision_does_not_reach_the_spectrogram():
    model, sound = encoder(), tone(500.0, 1e-3)[None]
    expected = model.log_mel(sound)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.log_mel(sound), expected)


@over("layers", [0, 1])
def test_masked_steps_and_batch_mates_change_nothing(layers):
    model, x, mask = encoder(temporal_layers=layers), 0.1 * random(5, 3, LENGTH), random_mask(5, 3)
    mask[0], mask[1] = False, True
    clean, mask_out = model(x, mask)
    assert (clean.shape, model.standardize) == ((5, 3, 8), False)
    assert torch.equal(mask_out, mask)
    assert torch.equal(clean[~mask], torch.zeros_like(clean[~mask]))
    for i in range(5):
        assert_close(model(x[i : i + 1], mask[i : i + 1])[0][0], clean[i])
    x[~mask] = math.nan
    dirty, _ = model(x, mask)
    assert torch.equal(dirty, clean)
    assert all(torch.equal(a, b) for a, b in zip(gradients(model, dirty), gradients(model, clean), strict=True))


def test_a_batch_without_sound_is_zero_with_finite_gradients():
    model = encoder().train()
    encoded, _ = model(random(2, 3, LENGTH), torch.zeros(2, 3, dtype=torch.bool))
    assert torch.equal(encoded, torch.zeros(2, 3, 8))
    assert_finite_gradients(model, encoded)


def test_a_transformer_takes_the_size_of_the_spectrogram():
    model = encoder(length=2480, model="test_vit", dim=None)
    assert model(random(1, 1, 2480), torch.ones(1, 1, dtype=torch.bool))[0].shape == (1, 1, model.dim)


@over(
    "steps, settings, message",
    [
        (Steps((1600,)), {}, "rate of the sound"),
        (Steps((2, 1600), RATE), {}, r"reads sound \(L,\)"),
        (Steps((1600,), RATE), {"f_max": 5000.0}, "half the rate"),
        (Steps((1600,), RATE), {"f_min": 3000.0, "f_max": 2000.0}, "half the rate"),
        (Steps((1600,), RATE), {"hop_ms": 0.01}, "too short"),
        (Steps((1600,), RATE), {"n_mels": 64, "f_min": 100.0, "f_max": 101.0}, "too narrow"),
    ],
)
def test_impossible_settings_are_reported(steps, settings, message):
    with pytest.raises(ValueError, match=message):
        LogMelEncoder(steps, model="test_resnet", **settings)
