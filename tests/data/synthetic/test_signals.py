"""Signals: units, rates and what they have to do with the state behind them."""

import numpy as np
import pytest
from scipy.signal import find_peaks

from mtpkdot.data.synthetic.signals import (
    band_noise,
    electrocardiogram,
    electromyogram,
    skin_conductance,
    unfiltered,
    voice,
)

RATE = 512


def step_of_pain(seconds=6.0, onset=1.0, level=1.0):
    time = np.arange(int(seconds * RATE)) / RATE
    return time, level / (1 + np.exp(-(time - onset) / 0.05))


@pytest.mark.parametrize("seed", range(5))
def test_skin_conductance_answers_one_to_two_seconds_after_the_onset(seed):
    time, pain = step_of_pain(onset=1.0)
    calm = skin_conductance(pain * 0, RATE, np.random.default_rng(seed), unrest=0)
    felt = skin_conductance(pain, RATE, np.random.default_rng(seed), gain=2.0, unrest=0)
    # The tail of an earlier response is scaled by the gain, and falls.
    rise = felt - np.minimum.accumulate(felt)
    first = time[np.argmax(rise > 0.1)]
    assert 1.9 < first < 3.6
    assert 1.0 < rise.max() < 2.2
    assert np.ptp(calm) < 3
    assert 2 < calm.mean() < 12


def test_skin_conductance_rises_with_pain():
    def rise(level):
        heights = []
        for seed in range(40):
            signal = skin_conductance(step_of_pain(level=level)[1], RATE, np.random.default_rng(seed))
            heights.append(signal[RATE:].max() - signal[RATE])
        return np.mean(heights)

    assert rise(0.0) + 0.3 < rise(0.5) + 0.15 < rise(1.0)


def test_skin_conductance_is_positive_even_for_a_dry_person():
    signal = skin_conductance(step_of_pain()[1], RATE, np.random.default_rng(0), tonic=0.01)
    assert signal.min() > 0


