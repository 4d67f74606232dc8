"""Generated signals: physiology and voice of a person who feels something.

Physiology follows a course of pain, given at the signal's own rate; the voice follows valence and arousal. The shapes
are the textbook ones (a biexponential skin conductance response, a sum of bumps for a heart beat, band-limited noise
for muscles, a harmonic source with two formants for a voice); they are for exercising software, not for physiology.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfiltfilt

from mtpkdot.data.synthetic.expressions import Course, wander

# Bumps of one heart beat: seconds after the R peak, width in seconds, height in mV (P, Q, R, S, T).
_BEAT = ((-0.17, 0.025, 0.12), (-0.028, 0.009, -0.12), (0.0, 0.010, 1.0), (0.03, 0.010, -0.22), (0.26, 0.045, 0.28))


def skin_conductance(
    pain: Course,
    rate: float,
    random: np.random.Generator,
    tonic: float = 5.0,
    gain: float = 1.0,
    unrest: float = 0.15,
) -> Course:
    """Return skin conductance in microsiemens: a drifting level, and a response 1 to 2 s after pain has risen.

    Args:
        pain: [samples], 0 to 1.
        rate: samples a second.
        random: source of randomness.
        tonic: level of the person in microsiemens.
        gain: height in microsiemens of the response to a rise of pain from 0 to 1.
        unrest: spontaneous responses per second, about a quarter of `gain` high.

    Returns:
        [samples], positive.
    """
    time = np.arange(len(pain)) / rate
    driver = np.zeros(len(pain))
    delay = int(random.uniform(1.0, 2.0) * rate)
    rise = np.clip(np.diff(pain, prepend=pain[0]), 0, None)
    driver[delay:] = rise[: max(len(pain) - delay, 0)]
    for at in random.integers(0, len(pain), size=random.poisson(unrest * len(pain) / rate)):
        driver[at] += 0.25 * random.gamma(2.0, 0.5)
    response = _response(rate)
    phasic = gain * fftconvolve(driver, response)[: len(pain)]
    # The tail of responses before the clip.
    earlier = gain * 0.5 * random.gamma(1.0, 0.5) * np.exp(-time / 3.0)
    drift = 0.02 * tonic * random.normal() * time / max(time[-1], 1.0)
    return np.asarray(np.maximum(tonic + drift + phasic + earlier + 0.002 * random.normal(size=len(pain)), 0.05))


def _response(rate: float) -> Course:
    """Return a skin conductance response with peak 1: it rises within a second and decays within a few."""
    time = np.arange(int(15 * rate)) / rate
    shape = np.exp(-time / 2.0) - np.exp(-time / 0.5)
    return np.asarray(shape / shape.max())


def electrocardiogram(
    pain: Course, rate: float, random: np.random.Generator, resting: float = 68.0, gain: float = 10.0
) -> Course:
    """Return an electrocardiogram in millivolts.

    Args:
        pain: [samples], 0 to 1.
        rate: samples a second.
        random: source of randomness.
        resting: heart rate in beats per minute.
        gain: beats per minute that full pain adds.

    Returns:
        [samples], R peaks about 1 mV above the baseline.
    """
    time = np.arange(len(pain)) / rate
    breath = 0.03 * np.sin(2 * np.pi * (random.uniform(0.2, 0.3) * time + random.random()))
    beats_a_second = (resting + gain * pain + 1.5 * wander(len(pain), rate, 2.0, random)) / 60 * (1 + breath)
    phase = random.random() + np.cumsum(np.clip(beats_a_second, 0.6, 3.0)) / rate
    # One beat before and after, whose bumps reach into the clip.
    beats = np.interp(
        np.arange(np.floor(phase[0]), np.ceil(phase[-1]) + 1), phase, time, left=-0.4, right=time[-1] + 0.4
    )
    heights = 1 + 0.03 * random.normal(size=len(beats))
    away = time[:, None] - beats
    signal = sum(size * (heights * np.exp(-(((away - at) / width) ** 2))).sum(axis=1) for at, width, size in _BEAT)
    return np.asarray(signal + 0.01 * random.normal(size=len(pain)))


def electromyogram(tension: Course, rate: float, random: np.random.Generator, rest: float = 2.0) -> Course:
    """Return muscle activity in microvolts: noise of 20 to 220 Hz, as strong as the muscle is tense.

    Args:
        tension: [samples], microvolts (root mean square) on top of `rest`.
        rate: samples per second, more than 440.
        random: source of randomness.
        rest: root mean square at rest.

    Returns:
        [samples], zero mean.
    """
    noise = band_noise(len(tension), rate, (20.0, 220.0), random)
    signal = noise * (rest + np.clip(tension, 0, None))
    return np.asarray(signal - signal.mean())


def band_noise(count: int, rate: float, band: tuple[float, float], random: np.random.Generator) -> Course:
    """Return noise [count] of unit variance between two frequencies in Hz."""
    noise = sosfiltfilt(butter(4, band, btype="bandpass", fs=rate, output="sos"), random.normal(size=count))
    return np.asarray(noise / noise.std())


def unfiltered(
    signal: Course, rate: float, random: np.random.Generator, drift: float, hum: float, noise: float
) -> Course:
    """Return a signal as recorded, before filters took away slow drift, 50 Hz hum and noise, in the signal's unit."""
    time = np.arange(len(signal)) / rate
    mains = hum * np.sin(2 * np.pi * (50 * time + random.random()))
    return np.asarray(
        signal + drift * wander(len(signal), rate, 1.5, random) + mains + noise * random.normal(size=len(signal))
    )


