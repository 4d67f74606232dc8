"""Which metrics belong to which task; the same ones guide training and fill the results table."""

from collections.abc import Sequence

from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from mtpkdot.losses.task import Task
from mtpkdot.metrics.ccc import ConcordanceCorrelation


def task_metrics(task: Task, num_outputs: int) -> MetricCollection:
    """The metrics of a task; the first is the one to select by. All are better when higher.

    Args:
        task: classification gets `accuracy` and `macro_f1` (a class that is neither present nor predicted does not
            count), regression gets `ccc`.
        num_outputs: classes or targets.

    Returns:
        A collection to update with (outputs, targets) of labelled samples.
    """
    metrics: dict[str, Metric | MetricCollection] = (
        {
            "accuracy": MulticlassAccuracy(num_outputs, average="micro"),
            "macro_f1": MulticlassF1Score(num_outputs, average="macro"),
        }
        if task == "classification"
        else {"ccc": ConcordanceCorrelation(num_outputs)}
    )
    return MetricCollection(metrics, compute_groups=False)


def metric_names(task: Task) -> list[str]:
    """Names of the metrics; models are selected by the first."""
    return ["accuracy", "macro_f1"] if task == "classification" else ["ccc"]


def score_rows(task: Task, targets: Sequence[str], output: Tensor, truth: Tensor) -> list[tuple[str, str, float]]:
    """Metrics of a set of predictions.

    Args:
        task: the task.
        targets: names of the targets (regression) or the one name of the label (classification).
        output: (N, C) logits or (N, K) values.
        truth: (N,) class indices or (N, K) values.

    Returns:
        (metric, target, value) per metric and target; regression adds the mean over targets as target `mean`.
    """
    collection = task_metrics(task, output.shape[1])
    collection.update(output, truth)
    rows = []
    for metric, value in collection.compute().items():
        values = value.reshape(-1)
        rows += [(metric, target, float(v)) for target, v in zip(targets, values, strict=True)]
        if task == "regression":
            rows.append((metric, "mean", float(values.mean())))
    return rows
