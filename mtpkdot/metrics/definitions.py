"""The metrics of every task, each defined once, by sums over samples.

Training (`task_metrics`) and the bootstrap of reports (`mtpkdot.report.tallies`) sum up in their own ways and take the
metrics from here.
"""

import torch
from torch import Tensor

from mtpkdot.losses.task import Task

# Models are selected by the first, which is better when higher.
METRICS: dict[Task, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "balanced_accuracy", "ece"),
    "ordinal": ("qwk", "accuracy", "mae", "macro_f1", "balanced_accuracy", "ece"),
    "regression": ("ccc", "pearson", "mae"),
}
LOW = frozenset({"mae", "ece"})  # better when lower
BINS = 15  # of confidence, of equal width, as Guo et al. (ICML 2017) use


def class_metrics(margins: Tensor, distances: Tensor, bins: Tensor) -> dict[str, Tensor]:
    """Return the metrics of classes, ordered or not.

    `accuracy`; `macro_f1`, the mean over the classes that occur in truths or answers; `balanced_accuracy`, the mean
    recall of the classes that occur in truths; `ece`, the expected calibration error (Guo et al., ICML 2017);
    for ordered classes `mae`, the mean absolute error in levels, and `qwk`, Cohen's kappa with quadratic weights, 0
    where all truths and answers are one class: then nothing is shown to agree.

    Args:
        margins: (..., 3, C) float64, how often each class is answered rightly, is the truth, and is answered.
        distances: (..., 2), sums of the distances in levels between truth and answer, and of their squares.
        bins: (..., BINS, 3), answers whose confidence lies in the bin, right ones, and the sum of confidences.

    Returns:
        (...,) per metric; 0 where there are no samples.
    """
    hits, truths, answers = margins.unbind(dim=-2)
    absolute, squared = distances.unbind(dim=-1)
    count = _some(truths.sum(dim=-1))
    # The squared distances of all truths from all answers, without all pairs of classes.
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
    """Return the metrics of continuous targets.

    `ccc`, the concordance correlation `2 cov(p, t) / (var(p) + var(t) + (mean(p) - mean(t))^2)` with population
    variances (the ABAW definition), 0 where predictions and truths are one and the same constant; `pearson`, 0 where
    either is constant; and `mae`, the mean absolute error. NaN stays NaN.

    Args:
        spread: (...,) var(p) + var(t).
        gap: (...,) mean(p) - mean(t).
        covariance: (...,).
        product: (...,) var(p) var(t).
        mae: (...,).

    Returns:
        (...,) per metric.
    """
    apart, scale = spread + gap**2, product.sqrt()
    # Tested for zero: NaN differs from it, and is to stay.
    return {
        "ccc": torch.where(apart == 0, 0.0, 2 * covariance / apart.masked_fill(apart == 0, 1.0)),
        "pearson": torch.where(scale == 0, 0.0, covariance / scale.masked_fill(scale == 0, 1.0)),
        "mae": mae,
    }


def _some(value: Tensor) -> Tensor:
    """Return a divisor: the value, or 1 where it is not positive."""
    return torch.where(value > 0, value, 1)
