"""Intervals and tests: bootstrap over subjects, the corrected resampled t-test, Holm's correction."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import stats

from mtpkdot.report.tallies import Array

LEVEL = 0.95
ROUNDING = 1e-12  # Tolerance of differences.
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
_ROWS = 100  # Replicates multiplied at a time: with one cluster per sample, all of them would fill the memory.


class Draws:
    """Bootstrap draws of clusters with replacement; the same for everything that is compared.

    Args:
        clusters: number of clusters.
        replicates: number of replicates.
        seed: seed of the draws.
    """

    def __init__(self, clusters: int, replicates: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        even = np.full(clusters, 1 / clusters)
        counts = [
            random.multinomial(clusters, even, size=min(_ROWS, replicates - start)).astype(np.uint16)
            for start in range(0, replicates, _ROWS)
        ]
        self.counts: npt.NDArray[np.uint16] = np.concatenate(counts)

    def sums(self, of_clusters: Array) -> Array:
        """Return the sums (R, n) over the drawn clusters, from the sums (clusters, n) of each cluster."""
        rows = range(0, len(self.counts), _ROWS)
        return np.concatenate([self.counts[start : start + _ROWS].astype(np.float64) @ of_clusters for start in rows])


def percentile_interval(values: Array) -> tuple[float, float]:
    """Return the percentile interval of bootstrap replicates (R,)."""
    low, high = np.quantile(values, _TAILS)
    return float(low), float(high)


def ratio_percentile_interval(numerator: Array, denominator: Array) -> tuple[float, float]:
    """Return the percentile interval of the ratio of two statistics, from the bootstrap replicates (R,) of both.

    A replicate whose denominator is not positive has no meaningful ratio and counts as beyond the end of the interval.
    The interval is finite if the percentile interval of the denominator is positive.
    """
    positive = denominator > 0
    ratio = np.where(positive, numerator / np.where(positive, denominator, 1.0), np.copysign(np.inf, numerator))
    low, high = np.quantile(ratio, _TAILS, method="inverted_cdf")
    return float(low), float(high)


def ratio_mean_interval(numerator: Array, denominator: Array) -> tuple[float, float]:
    """Return the interval of the ratio of the means of paired values (J,), by Fieller's theorem.

    NaN for fewer than two values, or if the interval of the denominator contains 0.
    Source: Fieller, J. R. Stat. Soc. B 16, 1954.
    """
    count = len(numerator)
    if count < 2:
        return float("nan"), float("nan")
    t = stats.t.ppf(_TAILS[1], count - 1) ** 2 / count
    x, y = numerator.mean(), denominator.mean()
    (xx, xy), (_, yy) = np.cov(numerator, denominator)
    a, b, c = y**2 - t * yy, x * y - t * xy, x**2 - t * xx
    if y <= 0 or a <= 0:
        return float("nan"), float("nan")
    half = np.sqrt(max(b**2 - a * c, 0.0))
    return float((b - half) / a), float((b + half) / a)


def bootstrap_p(differences: Array, clusters: int) -> float:
    """Return the two-sided p value of no difference, from bootstrap replicates (R,) of a difference.

    It is at least 2 / (R + 1), and at least 2^(1 - clusters), the smallest p value of an exact sign test on so many
    clusters.
    """
    below, above = (differences <= 0).sum(), (differences >= 0).sum()
    return float(min(1.0, max(2 * (min(below, above) + 1) / (len(differences) + 1), 2.0 ** (1 - clusters))))


def mean_interval(values: Array) -> tuple[float, float]:
    """Return Student's t interval of the mean of independent values (J,); NaN for fewer than two."""
    if len(values) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(_TAILS[1], len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def corrected_t(differences: Array, test_to_train: float) -> float:
    """Return the two-sided p value of the corrected resampled t-test.

    Source: Nadeau & Bengio, Machine Learning 52, 2003.

    Args:
        differences: (J,) differences of two methods, one per fold.
        test_to_train: size of the test part over that of the training part. It widens the variance, because training
            parts overlap; 0 for independent data, which is the paired t-test.

    Returns:
        The p value; 1 if all differences are 0. NaN for fewer than two values, and for equal values other than 0, whose
        spread is unknown.
    """
    count = len(differences)
    if count < 2:
        return float("nan")
    if np.ptp(differences) < ROUNDING:
        return 1.0 if abs(differences.mean()) < ROUNDING else float("nan")
    variance = differences.var(ddof=1) * (1 / count + test_to_train)
    return float(2 * stats.t.sf(abs(differences.mean()) / np.sqrt(variance), count - 1))


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Return p values corrected for the number of comparisons (Holm, 1979); NaN stays NaN and does not count."""
    known = sorted((p, name) for name, p in values.items() if not np.isnan(p))
    corrected, largest = dict(values), 0.0
    for rank, (p, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[name] = largest
    return corrected