def voice(
    times: Course, valence: Course, arousal: Course, rate: int, seconds: float, random: np.random.Generator
) -> Iterator[NDArray[np.float32]]:
    """Yield a voice-like sound, a second at a time.

    Arousal raises pitch, level and the rate of syllables, and shortens pauses; valence brightens the timbre and widens
    the melody. Pitch and timbre differ between people.

    Args:
        times: [frames], seconds at which the courses are given.
        valence: [frames], -1 to 1.
        arousal: [frames], -1 to 1.
        rate: samples a second.
        seconds: length of the sound.
        random: source of randomness.

    Yields:
        Mono sound in [-1, 1], [samples]; all blocks together hold `round(seconds * rate)` samples.
    """
    base, tract, loud = random.uniform(95, 220), random.uniform(0.9, 1.15), np.exp(0.2 * random.normal())
    pitch_phase = syllable_phase = phrase_phase = random.random()
    total = round(seconds * rate)
    for start in range(0, total, rate):
        now = np.arange(start, min(start + rate, total)) / rate
        v, a = np.interp(now, times, valence), np.interp(now, times, arousal)
        syllables = syllable_phase + np.cumsum(4.0 * 2 ** (0.6 * a)) / rate
        phrases = phrase_phase + np.cumsum(np.full(len(now), 0.3)) / rate
        swing = np.sin(2 * np.pi * phrases)
        pitch = base * 2 ** (0.6 * a + (0.10 + 0.08 * v) * swing + 0.02 * np.sin(2 * np.pi * syllables))
        phases = pitch_phase + np.cumsum(pitch) / rate
        # Syllables swell and fade; phrases are separated by silence, which is shorter for higher arousal.
        speaking = 1 / (1 + np.exp(-12 * (swing + 0.75 + 0.35 * a)))
        envelope = speaking * (0.15 + 0.85 * np.sin(np.pi * syllables) ** 2)
        level = 0.09 * loud * 10 ** (0.45 * a)
        sound = _harmonics(phases, pitch, vowel=np.sin(2 * np.pi * 0.37 * syllables), valence=v, tract=tract, rate=rate)
        breath = 0.004 * random.normal(size=len(now))
        pitch_phase, syllable_phase, phrase_phase = phases[-1], syllables[-1], phrases[-1]
        yield np.clip(level * envelope * sound + breath, -1, 1).astype(np.float32)


def _harmonics(phases: Course, pitch: Course, vowel: Course, valence: Course, tract: float, rate: int) -> Course:
    """Return a harmonic source behind two formants that move with the vowel; about unit variance."""
    sound, power = np.zeros(len(phases)), np.zeros(len(phases))
    first, second = (500 + 180 * vowel) * tract, (1500 - 450 * vowel) * tract
    for k in range(1, 19):
        frequency = k * pitch
        source = k ** -(1.2 - 0.35 * valence)
        formants = (
            0.08 + np.exp(-(((frequency - first) / 160) ** 2)) + 0.6 * np.exp(-(((frequency - second) / 260) ** 2))
        )
        weight = np.where(frequency < 0.45 * rate, source * formants, 0)
        sound += weight * np.sin(2 * np.pi * k * phases)
        power += weight**2 / 2
    return np.asarray(sound / np.sqrt(power + 1e-9))
