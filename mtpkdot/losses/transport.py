"""Debiased entropic optimal transport between two clouds of points.

`S(x, y) = OT(x, y) - (OT(x, x) + OT(y, y)) / 2` with `OT(x, y) = min_P <P, C> + eps KL(P | a b^T)`, cost
`C = |x - y|^2 / 2` and uniform weights (Feydy et al., "Interpolating between optimal transport and MMD using Sinkhorn
divergences", AISTATS 2019). This is the loss the papers compute with geomloss (`p=2, blur=0.1`, hence `eps = 0.01`).

The three problems are solved as one stacked log-domain iteration. Nothing of the loop is recorded: by the envelope
theorem the gradient with respect to the cost is the optimal plan.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Solver = Literal["native", "pot"]


@dataclass(frozen=True)
class Divergence:
    """A solved Sinkhorn divergence.

    Attributes:
        value: scalar, differentiable with respect to both clouds.
        marginal_error: largest L1 violation of the column marginals over the three plans; rows are exact.
        iterations: sweeps over the potentials until the error was below the tolerance, or the limit.
    """

    value: Tensor
    marginal_error: Tensor
    iterations: int


def half_squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Cost `|x_i - y_j|^2 / 2` of shape (..., N, M) between clouds (..., N, K) and (..., M, K)."""
    cross = x @ y.mT
    return (0.5 * (x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]) - cross).clamp_min(0.0)


def sinkhorn_divergence(
    x: Tensor, y: Tensor, eps: float = 0.01, tol: float = 1e-3, max_iter: int = 500, solver: Solver = "native"
) -> Divergence:
    """Sinkhorn divergence between two uniform clouds of equally many points.

    Args:
        x: (N, K) points. float16 and bfloat16 are computed in float32, float64 is kept.
        y: (N, K) points.
        eps: entropic regularisation in the unit of the cost (squared distance), > 0.
        tol: L1 error of the marginals at which the iteration stops. The value is far more exact: its error is of
            second order in that of the plan.
        max_iter: limit on the sweeps after eps has reached its final value.
        solver: `native`, or `pot` for Python Optimal Transport's `sinkhorn_log` (slower; an independent check, which
            measures `tol` as the L2 norm of the marginal error).

    Returns:
        The divergence with its convergence record. For identical clouds it is 0 with zero gradient up to rounding and
        `tol`.

    Raises:
        ValueError: clouds of different shapes, or eps <= 0.
    """
    if x.shape != y.shape or x.ndim != 2:
        raise ValueError(f"two clouds of one shape (N, K) are needed, not {tuple(x.shape)} and {tuple(y.shape)}")
    if eps <= 0:
        raise ValueError(f"eps must be positive, not {eps}")
    with torch.autocast(device_type=x.device.type, enabled=False):
        dtype = torch.float64 if torch.float64 in (x.dtype, y.dtype) else torch.float32
        x, y = x.to(dtype), y.to(dtype)
        # Distances do not change under a common shift, and small coordinates cancel less.
        centre = torch.cat([x, y]).detach().mean(dim=0)
        x, y = x - centre, y - centre
        cost = half_squared_distances(torch.stack([x, x, y]), torch.stack([y, x, y]))
        with torch.no_grad():
            solve = _solve_native if solver == "native" else _solve_pot
            g, iterations = solve(cost.detach(), eps, tol, max_iter)
            # Rows normalised as they are formed: no rounding of a huge cost can give the plan another mass than 1.
            n = len(x)
            scores = (g[:, None, :] - cost) / eps
            plan = scores.softmax(dim=2) / n
            f = -eps * (scores.logsumexp(dim=2) - math.log(n))
            dual = f.mean(dim=1) + g.mean(dim=1)
            error = (plan.sum(dim=1) - 1 / n).abs().sum(dim=1).max()
            signs = torch.tensor([1.0, -0.5, -0.5], dtype=dtype, device=x.device)
        linear = ((plan * cost).sum(dim=(1, 2)) * signs).sum()
        value = (dual * signs).sum() + (linear - linear.detach())
    return Divergence(value, error, iterations)


def _softmin(cost: Tensor, potential: Tensor, eps: float) -> Tensor:
    """`-eps log mean_j exp((potential_j - cost_ij) / eps)`: the potential that meets one marginal exactly."""
    n = cost.shape[-1]
    return -eps * (torch.logsumexp((potential[:, None, :] - cost) / eps, dim=2) - math.log(n))


def _solve_native(cost: Tensor, eps: float, tol: float, max_iter: int) -> tuple[Tensor, int]:
    """Column potentials (3, N) of the problems xy, xx, yy: epsilon scaling, then sweeps until each has converged."""
    f = cost.new_zeros(cost.shape[:2])
    g = f.clone()
    transposed = cost.mT.contiguous()
    scale = float(cost.max())
    # From the diameter down: each coarser problem starts the next one close to its solution.
    while scale > eps:
        f, g = (f + _softmin(cost, g, scale)) / 2, (g + _softmin(transposed, f, scale)) / 2
        scale *= 0.5
    g[0], alternating = _alternate(cost[:1], transposed[:1], f[:1], g[:1], eps, tol, max_iter)
    # One potential serves both sides of a symmetric problem, and averaged sweeps contract fast.
    both, cost, iteration = f[1:], cost[1:], 0
    for iteration in range(1, max_iter + 1):
        target = _softmin(cost, both, eps)
        if iteration % _CHECK == 1 and bool(_marginal_error(both, target, eps) < tol):
            break
        both = (both + target) / 2
    g[1:] = both
    return g, max(iteration, alternating)


_CHECK = 5  # sweeps between looks at the error, each of which waits for the device
_OVERRELAXATION = 1.6  # in (1, 2); cuts the sweeps on clustered clouds to about a third


def _alternate(
    cost: Tensor, transposed: Tensor, f: Tensor, g: Tensor, eps: float, tol: float, max_iter: int
) -> tuple[Tensor, int]:
    """Overrelaxed alternating sweeps (Thibault et al., arXiv 1711.01851), plain ones where those do not converge."""
    step, before, iteration = 1.0, torch.inf, 0
    for iteration in range(1, max_iter + 1):
        target = _softmin(cost, g, eps)
        if iteration % _CHECK == 1:
            error = float(_marginal_error(f, target, eps))
            if error < tol:
                break
            step = _OVERRELAXATION if error < before and iteration > _CHECK else 1.0
            before = error
        f = f + step * (target - f)
        g = g + step * (_softmin(transposed, f, eps) - g)
    return _softmin(transposed, _softmin(cost, g, eps), eps)[0], iteration


def _marginal_error(f: Tensor, target: Tensor, eps: float) -> Tensor:
    """Largest L1 violation of the row marginals: the row sums of the plan are `exp((f - target) / eps) / N`."""
    return torch.expm1((f - target) / eps).abs().mean(dim=1).max()


def _solve_pot(cost: Tensor, eps: float, tol: float, max_iter: int) -> tuple[Tensor, int]:
    """The same potentials from Python Optimal Transport."""
    import ot

    n, iterations = cost.shape[1], 0
    weights = torch.full((n,), 1 / n, dtype=cost.dtype, device=cost.device)
    potentials = []
    for matrix in cost:
        _, log = ot.bregman.sinkhorn_log(
            weights, weights, matrix, eps, numItermax=max_iter, stopThr=tol, log=True, warn=False
        )
        # POT's dual variables are those of the kernel exp(-C/eps) without the weights a b^T.
        potentials.append(eps * (log["log_v"] - torch.log(weights)))
        iterations = max(iterations, int(log["niter"]) + 1)
    return torch.stack(potentials), iterations
