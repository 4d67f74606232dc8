"""Concordance correlation over a whole data set."""

import torch
from torch import Tensor
from torchmetrics import Metric


class ConcordanceCorrelation(Metric):
    """CCC per target over all samples seen, with population variances (the ABAW definition); higher is better.

    torchmetrics' own metric takes sample variances and is NaN on constants; this one is 0 there.

    Args:
        num_targets: number of targets K.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    count: Tensor
    moments: Tensor

    def __init__(self, num_targets: int) -> None:
        super().__init__()
        # Moments about the origin in float64: exact enough for targets of ordinary scale, and they add up over ranks.
        self.add_state("count", torch.tensor(0, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("moments", torch.zeros(5, num_targets, dtype=torch.float64), dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Add predictions (N, K) and truths (N, K)."""
        p, t = prediction.double(), truth.double()
        self.count += len(p)
        self.moments += torch.stack([p.sum(0), t.sum(0), (p * p).sum(0), (t * t).sum(0), (p * t).sum(0)])

    def compute(self) -> Tensor:
        """CCC of every target, (K,); torchmetrics makes a scalar of one target."""
        mean_p, mean_t, pp, tt, pt = self.moments / self.count.clamp_min(1)
        covariance = pt - mean_p * mean_t
        denominator = (pp - mean_p**2) + (tt - mean_t**2) + (mean_p - mean_t) ** 2
        # What is left of equal constants after the rounding of many sums is no variance.
        defined = denominator > 1e-12 * (pp + tt)
        return torch.where(defined, 2 * covariance / denominator.where(defined, 1.0), 0.0).float()
