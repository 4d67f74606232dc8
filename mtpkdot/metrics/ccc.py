"""Concordance correlation over a whole data set."""

import torch
from torch import Tensor
from torchmetrics import Metric

_TINY = 64 * torch.finfo(torch.float64).eps


class ConcordanceCorrelation(Metric):
    """CCC per target over all samples seen, with population variances (the ABAW definition); higher is better.

    `CCC = 2 cov(p, t) / (var(p) + var(t) + (mean(p) - mean(t))^2)`. It is NaN where a prediction or truth is not
    finite, and 0 where predictions and truths are one and the same constant (torchmetrics' metric is NaN there, and
    takes sample variances).

    Moments are taken about the mean and merged by the formula of Chan, Golub and LeVeque (1979), so that a mean that
    is large beside the spread costs no digits.

    Args:
        num_targets: number of targets K.

    Example:
        >>> metric = ConcordanceCorrelation(1)
        >>> metric.update(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [3.0]]))
        >>> round(float(metric.compute()), 4)
        0.871
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    moments: Tensor

    def __init__(self, num_targets: int) -> None:
        super().__init__()
        # Count, means of predictions and truths, and sums of squares and products about them.
        self.add_state("moments", torch.zeros(6, num_targets, dtype=torch.float64), dist_reduce_fx=_merged)
        self.set_dtype(torch.float64)

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Add predictions (N, K) and truths (N, K)."""
        if len(prediction):
            self.moments = _merge(self.moments, _moments(prediction.double(), truth.double()))

    def compute(self) -> Tensor:
        """Return the CCC of every target, (K,); torchmetrics makes a scalar of one target."""
        count, mean_p, mean_t, pp, tt, pt = self.moments
        count = count.clamp_min(1)
        apart = (pp + tt) / count + (mean_p - mean_t) ** 2
        # What rounding leaves of equal constants is no variance.
        constant = apart <= _TINY**2 * (mean_p**2 + mean_t**2)
        ccc = torch.where(constant, 0.0, 2 * pt / count / apart.masked_fill(constant, 1.0))
        return torch.where(self.moments.isfinite().all(dim=0), ccc, torch.nan).float()


def _moments(p: Tensor, t: Tensor) -> Tensor:
    """Return count, means and centred sums of squares and products of (N, K) values, as (6, K)."""
    mean_p, mean_t = p.mean(dim=0), t.mean(dim=0)
    p, t = p - mean_p, t - mean_t
    count = torch.full_like(mean_p, len(p))
    return torch.stack([count, mean_p, mean_t, (p * p).sum(0), (t * t).sum(0), (p * t).sum(0)])


def _merge(first: Tensor, second: Tensor) -> Tensor:
    """Return the moments (6, K) of two sets of samples together."""
    count = first[0] + second[0]
    share = second[0] / count.clamp_min(1)
    apart_p, apart_t = second[1] - first[1], second[2] - first[2]
    between = first[0] * share * torch.stack([apart_p * apart_p, apart_t * apart_t, apart_p * apart_t])
    means = torch.stack([first[1] + share * apart_p, first[2] + share * apart_t])
    return torch.cat([count[None], means, first[3:] + second[3:] + between])


def _merged(of_processes: Tensor) -> Tensor:
    """Return the moments of all processes together, (6, K) of (processes, 6, K)."""
    merged = of_processes[0]
    for moments in of_processes[1:]:
        merged = _merge(merged, moments)
    return merged
