"""Intervals and tests: bootstrap over subjects, the corrected resampled t-test, Holm's correction."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import stats

from mtpkdot.report.tallies import Array

LEVEL = 0.95
ROUNDING = 1e-12  # of differences
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
_ROWS = 100  # replicates multiplied at a time: with one cluster per sample, all of them would fill the memory


class Draws:
    """How often each cluster is drawn with replacement; one and the same for all that is compared.

    Args:
        clusters: their number.
        replicates: number of replicates.
        seed: of the draws.
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
        """(R, n) sums over the drawn clusters, from those of each cluster (clusters, n)."""
        rows = range(0, len(self.counts), _ROWS)
        return np.concatenate([self.counts[start : start + _ROWS].astype(np.float64) @ of_clusters for start in rows])


def percentile_interval(values: Array) -> tuple[float, float]:
    """Of the replicates (R,) of a bootstrap."""
    low, high = np.quantile(values, _TAILS)
    return float(low), float(high)


def ratio_percentile_interval(numerator: Array, denominator: Array) -> tuple[float, float]:
    """Of the ratio of two statistics, from the replicates (R,) of both.

    A replicate whose denominator is not positive says nothing for the ratio and counts as beyond its end. The interval
    is finite where the denominator's own percentile interval is positive.
    """
    positive = denominator > 0
    ratio = np.where(positive, numerator / np.where(positive, denominator, 1.0), np.copysign(np.inf, numerator))
    low, high = np.quantile(ratio, _TAILS, method="inverted_cdf")
    return float(low), float(high)


def ratio_mean_interval(numerator: Array, denominator: Array) -> tuple[float, float]:
    """Of the ratio of the means of paired values (J,), by Fieller's theorem (J. R. Stat. Soc. B 16, 1954).

    NaN for fewer than two values, or where the denominator's own interval holds 0.
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
    """Two-sided p value of no difference, from the replicates (R,) of a difference; at least 2 / (R + 1).

    Nor is it below 2^(1 - clusters), what an exact test by the signs of so many clusters could show.
    """
    below, above = (differences <= 0).sum(), (differences >= 0).sum()
    return float(min(1.0, max(2 * (min(below, above) + 1) / (len(differences) + 1), 2.0 ** (1 - clusters))))


def mean_interval(values: Array) -> tuple[float, float]:
    """Student's interval of the mean of independent values (J,); NaN for fewer than two."""
    if len(values) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(_TAILS[1], len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def corrected_t(differences: Array, test_to_train: float) -> float:
    """Two-sided p value of the corrected resampled t-test (Nadeau & Bengio, Machine Learning 52, 2003).

    Args:
        differences: (J,) of two methods, one per fold.
        test_to_train: size of the test part over that of the training part. It widens the variance, because training
            parts overlap; 0 for independent data, which is the paired t-test.

    Returns:
        p; 1 where all differences are 0. NaN for fewer than two values, and where they are otherwise all the same:
        nothing is known of their spread.
    """
    count = len(differences)
    if count < 2:
        return float("nan")
    if np.ptp(differences) < ROUNDING:
        return 1.0 if abs(differences.mean()) < ROUNDING else float("nan")
    variance = differences.var(ddof=1) * (1 / count + test_to_train)
    return float(2 * stats.t.sf(abs(differences.mean()) / np.sqrt(variance), count - 1))


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Correct p values for the number of comparisons (Holm, 1979); NaN stays and does not count."""
    known = sorted((p, name) for name, p in values.items() if not np.isnan(p))
    corrected, largest = dict(values), 0.0
    for rank, (p, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[name] = largest
    return corrected
