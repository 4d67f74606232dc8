"""Intervals and tests: bootstrap over subjects, the corrected resampled t-test, Holm's correction."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from mtpkdot.report.tallies import Array

LEVEL = 0.95


def draws(clusters: int, replicates: int, seed: int = 0) -> Array:
    """How often each cluster is drawn with replacement, (replicates, clusters)."""
    random = np.random.default_rng(seed)
    return random.multinomial(clusters, np.full(clusters, 1 / clusters), size=replicates).astype(np.float64)


def percentile_interval(values: Array) -> tuple[float, float]:
    """Of the replicates (R,) of a bootstrap."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def bootstrap_p(differences: Array) -> float:
    """Two-sided p value of no difference, from the replicates (R,) of a difference; at least 2 / (R + 1)."""
    below, above = (differences <= 0).sum(), (differences >= 0).sum()
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1)))


def mean_interval(values: Array) -> tuple[float, float]:
    """Student's interval of the mean of independent values (J,); without width for fewer than two."""
    if len(values) < 2:
        return float(values.mean()), float(values.mean())
    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def corrected_t(differences: Array, test_to_train: float) -> float:
    """Two-sided p value of the corrected resampled t-test (Nadeau & Bengio, Machine Learning 52, 2003).

    Args:
        differences: (J,) of two methods, one per fold and seed.
        test_to_train: size of the test part over that of the training part. It widens the variance, because training
            parts overlap; 0 for independent data, which is the paired t-test.

    Returns:
        p; NaN for fewer than two values, 1 where all differences are 0.
    """
    count = len(differences)
    if count < 2:
        return float("nan")
    variance = differences.var(ddof=1) * (1 / count + test_to_train)
    if variance == 0:
        return 1.0 if differences.mean() == 0 else 0.0
    return float(2 * stats.t.sf(abs(differences.mean()) / np.sqrt(variance), count - 1))


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Correct p values for the number of comparisons (Holm, 1979); NaN stays and does not count."""
    known = sorted((p, name) for name, p in values.items() if not np.isnan(p))
    corrected, largest = dict(values), 0.0
    for rank, (p, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[name] = largest
    return corrected


def pooled(replicates: Sequence[Array]) -> Array:
    """Mean over seeds of values per replicate, each (R,)."""
    return np.asarray(np.mean(np.stack(list(replicates)), axis=0))
