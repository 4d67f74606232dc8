"""Newton's method for entropic optimal transport, for problems on which Sinkhorn's sweeps converge slowly.

Such problems have a small eps, clusters or outliers. The best row potential for a given column potential g is explicit,
which leaves a concave function of g. It is maximised by Newton steps with the exact Hessian for a falling sequence of
eps, each only as far as the next one needs for its start.
"""

import math

import torch
from torch import Tensor

from mtpkdot.losses.sinkhorn import kernel

_FACTOR = 4.0  # ratio of one eps to the next
_GOAL = 0.01  # error at which eps falls
_LOOK = 10  # steps between checks of the error, each of which waits for the device
_FREE = {"cpu"}  # devices on which a check costs nothing


def newton(
    cost: Tensor,
    a: Tensor,
    b: Tensor,
    eps: Tensor,
    tol: float,
    max_iter: int,
    reach: float | None = None,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, int]:
    """Compute the column potentials of hard problems, or of problems with free marginals, at O(M^3) per step.

    Args:
        cost: (S, N, M) costs of S problems.
        a: (S, N) weights of the rows.
        b: (S, M) weights of the columns.
        eps: (S, 1) regularisation, > 0.
        tol: L1 error of the column marginals at which a problem is solved.
        max_iter: limit on the number of steps.
        reach: weight of the marginals' KL divergence (Sejourne et al., arXiv 1910.12958); None for fixed marginals.
        start: g (S, M) to start from and its error (S). Where the error is small, larger eps are skipped.

    Returns:
        g (S, M), and the number of steps.
    """
    ridge = 1e-10 if cost.dtype == torch.float64 else 1e-5
    top = cost.amax(dim=(1, 2))[:, None]
    level = ((top / eps).clamp_min(1).log() / math.log(_FACTOR)).ceil()
    g, length = torch.zeros_like(b), torch.ones_like(eps)
    if start is not None:
        near = (start[1] < _GOAL)[:, None] & start[0].isfinite().all(dim=1, keepdim=True)
        g, level = torch.where(near, start[0], g), torch.where(near, 0.0, level)
    free, finished = cost.device.type in _FREE, False
    direction, careful = torch.zeros_like(b), torch.zeros_like(b)
    best = torch.full_like(eps, -torch.inf)
    # Upper bound of the value: a decrease within its rounding error does not reject a step.
    largest = top if reach is None else top.clamp_max(reach)
    for done in range(1, max_iter + 1):
        scale = eps * _FACTOR**level
        trial = g + scale * length * direction
        value, rows, mass, wanted, served = _ascend(cost, trial, a=a, b=b, eps=scale, reach=reach)
        accepted = value >= best - 1e-14 * (largest + scale)
        g, best = torch.where(accepted, trial, g), torch.where(accepted, value, best)
        error = (wanted - served).abs().sum(dim=1, keepdim=True)
        reached = accepted & (error < torch.where(level > 0, max(_GOAL, tol), tol))
        if finished:
            break
        if (free or done % _LOOK == 0) and bool((reached & (level == 0)).all()):
            if not free:
                break
            finished = True  # one more step costs little and squares the error
        ahead, uphill = _directions(rows, mass, wanted=wanted, served=served, eps=scale, reach=reach, ridge=ridge)
        careful = torch.where(accepted, uphill, careful)
        direction = torch.where(accepted, ahead, careful)
        length = torch.where(accepted, 1.0, 0.3 * length)
        # The next eps starts from the same potential; values for different eps are not compared.
        falls = reached & (level > 0)
        level, best = torch.where(falls, level - 1, level), torch.where(falls, -torch.inf, best)
        direction = torch.where(falls, 0.0, direction)
    return g, done


def reading(g: Tensor, b: Tensor) -> Tensor:
    """Return the column potential with -inf for columns without weight, whose potential is undefined."""
    return g.masked_fill(b == 0, -torch.inf)


def masses(a: Tensor, f: Tensor, reach: float | None) -> Tensor:
    """Return the masses (S, N) of the plan's rows: the weights, reduced or increased if the marginals are free."""
    return a if reach is None else a * (-f / reach).exp()


def damping(eps: Tensor, reach: float | None) -> Tensor:
    """Return the factor (S, 1) by which free marginals damp a potential: `reach / (reach + eps)`, 1 if fixed."""
    return torch.ones_like(eps) if reach is None else reach / (reach + eps)


def dual(a: Tensor, b: Tensor, f: Tensor, g: Tensor, eps: Tensor, reach: float | None) -> Tensor:
    """Return the value (S, 1) of the dual problem, f being the best potential for g."""
    if reach is None:
        return (a * f).sum(dim=1, keepdim=True) + (b * g).sum(dim=1, keepdim=True)
    kept = masses(a, f, reach).sum(dim=1, keepdim=True)
    of_columns = (b * (1 - (-g / reach).exp())).sum(dim=1, keepdim=True)
    return reach * ((1 - kept) + of_columns) - eps * (kept - 1)


def _ascend(
    cost: Tensor, g: Tensor, a: Tensor, b: Tensor, eps: Tensor, reach: float | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the value at g, the plan with rows of mass 1, their masses, and required and actual column masses."""
    density, f = kernel(cost, reading(g, b), b, eps)
    f = damping(eps, reach) * f
    mass = masses(a, f, reach)
    rows = density * b[:, None]
    wanted = b if reach is None else b * (-g / reach).exp()
    return dual(a, b, f=f, g=g, eps=eps, reach=reach), rows, mass, wanted, torch.bmm(mass[:, None], rows)[:, 0]


def _directions(
    rows: Tensor, mass: Tensor, wanted: Tensor, served: Tensor, eps: Tensor, reach: float | None, ridge: float
) -> tuple[Tensor, Tensor]:
    """Return Newton directions in units of eps, for the logarithms of the column masses and for the masses.

    Masses grow exponentially with the potential, so that for a column of little weight only the logarithm is close to
    linear. The direction for the masses is the one that is certain to be an ascent direction.

    The Hessian is `-(diag(q) - R^T diag(mass) R) / eps` with `q = R^T mass`. Scaled by q on both sides its eigenvalues
    lie in [0, 1]; that of the constant potential, which changes nothing, is raised from 0 to 1. With free marginals the
    required masses depend on the potential as well, and both directions are the same.
    """
    tiny = torch.finfo(served.dtype).tiny
    q = served if reach is None else served + eps / reach * wanted
    root = torch.where(q > tiny, q.clamp_min(tiny).rsqrt(), 0.0)
    half = mass.sqrt()[:, :, None] * rows * root[:, None]
    hessian = -damping(eps, reach)[:, :, None] * torch.bmm(half.mT, half)
    if reach is None:
        constant = q.sqrt()
        hessian += constant[:, :, None] * constant[:, None]
    hessian.diagonal(dim1=1, dim2=2).add_(1 + ridge)
    factor, _ = torch.linalg.cholesky_ex(hessian)
    residual = wanted - served
    missing = residual if reach is not None else served * (wanted.clamp_min(tiny) / served.clamp_min(tiny)).log()
    both = torch.stack([missing, residual], dim=2) * root[:, :, None]
    ahead, uphill = (torch.cholesky_solve(both, factor) * root[:, :, None]).unbind(2)
    return ahead, uphill
