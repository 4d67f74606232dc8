"""Metrics of continuous targets over a whole data set."""

import torch
from torch import Tensor
from torchmetrics import Metric

from mtpkdot.metrics.definitions import value_metrics

_TINY = 64 * torch.finfo(torch.float64).eps


class ValueMetrics(Metric):
    """Metrics of continuous targets over all samples, see `mtpkdot.metrics.definitions`.

    They are NaN if a prediction or target is not finite.

    Moments are computed about the mean and merged by the formula of Chan, Golub and LeVeque (1979), so that a mean that
    is large compared with the spread costs no precision.

    Args:
        num_targets: number of targets K.

    Example:
        >>> metric = ValueMetrics(1)
        >>> metric.update(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [3.0]]))
        >>> {name: round(float(value), 3) for name, value in metric.compute().items()}
        {'ccc': 0.857, 'pearson': 0.982, 'mae': 0.333, 'loss': 0.143}
    """

    is_differentiable = False
    full_state_update = False

    moments: Tensor

    def __init__(self, num_targets: int) -> None:
        super().__init__()
        # Count, means of predictions and targets, sums of squares and products about them, and of absolute errors.
        self.add_state("moments", torch.zeros(7, num_targets, dtype=torch.float64), dist_reduce_fx=_merged)
        self.set_dtype(torch.float64)

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Add predictions (N, K) and targets (N, K)."""
        if len(prediction):
            self.moments = _merge(self.moments, _moments(prediction.double(), truth.double()))

    def compute(self) -> dict[str, Tensor]:
        """Return each metric as (K,), one value per target, and the `loss`, 1 - CCC."""
        found = _metrics(self.moments)
        return {**found, "loss": 1 - found["ccc"]}


class ConcordanceCorrelation(ValueMetrics):
    """CCC per target over all samples, with population variances (the ABAW definition); higher is better.

    `CCC = 2 cov(p, t) / (var(p) + var(t) + (mean(p) - mean(t))^2)`. It is NaN if a prediction or target is not finite,
    and 0 if predictions and targets are the same constant (the metric of torchmetrics is NaN there, and uses sample
    variances).

    Args:
        num_targets: number of targets K.

    Example:
        >>> metric = ConcordanceCorrelation(1)
        >>> metric.update(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [3.0]]))
        >>> round(float(metric.compute()), 4)
        0.8571
    """

    higher_is_better = True

    def compute(self) -> Tensor:  # type: ignore[override]
        """Return the CCC of every target, (K,), also for one target, where torchmetrics returns a scalar."""
        return _metrics(self.moments)["ccc"]


def _metrics(moments: Tensor) -> dict[str, Tensor]:
    """Return the metrics (K,) float32 of moments (7, K)."""
    count, mean_p, mean_t, pp, tt, pt, absolute = moments
    count = count.clamp_min(1)
    # The rounding error of a constant does not count as variance.
    rounding = _TINY**2 * (mean_p**2 + mean_t**2)
    constant = (pp + tt) / count + (mean_p - mean_t) ** 2 <= rounding
    product = torch.where((pp / count <= rounding) | (tt / count <= rounding), 0.0, pp / count * (tt / count))
    found = value_metrics(
        ((pp + tt) / count).masked_fill(constant, 0.0),
        (mean_p - mean_t).masked_fill(constant, 0.0),
        covariance=pt / count,
        product=product,
        mae=absolute / count,
    )
    finite = moments.isfinite().all(dim=0)
    return {name: torch.where(finite, value, torch.nan).float() for name, value in found.items()}


def _moments(p: Tensor, t: Tensor) -> Tensor:
    """Return the moments (7, K) of values (N, K): count, means, centred sums of squares and products, sum of errors."""
    mean_p, mean_t, absolute = p.mean(dim=0), t.mean(dim=0), (p - t).abs().sum(dim=0)
    p, t = p - mean_p, t - mean_t
    count = torch.full_like(mean_p, len(p))
    return torch.stack([count, mean_p, mean_t, (p * p).sum(0), (t * t).sum(0), (p * t).sum(0), absolute])


def _merge(first: Tensor, second: Tensor) -> Tensor:
    """Return the moments (7, K) of the union of two sets of samples."""
    count = first[0] + second[0]
    share = second[0] / count.clamp_min(1)
    apart_p, apart_t = second[1] - first[1], second[2] - first[2]
    products = torch.stack([apart_p * apart_p, apart_t * apart_t, apart_p * apart_t, torch.zeros_like(apart_p)])
    means = torch.stack([first[1] + share * apart_p, first[2] + share * apart_t])
    return torch.cat([count[None], means, first[3:] + second[3:] + first[0] * share * products])


def _merged(of_processes: Tensor) -> Tensor:
    """Return the moments (7, K) of all processes together, from (processes, 7, K)."""
    merged = of_processes[0]
    for moments in of_processes[1:]:
        merged = _merge(merged, moments)
    return merged
