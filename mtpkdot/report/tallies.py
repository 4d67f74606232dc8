"""Sums per subject from which every metric follows, so that resampling subjects is one matrix product.

A confusion matrix and calibration bins for classes; moments for values. Metrics of any set of subjects are functions of
the sum of their tallies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from mtpkdot.losses.task import Task
from mtpkdot.metrics.definitions import BINS, METRICS, class_metrics, value_metrics

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
_ROUNDING = 64 * np.finfo(np.float64).eps
MOST_CONFUSED = 30  # Classes whose pairs are all counted: a larger matrix is unreadable, and costs memory.


@dataclass(frozen=True)
class Tally:
    """Sums of each subject.

    Attributes:
        subjects: (S,) names, sorted.
        sums: (S, n).
    """

    subjects: npt.NDArray[np.str_]
    sums: Array

    def aligned(self, subjects: npt.NDArray[np.str_]) -> Array:
        """Return the sums (len(subjects), n) of these subjects, zero for those that are not in the tally."""
        out = np.zeros((len(subjects), self.sums.shape[1]))
        out[np.searchsorted(subjects, self.subjects)] = self.sums
        return out


def centre_of(predictions: pd.DataFrame, targets: Sequence[str]) -> Array:
    """Return the mean truth of every target, (K,); 0 for a target without one."""
    means = predictions.groupby("target")["truth"].mean().reindex(list(targets))
    return means.fillna(0.0).to_numpy(float)


def tally(predictions: pd.DataFrame, task: Task, targets: Sequence[str], centre: Array | None = None) -> Tally:
    """Sum up the predictions of one model by subject.

    The sums of a subject with a prediction that is not finite are NaN, and so are all metrics that include the subject.

    Args:
        predictions: columns subject, target, truth, prediction, and p_<class> for classes; rows without truth do not
            count.
        task: the task.
        targets: class names in order, or target names.
        centre: (K,) values about which the moments of a regression are taken; the mean truths of these predictions if
            None. Only tallies of the same centre can be added. Moments about 0 would lose the spread of values whose
            mean is far from 0.
    """
    # Arrays at once: frames that are filtered and typed anew for every model would cost most of a report's time.
    truths = predictions["truth"].to_numpy()
    known = ~pd.isna(truths)
    truths, answers = truths[known], predictions["prediction"].to_numpy()[known]
    subjects, place = np.unique(predictions["subject"].to_numpy()[known].astype(np.str_), return_inverse=True)
    codes = {name: index for index, name in enumerate(targets)}
    if task == "regression":
        column = np.array([codes[name] for name in predictions["target"].to_numpy()[known]], dtype=np.int64)
        about = (centre_of(predictions, targets) if centre is None else centre)[column]
        answered = answers.astype(float)
        p, t = np.where(np.isfinite(answered), answered, np.nan) - about, truths.astype(float) - about
        sums = np.zeros((len(subjects), len(targets), 7))
        for index, value in enumerate((np.ones_like(p), p, t, p * p, t * t, p * t, np.abs(p - t))):
            np.add.at(sums[:, :, index], (place, column), value)
        return Tally(subjects, sums.reshape(len(subjects), -1))
    count = len(targets)
    probabilities = predictions[[f"p_{name}" for name in targets]].to_numpy(float)[known]
    lost = pd.isna(answers) | ~np.isfinite(probabilities).all(axis=1)
    truth = np.array([codes[str(name)] for name in truths], dtype=np.int64)
    answer = np.array([0 if gone else codes[str(name)] for name, gone in zip(answers, lost, strict=True)], np.int64)
    counts = _counts(len(subjects), count, place=place, truth=truth, answer=answer)
    confidence = np.where(lost, 0.0, probabilities[np.arange(len(answer)), answer])
    bins = np.zeros((len(subjects), BINS, 3))
    where = np.minimum((confidence * BINS).astype(int), BINS - 1)
    for index, value in enumerate((np.ones_like(confidence), (truth == answer).astype(float), confidence)):
        np.add.at(bins[:, :, index], (place, where), value)
    sums = np.concatenate([counts, bins.reshape(len(subjects), -1)], 1)
    sums[place[lost]] = np.nan
    return Tally(subjects, sums)


def _counts(subjects: int, classes: int, place: IntArray, truth: IntArray, answer: IntArray) -> Array:
    """Return confusion matrices (subjects, classes^2), or, for many classes, only the counts that metrics need.

    These are, per class, the numbers of correct predictions, of truths and of predictions, followed by the sums of the
    distances between truth and prediction and of their squares: (subjects, 3 classes + 2).
    """
    if classes <= MOST_CONFUSED:
        counts = np.zeros((subjects, classes, classes))
        np.add.at(counts, (place, truth, answer), 1.0)
        return counts.reshape(subjects, -1)
    margins, distances = np.zeros((subjects, 3, classes)), np.zeros((subjects, 2))
    for index, (of, weight) in enumerate(((truth, truth == answer), (truth, 1.0), (answer, 1.0))):
        np.add.at(margins[:, index], (place, of), weight)
    for power in (1, 2):
        np.add.at(distances[:, power - 1], place, np.abs(truth - answer).astype(float) ** power)
    return np.concatenate([margins.reshape(subjects, -1), distances], 1)


def confusion(sums: Array, classes: int) -> Array:
    """Return counts (..., classes, classes) from summed tallies; rows are truths, columns predictions.

    Not available for many classes.
    """
    return sums[..., : classes**2].reshape(*sums.shape[:-1], classes, classes)


def calibration(sums: Array, classes: int) -> Array:
    """Return sums (..., BINS, 3) from summed tallies: predictions in the bin, correct ones, sum of confidences."""
    return sums[..., -3 * BINS :].reshape(*sums.shape[:-1], BINS, 3)


def metrics(sums: Array, task: Task, targets: Sequence[str]) -> dict[tuple[str, str], Array]:
    """Compute the metrics of summed tallies.

    Args:
        sums: (..., n), sums over subjects.
        task: the task.
        targets: class names in order, or target names.

    Returns:
        Values (...,) by (metric, target); the target is empty for classes, and `mean` for the mean over the targets of
        a regression.
    """
    if task == "regression":
        return _of_values(sums.reshape(*sums.shape[:-1], len(targets), 7), targets)
    bins = calibration(sums, len(targets))
    found = class_metrics(*map(torch.as_tensor, (*_margins(sums, len(targets)), bins)))
    return {(name, ""): found[name].numpy() for name in METRICS[task]}


def _margins(sums: Array, classes: int) -> tuple[Array, Array]:
    """Return counts per class (..., 3, C) and summed distances (..., 2), as `class_metrics` takes them."""
    if classes > MOST_CONFUSED:
        margins, distances = sums[..., : 3 * classes], sums[..., 3 * classes : 3 * classes + 2]
        return margins.reshape(*sums.shape[:-1], 3, classes), distances
    counts = confusion(sums, classes)
    levels = np.arange(classes)
    distance = np.abs(levels[:, None] - levels)
    margins = np.stack([counts.diagonal(0, -2, -1), counts.sum(-1), counts.sum(-2)], axis=-2)
    return margins, np.stack([(counts * distance**power).sum((-2, -1)) for power in (1, 2)], axis=-1)


def constant_targets(sums: Array, targets: Sequence[str]) -> list[str]:
    """Return the targets of a regression whose truths are constant, from summed tallies (n,).

    Their concordance is 0 for any prediction.
    """
    moments = sums.reshape(len(targets), 7)
    n = _some(moments[:, 0])
    spread = _variance(moments[:, 4] / n, moments[:, 2] / n)
    return [name for name, variance in zip(targets, spread, strict=True) if variance == 0]


def _of_values(moments: Array, targets: Sequence[str]) -> dict[tuple[str, str], Array]:
    n, p, t, pp, tt, pt, absolute = (moments[..., index] for index in range(7))
    n = _some(n)
    mean_p, mean_t = p / n, t / n
    var_p, var_t = _variance(pp / n, mean_p), _variance(tt / n, mean_t)
    found = value_metrics(
        torch.as_tensor(var_p + var_t),
        torch.as_tensor(mean_p - mean_t),
        covariance=torch.as_tensor(pt / n - mean_p * mean_t),
        product=torch.as_tensor(var_p * var_t),
        mae=torch.as_tensor(absolute / n),
    )
    rows: dict[tuple[str, str], Array] = {}
    for name, value in ((name, value.numpy()) for name, value in found.items()):
        rows |= {(name, target): value[..., index] for index, target in enumerate(targets)}
        rows[name, "mean"] = value.mean(-1)
    return rows


def _variance(square: Array, mean: Array) -> Array:
    """Return the variance from the mean square and the mean; 0 if it is within their rounding."""
    variance = square - mean**2
    return np.asarray(np.where(variance <= _ROUNDING * square, 0.0, variance))


def _some(value: Array) -> Array:
    return np.where(value > 0, value, 1.0)
