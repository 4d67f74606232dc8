"""Loss of the task on a part of the data, which is smoother than accuracy if few samples select the epoch."""

import torch
from torch import Tensor
from torchmetrics import Metric

from mtpkdot.losses.task import Task, row_losses

_UNIT = 2.0**32  # losses are summed as integers in this unit
_MOST = 2.0**10  # larger losses of a sample are clamped
_SCALES = tuple(2.0 ** (step / 3) for step in range(-12, 13))  # inverse temperatures


class MeanLoss(Metric):
    """Mean loss of classes over samples: cross-entropy, or that of the thresholds between ordered classes.

    Losses are summed as integers, so that the sum depends neither on the order of the samples nor on their division
    among processes, also on devices without double precision.

    Args:
        task: `classification` or `ordinal`; the loss of a regression is `1 - CCC`, which is not a mean over samples.

    Raises:
        ValueError: the task is `regression`.
    """

    full_state_update = False
    higher_is_better = False
    is_differentiable = False
    total: Tensor
    count: Tensor
    lost: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        if task == "regression":
            raise ValueError("MeanLoss is defined for classes alone")
        self.task: Task = task
        for name in ("total", "count", "lost"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            output: (N, C) logits of classes, or (N, C - 1) of thresholds.
            target: (N,) class indices.
        """
        everything = torch.ones(len(target), dtype=torch.bool, device=target.device)
        losses = row_losses(self.task, output.detach(), target, everything)
        self.total += (losses.nan_to_num(nan=0.0, posinf=_MOST).clamp_max(_MOST) * _UNIT).round().long().sum()
        self.count += len(target)
        self.lost += losses.isnan().sum()

    def compute(self) -> Tensor:
        """Return the mean loss; NaN before the first sample, or if the loss of a sample is NaN."""
        return torch.where(self.lost > 0, torch.nan, self.total / self.count / _UNIT)


class CalibratedLoss(MeanLoss):
    """Mean loss of classes at the best of 25 temperatures between 1/16 and 16 (Guo et al., ICML 2017).

    It does not depend on how sure a model is of all its answers together, so that a student which was taught sharpened
    answers is not taken for a bad one.

    Args:
        task: `classification` or `ordinal`.

    Example:
        >>> loss = CalibratedLoss("classification")
        >>> outputs, target = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1, 1])
        >>> loss.update(outputs, target)
        >>> once = loss.compute()
        >>> loss.reset()
        >>> loss.update(4 * outputs, target)
        >>> bool(torch.isclose(loss.compute(), once))
        True
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.add_state("total", torch.zeros(len(_SCALES), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add a batch; see MeanLoss."""
        everything = torch.ones(len(target), dtype=torch.bool, device=target.device)
        losses = torch.stack(
            [row_losses(self.task, output.detach() * scale, target, everything) for scale in _SCALES], dim=1
        )
        clamped = losses.nan_to_num(nan=0.0, posinf=_MOST).clamp_max(_MOST)
        self.total += (clamped * _UNIT).round().long().sum(dim=0)
        self.count += len(target)
        self.lost += losses.isnan().any(dim=1).sum()

    def compute(self) -> Tensor:
        """Return the lowest mean loss; NaN as MeanLoss."""
        return torch.where(self.lost > 0, torch.nan, (self.total / self.count / _UNIT).min())