@pytest.mark.parametrize("resting", [50.0, 70.0, 100.0])
def test_a_heart_beats_at_its_rate_in_millivolts(resting):
    ecg = electrocardiogram(np.zeros(60 * RATE), RATE, np.random.default_rng(1), resting)
    peaks, _ = find_peaks(ecg, height=0.6, distance=RATE // 4)
    assert len(peaks) == pytest.approx(resting, abs=3)
    assert np.median(ecg[peaks]) == pytest.approx(1, abs=0.1)
    assert abs(np.median(ecg)) < 0.1
    intervals = np.diff(peaks) / RATE
    assert 0.005 < intervals.std() < 0.1  # a heart is no clock


def test_pain_makes_the_heart_faster():
    calm, felt = (
        len(find_peaks(electrocardiogram(np.full(60 * RATE, p), RATE, np.random.default_rng(2)), height=0.6)[0])
        for p in (0.0, 1.0)
    )
    assert calm + 5 < felt < calm + 15


def test_a_short_clip_begins_and_ends_inside_a_rhythm():
    for seed in range(10):
        ecg = electrocardiogram(np.zeros(2816), RATE, np.random.default_rng(seed), 60)
        assert len(find_peaks(ecg, height=0.6)[0]) in (5, 6)


def test_a_tense_muscle_is_louder_and_its_mean_is_zero():
    time = np.arange(6 * RATE) / RATE
    emg = electromyogram(np.where(time > 3, 20.0, 0.0), RATE, np.random.default_rng(3), rest=2.0)
    assert emg.mean() == pytest.approx(0, abs=1e-9)
    assert emg[: 3 * RATE].std() == pytest.approx(2, rel=0.2)
    assert emg[3 * RATE :].std() == pytest.approx(22, rel=0.2)


def test_muscle_noise_stays_in_its_band():
    noise = band_noise(20 * RATE, RATE, (20.0, 220.0), np.random.default_rng(4))
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(len(noise), 1 / RATE)
    outside = power[(frequency < 12) | (frequency > 235)].sum() / power.sum()
    assert outside < 0.01
    assert noise.std() == pytest.approx(1)


def test_the_unfiltered_signal_has_hum_and_drift():
    clean = np.zeros(20 * RATE)
    raw = unfiltered(clean, RATE, np.random.default_rng(5), drift=0.0, hum=1.0, noise=0.0)
    power = np.abs(np.fft.rfft(raw))
    assert np.fft.rfftfreq(len(raw), 1 / RATE)[power.argmax()] == pytest.approx(50)
    drift = unfiltered(clean, RATE, np.random.default_rng(5), drift=1.0, hum=0.0, noise=0.0)
    assert np.diff(drift).std() < 0.02 < drift.std()
    np.testing.assert_array_equal(unfiltered(clean, RATE, np.random.default_rng(5), 0, 0, 0), clean)


def speak(valence, arousal, seed=0, seconds=6.0, rate=16000):
    times = np.array([0.0, seconds])
    blocks = voice(times, np.full(2, valence), np.full(2, arousal), rate, seconds, np.random.default_rng(seed))
    return np.concatenate(list(blocks))


def pitch(sound, rate=16000):
    """The strongest period between 60 and 500 Hz, from the autocorrelation of the middle of the sound."""
    power = np.abs(np.fft.rfft(sound, 2 * len(sound))) ** 2
    echo = np.fft.irfft(power)[: rate // 60]
    return rate / (rate // 500 + echo[rate // 500 :].argmax())


def centroid(sound, rate=16000):
    power = np.abs(np.fft.rfft(sound)) ** 2
    return (power * np.fft.rfftfreq(len(sound), 1 / rate)).sum() / power.sum()


def test_arousal_raises_level_and_pitch():
    for seed in range(4):
        calm, excited = speak(0, -0.8, seed), speak(0, 0.8, seed)
        assert excited.std() > 3 * calm.std()
        assert pitch(excited) > 1.3 * pitch(calm)


def test_arousal_speeds_up_the_syllables():
    def syllables(sound):
        smooth = np.convolve(np.abs(sound), np.hanning(800) / 400, "same")
        return len(find_peaks(smooth, prominence=0.2 * smooth.max(), distance=800)[0])

    assert np.mean([syllables(speak(0, 0.8, s)) for s in range(4)]) > 1.3 * np.mean(
        [syllables(speak(0, -0.8, s)) for s in range(4)]
    )


def test_valence_brightens_the_voice_but_not_its_level():
    for seed in range(4):
        low, high = speak(-0.8, 0, seed), speak(0.8, 0, seed)
        assert centroid(high) > 1.05 * centroid(low)
        assert high.std() == pytest.approx(low.std(), rel=0.1)


@pytest.mark.parametrize(("seconds", "rate"), [(2.5, 16000), (0.3, 44100), (3.0, 44100)])
def test_the_sound_has_its_length_and_no_jumps_between_blocks(seconds, rate):
    sound = speak(0, 1.0, seconds=seconds, rate=rate)
    assert len(sound) == round(seconds * rate)
    assert sound.dtype == np.float32
    assert np.abs(sound).max() <= 1
    jumps = np.abs(np.diff(sound))
    assert jumps[rate - 1 :: rate].max(initial=0) <= jumps.max()


def test_blocks_join_into_one_smooth_wave():
    quiet = [speak(0, 0, seed, seconds=4.0) for seed in range(8)]
    at_borders = max(np.abs(np.diff(s))[[15999, 31999, 47999]].max() / np.abs(np.diff(s)).max() for s in quiet)
    assert at_borders <= 1.0
    # A phase that started anew would show as a step of the size of the wave itself.
    second_differences = [np.abs(np.diff(s, 2)) for s in quiet]
    for difference in second_differences:
        assert difference[[15998, 31998, 47998]].max() <= np.quantile(difference, 0.9999)
