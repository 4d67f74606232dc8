"""Metrics of each task, used both to select models in training and in the table of results."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torchmetrics import MetricCollection

from mtpkdot.losses.task import Task
from mtpkdot.metrics.classes import ClassMetrics
from mtpkdot.metrics.definitions import LOW, METRICS
from mtpkdot.metrics.finite import OfFinite
from mtpkdot.metrics.loss import CalibratedLoss, MeanLoss
from mtpkdot.metrics.values import ValueMetrics

_IN_RESULTS: dict[Task, int] = {"classification": 2, "ordinal": 3, "regression": 1}
_LOW = ("loss", *sorted(LOW))


def task_metrics(task: Task, num_outputs: int) -> MetricCollection:
    """Return the metrics of a task.

    Args:
        task: the task; its metrics are in `mtpkdot.metrics.definitions`, and each task has its `loss` as well (and
            the `calibrated_loss` of classes).
        num_outputs: number of outputs of the model: classes, thresholds between ordered classes, or targets.

    Returns:
        A collection to update with (outputs, targets) of labelled samples. It computes a scalar per metric of classes,
        or (K,) per metric of regression. Metrics are NaN if an output is NaN or infinite, in regression only those of
        the target concerned.

    Example:
        >>> metrics = task_metrics("classification", 2)
        >>> metrics.update(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
        >>> float(metrics.compute()["accuracy"])
        0.5
    """
    if task == "regression":
        return MetricCollection({"of_values": ValueMetrics(num_outputs)}, compute_groups=False)
    found = {"of_classes": ClassMetrics(task, num_outputs), "loss": OfFinite(MeanLoss(task))}
    found["calibrated_loss"] = OfFinite(CalibratedLoss(task))
    return MetricCollection(dict(found), compute_groups=False)


def logged_metrics(task: Task) -> list[str]:
    """Return the names of all metrics that are logged in training; the first selects the model."""
    return list(METRICS[task])


def metric_names(task: Task) -> list[str]:
    """Return the names of the metrics in the table of results; the first is better when higher."""
    return list(METRICS[task][: _IN_RESULTS[task]])


def best_mode(monitor: str) -> Literal["min", "max"]:
    """Return `min` or `max`, the better direction of a logged value (`val/mae`, `train/loss`)."""
    return "min" if monitor.endswith(_LOW) else "max"


def score_rows(task: Task, targets: Sequence[str], output: Tensor, truth: Tensor) -> list[tuple[str, str, float]]:
    """Compute the metrics of a set of predictions.

    Args:
        task: the task.
        targets: names of the targets (regression), or the name of the label (classes).
        output: (N, C) logits of classes, (N, C - 1) of thresholds (ordinal), or (N, K) values.
        truth: (N,) class indices or (N, K) values.

    Returns:
        (metric, target, value) per metric and target; regression also has the mean over targets as target `mean`.

    Example:
        >>> logits, truth = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
        >>> score_rows("classification", ["stress"], logits, truth)
        [('accuracy', 'stress', 1.0), ('macro_f1', 'stress', 1.0)]
    """
    collection = task_metrics(task, output.shape[1])
    collection.update(output, truth)
    computed, rows = collection.compute(), []
    for metric in metric_names(task):  # the collection sorts them alphabetically
        values = computed[metric].reshape(-1)
        rows += [(metric, target, float(v)) for target, v in zip(targets, values, strict=True)]
        if task == "regression":
            rows.append((metric, "mean", float(values.mean())))
    return rows
