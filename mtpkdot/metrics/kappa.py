"""Agreement of ordered classes."""

from torch import Tensor
from torchmetrics.classification import MulticlassCohenKappa

from mtpkdot.metrics.counts import counted


class QuadraticKappa(MulticlassCohenKappa):
    """Cohen's kappa with quadratic weights over all samples seen; higher is better.

    torchmetrics' own metric is NaN where all truths and predictions are one class; this one is 0 there, for then
    nothing is shown to agree.

    Args:
        num_classes: number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, weights="quadratic")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count a batch: predicted (N,) and true (N,) levels."""
        size = self.num_classes
        self.confmat += counted(target.flatten() * size + preds.flatten(), size**2).reshape(size, size)

    def compute(self) -> Tensor:
        """The kappa, a scalar in [-1, 1]."""
        return super().compute().nan_to_num(nan=0.0)
