"""Metrics of classes, computed in time and memory proportional to samples plus classes.

torchmetrics counts pairs of classes, which with deterministic algorithms, as the Trainer sets them, costs samples times
classes squared.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from mtpkdot.losses.task import Task, class_probabilities, predicted_class
from mtpkdot.metrics.definitions import BINS, METRICS, class_metrics

_UNIT = 2**32  # confidences are summed as integers in this unit, so that the sum does not depend on the samples' order


class ClassMetrics(Metric):
    """Metrics of classes over all samples, see `mtpkdot.metrics.definitions`.

    They are NaN if any output of the model was NaN or infinite, since the largest of NaN logits is class 0, which would
    count as a prediction.

    Args:
        task: `classification` or `ordinal`.
        num_outputs: number of outputs: C classes, or C - 1 thresholds.

    Example:
        >>> metric = ClassMetrics("classification", 3)
        >>> metric.update(torch.eye(3), torch.tensor([0, 1, 1]))
        >>> {name: round(float(value), 3) for name, value in metric.compute().items()}
        {'accuracy': 0.667, 'macro_f1': 0.556, 'balanced_accuracy': 0.75, 'ece': 0.091}
    """

    is_differentiable = False
    full_state_update = False

    margins: Tensor
    distances: Tensor
    bins: Tensor
    lost: Tensor

    def __init__(self, task: Task, num_outputs: int) -> None:
        super().__init__()
        self.task, self.size = task, num_outputs + (task == "ordinal")
        for name, shape in (("margins", (3, self.size)), ("distances", (2,)), ("bins", (3, BINS)), ("lost", ())):
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            output: (N, num_outputs) logits.
            target: (N,) classes.
        """
        self.lost += (~output.isfinite().all(dim=1)).sum()
        output, target = output.detach().nan_to_num(), target.long()
        answer = predicted_class(self.task, output)
        right, distance = (answer == target).long(), (answer - target).abs()
        everything = torch.ones_like(target)
        of_classes = ((target, right), (target, everything), (answer, everything))
        self.margins += torch.stack([_summed(values, where, self.size) for where, values in of_classes])
        self.distances += torch.stack([distance.sum(), (distance**2).sum()])
        sure = class_probabilities(self.task, output).float().gather(1, answer[:, None])[:, 0]
        fixed = (sure * _UNIT).round().long()
        where = (fixed * BINS // _UNIT).clamp_max(BINS - 1)
        self.bins += torch.stack([_summed(values, where, BINS) for values in (everything, right, fixed)])

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics of the task, scalars."""
        # On the CPU, since not every device has double precision.
        margins, distances, bins = (state.cpu().double() for state in (self.margins, self.distances, self.bins))
        bins[2] /= _UNIT
        found = class_metrics(margins, distances, bins.T)
        values = {name: found[name].float().to(self.lost.device) for name in METRICS[self.task]}
        return {name: torch.where(self.lost > 0, torch.nan, value) for name, value in values.items()}


def _summed(values: Tensor, where: Tensor, size: int) -> Tensor:
    """Return the sums (size,) int64 of the integers (N,) at each of the positions 0 to `size` - 1."""
    # Not with bincount, which is not deterministic in some versions and on some devices.
    return values.new_zeros(size).scatter_add_(0, where, values)
