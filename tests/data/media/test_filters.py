import numpy as np
import pytest
from scipy.signal import sosfreqz

from mtpkdot.data.media.filters import clean, design_filter, design_notch

RATE = 512.0


def tone(frequency, seconds=8.0, phase=0.3):
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE + phase)[:, None]


def gain(sections, frequency):
    return float(np.abs(sosfreqz(sections, [frequency], fs=RATE)[1][0]))


@pytest.mark.parametrize(
    ("edges", "passed", "stopped"),
    [
        ({"highpass": 20.0}, [80.0, 200.0], [1.0, 5.0]),
        ({"lowpass": 20.0}, [1.0, 5.0], [80.0, 200.0]),
        ({"highpass": 20.0, "lowpass": 80.0}, [40.0], [4.0, 240.0]),
    ],
)
def test_frequencies_within_the_edges_pass_and_the_others_do_not(edges, passed, stopped):
    sections = design_filter(RATE, **edges)
    assert all(gain(sections, frequency) == pytest.approx(1.0, abs=0.01) for frequency in passed)
    assert all(gain(sections, frequency) < 0.01 for frequency in stopped)
    assert all(gain(sections, edge) == pytest.approx(np.sqrt(0.5), rel=1e-3) for edge in edges.values())


def test_a_notch_removes_one_frequency():
    sections = design_notch(RATE, 50.0)
    assert gain(sections, 50.0) < 1e-6
    assert gain(sections, 45.0) > 0.97


def test_cleaning_keeps_what_passes_in_its_place_and_removes_drift_and_mains():
    wanted, middle = tone(30.0), slice(512, -512)
    drift, mains = 100.0 + 5.0 * tone(0.2), 3.0 * tone(50.0)
    cleaned = clean(wanted + drift + mains, RATE, highpass=5.0, lowpass=120.0, notch=50.0)
    assert cleaned.dtype == np.float32
    np.testing.assert_allclose(cleaned[middle], wanted[middle], atol=0.02)


def test_filtering_has_no_direction():
    signal = np.random.default_rng(0).normal(size=(4096, 2))
    forwards, backwards = (clean(x, RATE, highpass=20.0, lowpass=100.0) for x in (signal, signal[::-1]))
    np.testing.assert_allclose(forwards[1024:-1024], backwards[::-1][1024:-1024], atol=1e-4)


def test_channels_are_filtered_one_by_one():
    signal = np.random.default_rng(0).normal(size=(300, 3))
    alone = np.concatenate([clean(signal[:, [c]], RATE, lowpass=50.0) for c in range(3)], axis=1)
    np.testing.assert_array_equal(clean(signal, RATE, lowpass=50.0), alone)


def test_without_filters_nothing_changes_and_the_input_is_never_changed():
    signal = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    signal[5, 1] = np.nan
    before = signal.copy()
    np.testing.assert_array_equal(clean(signal, RATE), signal)
    clean(signal, RATE, lowpass=50.0)
    np.testing.assert_array_equal(signal, before)


@pytest.mark.parametrize("samples", [0, 1, 2, 10, 28])
def test_short_signals_are_filtered(samples):
    cleaned = clean(np.ones((samples, 2)), RATE, lowpass=50.0, notch=50.0)
    np.testing.assert_allclose(cleaned, np.ones((samples, 2)), atol=1e-5)


def test_a_missing_sample_stays_missing_and_spoils_no_other():
    signal = tone(5.0)
    broken = signal.copy()
    broken[1000:1003] = np.nan
    broken[0] = np.nan
    cleaned = clean(broken, RATE, lowpass=50.0)
    missing = np.isnan(broken)
    assert np.array_equal(np.isnan(cleaned), missing)
    np.testing.assert_allclose(cleaned[100:-100][~missing[100:-100]], signal[100:-100][~missing[100:-100]], atol=0.01)


def test_a_channel_without_any_sample_stays_missing():
    signal = np.concatenate([tone(5.0), np.full_like(tone(5.0), np.nan)], axis=1)
    cleaned = clean(signal, RATE, highpass=1.0)
    assert np.isfinite(cleaned[:, 0]).all()
    assert np.isnan(cleaned[:, 1]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lowpass": 256.0}, "lowpass 256 Hz does not lie between 0 and 256 Hz"),
        ({"highpass": 0.0}, "highpass 0 Hz"),
        ({"highpass": -1.0}, "highpass -1 Hz"),
        ({"notch": 300.0}, "notch 300 Hz"),
        ({"highpass": float("nan")}, "highpass nan Hz"),
        ({"highpass": 50.0, "lowpass": 20.0}, "lets nothing through"),
        ({"lowpass": 20.0, "order": 0}, "order"),
    ],
)
def test_frequencies_that_do_not_fit_are_reported(settings, message):
    with pytest.raises(ValueError, match=message):
        clean(np.zeros((100, 1)), RATE, **settings)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_rate_is_reported(rate):
    with pytest.raises(ValueError, match="not a sampling rate"):
        clean(np.zeros((100, 1)), rate, lowpass=20.0)


def test_a_filter_needs_an_edge():
    with pytest.raises(ValueError, match="needs an edge"):
        design_filter(RATE)


def test_other_arrays_and_infinite_values_are_refused():
    with pytest.raises(ValueError, match="samples, channels"):
        clean(np.zeros(100), RATE)
    with pytest.raises(ValueError, match="infinite"):
        clean(np.full((10, 1), np.inf), RATE)
