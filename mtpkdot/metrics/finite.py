"""Wrapper that makes a metric NaN if a prediction is not finite."""

import torch
from torch import Tensor
from torchmetrics import Metric


class OfFinite(Metric):
    """Wrapper of a metric that is NaN if any output of the model was NaN or infinite.

    Without it the largest of NaN logits is class 0, which counts as a prediction.

    Args:
        metric: the metric, updated with (outputs (N, K), targets).

    Example:
        >>> from torchmetrics.classification import MulticlassAccuracy
        >>> metric = OfFinite(MulticlassAccuracy(2, average="micro"))
        >>> metric.update(torch.tensor([[0.0, 1.0], [float("nan"), 0.0]]), torch.tensor([1, 0]))
        >>> float(metric.compute())
        nan
    """

    is_differentiable = False
    full_state_update = False

    lost: Tensor

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.metric = metric
        self.add_state("lost", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            output: (N, K) outputs of the model.
            target: (N,) or (N, K) targets.
        """
        self.lost += (~output.isfinite().all(dim=1)).sum()
        self.metric.update(output.nan_to_num(), target)

    def compute(self) -> Tensor:
        """Return the value of the metric, or NaN."""
        value: Tensor = self.metric.compute()
        return torch.where(self.lost > 0, torch.nan, value)

    def reset(self) -> None:
        """Reset this metric and the wrapped one."""
        super().reset()
        self.metric.reset()
