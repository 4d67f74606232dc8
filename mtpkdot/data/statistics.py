"""Mean and scale of a modality, from arrays in memory or clips that are read in pieces."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mtpkdot.data.batch import BoolArray, Clips, FloatArray, IntArray

_PIECE = 256  # Clips per read.


def step_statistics(
    values: FloatArray | Clips, mask: BoolArray, positions: IntArray, std_floor: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and scale (each of the step shape) over the recorded steps of samples; NaN does not count.

    Args:
        values: (n, T, *step_shape).
        mask: (n, T) bool.
        positions: positions of the samples.
        std_floor: see `floored`.

    Returns:
        The mean, and the standard deviation bounded below.
    """
    shape = values.shape[2:]
    total, count = np.zeros(shape), np.zeros(shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        for steps in _pieces(values, mask, positions):
            known = np.isfinite(steps)
            total, count = total + np.where(known, steps, 0).sum(axis=0), count + known.sum(axis=0)
        count = np.maximum(count, 1)
        mean = total / count
        # Two passes: a variance from sums of squares loses all digits of features far from zero.
        squares = np.zeros(shape)
        for steps in _pieces(values, mask, positions):
            squares += np.where(np.isfinite(steps), (steps - mean) ** 2, 0).sum(axis=0)
    variance = squares / count
    return mean, floored(np.sqrt(variance), np.sqrt(variance + mean**2), std_floor)


def _pieces(values: FloatArray | Clips, mask: BoolArray, positions: IntArray) -> Iterator[npt.NDArray[np.float64]]:
    if not isinstance(values, Clips):
        yield values[positions][mask[positions]].astype(np.float64)
        return
    for start in range(0, len(positions), _PIECE):
        piece = positions[start : start + _PIECE]
        yield values.read(piece, np.zeros_like(piece)).numpy()[mask[piece]].astype(np.float64)


def floored(std: npt.NDArray[np.float64], rms: npt.NDArray[np.float64], std_floor: float) -> npt.NDArray[np.float64]:
    """Return standard deviations that are safe to divide by.

    Bounded below by `std_floor` times the feature's own root mean square (a constant with rounding noise) and by a
    millionth of the median over the features (a null direction of low-rank features); 1 for a feature of zeros.
    """
    typical = np.median(rms[rms > 0]) if np.any(rms > 0) else 0.0
    scale = np.maximum(std, np.maximum(std_floor * rms, 1e-6 * typical))
    # Values below the smallest normal number would be 0 in single precision.
    return np.where((rms > 0) & (scale >= np.finfo(np.float32).tiny), scale, 1.0)
