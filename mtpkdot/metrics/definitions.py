"""Definitions of the metrics of every task from sums over samples.

Training (`task_metrics`) and the bootstrap of reports (`mtpkdot.report.tallies`) compute the sums separately and share
these definitions.
"""

import torch
from torch import Tensor

from mtpkdot.losses.task import Task

# The first selects the model, and is better when higher.
METRICS: dict[Task, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "balanced_accuracy", "ece"),
    "ordinal": ("qwk", "accuracy", "mae", "macro_f1", "balanced_accuracy", "ece"),
    "regression": ("ccc", "pearson", "mae"),
}
LOW = frozenset({"mae", "ece"})  # better when lower
BINS = 15  # bins of confidence, of equal width, as in Guo et al. (ICML 2017)


def class_metrics(margins: Tensor, distances: Tensor, bins: Tensor) -> dict[str, Tensor]:
    """Compute the metrics of classes, ordered or not.

    They are `accuracy`; `macro_f1`, the mean over the classes that occur in targets or predictions;
    `balanced_accuracy`, the mean recall over the classes that occur in targets; `ece`, the expected calibration error
    (Guo et al., ICML 2017); and for ordered classes `mae`, the mean absolute error in levels, and `qwk`, Cohen's kappa
    with quadratic weights, which is 0 if all targets and predictions are one class.

    Args:
        margins: (..., 3, C) float64, the numbers of correct predictions, of targets and of predictions of each class.
        distances: (..., 2), sums of the distances in levels between target and prediction, and of their squares.
        bins: (..., BINS, 3), per bin of confidence the numbers of predictions and of correct ones, and the sum of their
            confidences.

    Returns:
        (...,) per metric; 0 if there are no samples.
    """
    hits, truths, answers = margins.unbind(dim=-2)
    absolute, squared = distances.unbind(dim=-1)
    count = _some(truths.sum(dim=-1))
    # The squared distances between all targets and all predictions, without a matrix of pairs of classes.
    levels = torch.arange(truths.shape[-1], dtype=truths.dtype, device=truths.device)
    t, tt, a, aa = ((of * levels**power).sum(dim=-1) for of in (truths, answers) for power in (1, 2))
    by_chance = (tt * answers.sum(dim=-1) + aa * truths.sum(dim=-1) - 2 * t * a) / count
    occurs, present = truths + answers > 0, truths > 0
    return {
        "accuracy": hits.sum(dim=-1) / count,
        "macro_f1": (2 * hits / _some(truths + answers)).sum(dim=-1) / _some(occurs.sum(dim=-1)),
        "balanced_accuracy": (hits / _some(truths)).sum(dim=-1) / _some(present.sum(dim=-1)),
        "ece": (bins[..., 1] - bins[..., 2]).abs().sum(dim=-1) / _some(bins[..., 0].sum(dim=-1)),
        "mae": absolute / count,
        "qwk": torch.where(by_chance == 0, 0.0, 1 - squared / _some(by_chance)),
    }


def value_metrics(spread: Tensor, gap: Tensor, covariance: Tensor, product: Tensor, mae: Tensor) -> dict[str, Tensor]:
    """Compute the metrics of continuous targets.

    They are `ccc`, the concordance correlation `2 cov(p, t) / (var(p) + var(t) + (mean(p) - mean(t))^2)` of predictions
    p and targets t with population variances (the ABAW definition), 0 if both are the same constant; `pearson`, 0 if
    either is constant; and `mae`, the mean absolute error. NaN remains NaN.

    Args:
        spread: (...,) var(p) + var(t).
        gap: (...,) mean(p) - mean(t).
        covariance: (...,) cov(p, t).
        product: (...,) var(p) var(t).
        mae: (...,) mean absolute error.

    Returns:
        (...,) per metric.
    """
    apart, scale = spread + gap**2, product.sqrt()
    # Compared with zero, which NaN differs from, so that NaN remains.
    return {
        "ccc": torch.where(apart == 0, 0.0, 2 * covariance / apart.masked_fill(apart == 0, 1.0)),
        "pearson": torch.where(scale == 0, 0.0, covariance / scale.masked_fill(scale == 0, 1.0)),
        "mae": mae,
    }


def _some(value: Tensor) -> Tensor:
    """Return a divisor: the value, or 1 where it is not positive."""
    return torch.where(value > 0, value, 1)
