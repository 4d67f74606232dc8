"""Agreement of ordered classes."""

from torch import Tensor
from torchmetrics.classification import MulticlassCohenKappa


class QuadraticKappa(MulticlassCohenKappa):
    """Cohen's kappa with quadratic weights over all samples seen; higher is better.

    torchmetrics' own metric is NaN where all truths and predictions are one class; this one is 0 there, for then
    nothing is shown to agree.

    Args:
        num_classes: number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, weights="quadratic")

    def compute(self) -> Tensor:
        """The kappa, a scalar in [-1, 1]."""
        return super().compute().nan_to_num(nan=0.0)
