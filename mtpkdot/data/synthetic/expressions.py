"""Motion of generated faces: head pose, facial expression, and the latent courses that drive both.

Every control is an array over frames; zeros (ones for `eyes`) are a neutral face. A person adds an offset of their own
to each control, so that a still picture says little about the state behind it.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Course = NDArray[np.floating[Any]]


class Pose(NamedTuple):
    """Place of the head in each frame.

    Attributes:
        x: [frames], shift to the right, in half heights of the head.
        y: [frames], shift down, in half heights of the head.
        scale: [frames], size relative to its usual one.
        roll: [frames], radians, clockwise.
    """

    x: Course
    y: Course
    scale: Course
    roll: Course


class Expression(NamedTuple):
    """Expression of a face in each frame; every control has shape [frames].

    Attributes:
        eyes: openness, 0 closed, 1 usual, up to 1.4 wide open.
        brow_height: -1 low to 1 raised.
        frown: -1 inner ends of the brows raised to 1 drawn down and together.
        mouth_open: 0 to 1.
        mouth_curve: -1 corners down to 1 smile.
        mouth_width: -1 pursed to 1 stretched.
        wrinkle: 0 to 1, furrows between the brows and beside the nose.
    """

    eyes: Course
    brow_height: Course
    frown: Course
    mouth_open: Course
    mouth_curve: Course
    mouth_width: Course
    wrinkle: Course

    def plus(self, other: "Expression") -> "Expression":
        """Return the sum of both movements; `other` is relative to its neutral face."""
        summed = [mine + theirs for mine, theirs in zip(self, other, strict=True)]
        summed[0] = summed[0] - 1.0
        return Expression(*summed)

    def within_bounds(self) -> "Expression":
        """Return the expression with each control limited to its range."""
        low = (0.0, -1.0, -1.0, 0.0, -1.0, -1.0, 0.0)
        high = (1.4, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
        return Expression(*[np.clip(c, a, b) for c, a, b in zip(self, low, high, strict=True)])


def wander(count: int, rate: float, seconds: float, random: np.random.Generator) -> Course:
    """Return a smooth, stationary Gaussian course: an Ornstein-Uhlenbeck process, smoothed with its own time constant.

    Args:
        count: number of values.
        rate: values per second.
        seconds: time constant; greater is slower.
        random: source of randomness.

    Returns:
        [count], zero mean and unit variance over many draws.
    """
    pole = np.exp(-1.0 / (rate * seconds))
    run_in = int(8 * rate * seconds) + 1
    noise = random.normal(size=run_in + count)
    course = lfilter([1.0], [1.0, -2 * pole, pole**2], noise)[run_in:]
    # Variance of white noise behind a double pole.
    return np.asarray(course / np.sqrt((1 + pole**2) / (1 - pole**2) ** 3))


def head_motion(count: int, rate: float, random: np.random.Generator, amount: float = 1.0) -> Pose:
    """Return small natural movements of a head.

    Args:
        count: frames.
        rate: frames a second.
        random: source of randomness.
        amount: 0 for a still head, 1 for a seated person.

    Returns:
        The pose around a random resting one.
    """
    rest = random.normal(size=4) * (0.06, 0.05, 0.03, 0.03)
    spread = (0.05, 0.04, 0.02, 0.025)
    moves = [r + amount * s * wander(count, rate, 0.8, random) for r, s in zip(rest, spread, strict=True)]
    return Pose(moves[0], moves[1], np.exp(moves[2]), moves[3])


def neutral(count: int) -> Expression:
    """Return a face at rest over `count` frames."""
    return Expression(np.ones(count), *[np.zeros(count) for _ in range(6)])


def trait(count: int, random: np.random.Generator, amount: float = 0.2) -> Expression:
    """Return a person's face at rest: one constant offset per control."""
    offset = random.normal(size=7) * amount * (0.6, 1.0, 1.0, 0.2, 1.0, 1.0, 0.5)
    return neutral(count).plus(Expression(*[np.full(count, value) for value in (1 + offset[0], *offset[1:])]))


def idle(count: int, rate: float, random: np.random.Generator, amount: float = 1.0) -> Expression:
    """Return movements without meaning: blinks, slow drifts, and now and then a grimace or a smile.

    Args:
        count: frames.
        rate: frames a second.
        random: source of randomness.
        amount: strength of the movements; 1 for a lively person.

    Returns:
        The movement, to be added with `Expression.plus`.
    """
    time = np.arange(count) / rate
    starts = random.uniform(0, time[-1] + 1 / rate, size=random.poisson(0.25 * (time[-1] + 1 / rate)))
    blink = np.exp(-(((time[:, None] - starts) / 0.09) ** 2)).sum(axis=1)
    drifts = [amount * s * wander(count, rate, 0.7, random) for s in (0.08, 0.12, 0.12, 0.06, 0.15, 0.12, 0.06)]
    # A passing movement of brows, mouth or both, which makes a clip of a calm person look like pain.
    centre, width = random.uniform(0, time[-1] + 1 / rate), random.uniform(0.4, 1.5)
    bump = amount * abs(random.normal()) * np.exp(-(((time - centre) / width) ** 2))
    upper, lower = random.normal(size=2) * 0.35
    return Expression(
        1 - blink + drifts[0] - 0.3 * abs(upper) * bump,
        drifts[1] + upper * bump,
        frown=drifts[2] - upper * bump,
        mouth_open=np.abs(drifts[3]) + 0.3 * abs(lower) * bump,
        mouth_curve=drifts[4] + lower * bump,
        mouth_width=drifts[5] + 0.5 * lower * bump,
        wrinkle=np.abs(drifts[6]) + 0.3 * max(-upper, 0.0) * bump,
    )


def of_pain(pain: Course, style: float = 0.5) -> Expression:
    """Return the face of pain: brows lowered and drawn together, lids tightened, nose wrinkled (PSPI action units).

    Args:
        pain: [frames], 0 to 1.
        style: 0 presses the lips together, 1 opens the mouth.

    Returns:
        The expression, to be added with `Expression.plus`.
    """
    return Expression(
        1 - 0.8 * pain,
        -0.6 * pain,
        frown=0.9 * pain,
        mouth_open=0.7 * style * pain,
        mouth_curve=-0.3 * pain,
        mouth_width=(0.7 - 0.9 * (1 - style)) * pain,
        wrinkle=pain,
    )


def of_affect(valence: Course, arousal: Course) -> Expression:
    """Return the face of an affect: valence mostly on the mouth, arousal a little on eyes and brows.

    Args:
        valence: [frames], -1 to 1.
        arousal: [frames], -1 to 1.

    Returns:
        The expression, to be added with `Expression.plus`.
    """
    smile, gloom = np.maximum(valence, 0), np.maximum(-valence, 0)
    return Expression(
        1 + 0.2 * arousal - 0.25 * smile,
        0.2 * arousal - 0.15 * gloom,
        frown=0.4 * gloom,
        mouth_open=0.1 * np.maximum(arousal, 0),
        mouth_curve=0.9 * valence,
        mouth_width=0.6 * smile - 0.2 * gloom,
        wrinkle=0.4 * gloom,
    )
