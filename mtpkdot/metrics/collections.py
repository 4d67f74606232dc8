"""Which metrics belong to which task; the same ones guide training and fill the results table."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import Tensor
from torchmetrics import MeanAbsoluteError, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.wrappers import LambdaInputTransformer

from mtpkdot.losses.task import Task, predicted_class
from mtpkdot.metrics.ccc import ConcordanceCorrelation
from mtpkdot.metrics.counts import MacroF1
from mtpkdot.metrics.finite import OfFinite
from mtpkdot.metrics.kappa import QuadraticKappa
from mtpkdot.metrics.loss import MeanLoss

_NAMES: dict[Task, list[str]] = {
    "classification": ["accuracy", "macro_f1"],
    "ordinal": ["qwk", "accuracy", "mae"],
    "regression": ["ccc"],
}
_LOW = ("loss", "mae")


def task_metrics(task: Task, num_outputs: int) -> MetricCollection:
    """The metrics of a task.

    Args:
        task: classification gets `accuracy` and `macro_f1` (a class that is neither present nor predicted does not
            count); ordinal gets `qwk` (quadratically weighted kappa), `accuracy` and `mae` (mean absolute error in
            levels); regression gets `ccc`. All get `loss`, the task's, which like `mae` is better when lower.
        num_outputs: of the model: classes, thresholds between ordered classes, or targets.

    Returns:
        A collection to update with (outputs, targets) of labelled samples. All of it is NaN where an output is NaN or
        infinite.
    """
    metrics: dict[str, Metric]
    loss: Metric = 1 - ConcordanceCorrelation(num_outputs) if task == "regression" else MeanLoss(task)
    if task == "classification":
        metrics = {
            "accuracy": MulticlassAccuracy(num_outputs, average="micro"),
            "macro_f1": MacroF1(num_outputs),
        }
    elif task == "ordinal":
        judges: dict[str, Metric] = {
            "qwk": QuadraticKappa(num_outputs + 1),
            "accuracy": MulticlassAccuracy(num_outputs + 1, average="micro"),
            "mae": MeanAbsoluteError(),
        }
        metrics = {
            name: LambdaInputTransformer(judge, partial(predicted_class, task)) for name, judge in judges.items()
        }
    else:
        metrics = {"ccc": ConcordanceCorrelation(num_outputs)}
    metrics["loss"] = loss
    if task != "regression":  # the concordance looks at that itself, target by target
        metrics = {name: OfFinite(metric) for name, metric in metrics.items()}
    return MetricCollection(dict(metrics), compute_groups=False)


def metric_names(task: Task) -> list[str]:
    """Names of the metrics of a result; models are selected by the first, which is better when higher."""
    return list(_NAMES[task])


def best_mode(monitor: str) -> Literal["min", "max"]:
    """Whether a logged value (`val/mae`, `train/loss`) should be low or high."""
    return "min" if monitor.endswith(_LOW) else "max"


def score_rows(task: Task, targets: Sequence[str], output: Tensor, truth: Tensor) -> list[tuple[str, str, float]]:
    """Metrics of a set of predictions.

    Args:
        task: the task.
        targets: names of the targets (regression) or the one name of the label (classes).
        output: (N, C) logits of classes, (N, C - 1) of thresholds (ordinal), or (N, K) values.
        truth: (N,) class indices or (N, K) values.

    Returns:
        (metric, target, value) per metric and target; regression adds the mean over targets as target `mean`.
    """
    collection = task_metrics(task, output.shape[1])
    collection.update(output, truth)
    computed, rows = collection.compute(), []
    for metric in metric_names(task):  # the collection sorts them by the alphabet
        values = computed[metric].reshape(-1)
        rows += [(metric, target, float(v)) for target, v in zip(targets, values, strict=True)]
        if task == "regression":
            rows.append((metric, "mean", float(values.mean())))
    return rows
