"""Debiased entropic optimal transport between clouds of points.

`S(x, y) = OT(x, y) - (OT(x, x) + OT(y, y)) / 2` with `OT(x, y) = min_P <P, C> + eps KL(P | a b^T)` and the cost
`C = |x - y|^2 / 2` (Feydy et al., "Interpolating between optimal transport and MMD using Sinkhorn divergences", AISTATS
2019). This is the loss the papers compute with geomloss (`p=2, blur=0.1`, hence `eps = 0.01`).

The iterations are not recorded by autograd: by the envelope theorem the gradient with respect to the cost is the plan.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mtpkdot.losses.newton import damping, dual, masses, newton, reading
from mtpkdot.losses.similarity import unit_rows
from mtpkdot.losses.sinkhorn import Solution, between, kernel, within

Solver = Literal["native", "pot", "exact"]
Cost = Literal["euclidean", "cosine"]


@dataclass(frozen=True)
class Divergence:
    """Solved Sinkhorn divergence, or a batch of them.

    Attributes:
        value: (...) divergence, differentiable once with respect to both clouds.
        plan: (..., N, M) mass transported from x_i to y_j, detached; its rows and columns sum to the weights.
        marginal_error: (...) largest L1 error of the column marginals over the three plans; row marginals are exact.
        iterations: number of sweeps and Newton steps of the three problems together.

    Example:
        >>> solved = SinkhornDivergence(eps=0.1)(torch.zeros(3, 2), torch.ones(4, 2))
        >>> round(solved.value.item(), 3), tuple(solved.plan.shape)
        (1.0, (3, 4))
    """

    value: Tensor
    plan: Tensor
    marginal_error: Tensor
    iterations: int


class SinkhornDivergence(nn.Module):
    """Sinkhorn divergence between weighted clouds.

    Args:
        eps: entropic regularisation, > 0, in the unit of the cost; or, if `relative`, as a fraction of the largest cost
            between any two points of a problem, which is then a constant without gradient.
        relative: see `eps`.
        cost: `euclidean` is half the squared distance, `cosine` 1 minus the cosine, which is equal to it for unit
            vectors (a zero vector has no direction and costs 1/2 to any nonzero one).
        reach: None for fixed marginals; otherwise the price of creating or leaving mass, in the unit of the cost: the
            marginals are free, and their KL divergence from the weights is penalised (Sejourne et al., arXiv
            1910.12958).
        tol: L1 error of the marginals at which the iteration stops. The value is far more exact: its error is of
            second order in that of the plan.
        max_iter: limit on the iterations of each of the three problems. A problem that needs more is returned with its
            error, see `Divergence.marginal_error`.
        solver: `native`; `pot` for Python Optimal Transport's `sinkhorn_log` (slower; an independent check, which
            measures `tol` as the L2 norm of the marginal error); or `exact` for its network simplex, which solves the
            problem without regularisation (`eps` is not used; on the CPU, O(N^3 log N)).

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> cloud = torch.tensor([[0.0], [1.0]], requires_grad=True)
        >>> solved = SinkhornDivergence(eps=0.01)(cloud, torch.tensor([[2.0], [3.0]]))
        >>> solved.value.backward()
        >>> round(solved.value.item(), 3), cloud.grad.round(decimals=3).tolist()
        (2.0, [[-1.0], [-1.0]])
    """

    def __init__(
        self,
        eps: float = 0.01,
        relative: bool = False,
        cost: Cost = "euclidean",
        reach: float | None = None,
        tol: float = 3e-7,
        max_iter: int = 1000,
        solver: Solver = "native",
    ) -> None:
        super().__init__()
        if not (0 < eps < math.inf and tol > 0 and max_iter >= 1 and (reach is None or 0 < reach < math.inf)):
            raise ValueError(
                f"eps, reach and tol must be positive and max_iter 1 or more, not {eps}, {reach}, {tol} and {max_iter}"
            )
        if cost not in get_args(Cost) or solver not in get_args(Solver):
            raise ValueError(
                f"cost and solver must be among {get_args(Cost)} and {get_args(Solver)}, not {cost}, {solver}"
            )
        if solver != "native" and reach is not None:
            raise ValueError("reach needs the native solver")
        self.eps, self.relative, self.cost, self.reach = eps, relative, cost, reach
        self.tol, self.max_iter, self.solver = tol, max_iter, solver

    def forward(
        self, x: Tensor, y: Tensor, x_weights: Tensor | None = None, y_weights: Tensor | None = None
    ) -> Divergence:
        """Compute the divergence between clouds.

        Computed in float64 (float32 on devices without it), independent of the clouds' dtype and of autocast.

        Args:
            x: (..., N, K) points.
            y: (..., M, K) points, with the same leading dimensions.
            x_weights: (..., N) weights of x, not negative, of any sum; None for equal weights. Points of weight 0 are
                ignored.
            y_weights: (..., M) weights of y, likewise.

        Returns:
            The divergence, in float32, or in float64 for float64 clouds. It is 0 with zero gradient for identical
            clouds, up to rounding and `tol`, and for a cloud without weight. Value, plan and error are NaN if a point
            is not finite.

        Raises:
            ValueError: the shapes do not fit.
        """
        if x.ndim < 2 or x.ndim != y.ndim or x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-1]:
            raise ValueError(
                f"clouds (..., N, K) and (..., M, K) are needed, not {tuple(x.shape)} and {tuple(y.shape)}"
            )
        shape, n, m = x.shape[:-2], x.shape[-2], y.shape[-2]
        kept = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
        with torch.autocast(device_type=x.device.type, enabled=False):
            x, y = _readable(x.to(kept), x_weights), _readable(y.to(kept), y_weights)
            if self.cost == "cosine":
                x, y = unit_rows(x), unit_rows(y)
            if 0 in (*shape, n, m):
                nothing = x.new_zeros(shape)
                return Divergence(nothing + (x.sum() + y.sum()) * 0, x.new_zeros((*shape, n, m)), nothing, 0)
            finite = x.isfinite().all(dim=-1).all(dim=-1) & y.isfinite().all(dim=-1).all(dim=-1)
            # Solvers would run to their last iteration on points that are not finite.
            x, y = (torch.where(finite[..., None, None], cloud, 0.0) for cloud in (x, y))
            with torch.no_grad():
                size, dims = math.prod(shape), x.shape[-1]
                points = x.reshape(size, n, dims), y.reshape(size, m, dims)
                weights = _weights(points[0], x_weights), _weights(points[1], y_weights)
                even = x_weights is None and y_weights is None
                solved = self._solve(*points, *weights, even=even, x_live=x.requires_grad, y_live=y.requires_grad)
            value = solved.value.to(kept).view(shape)
            for cloud, gradient in ((x, solved.to_x), (y, solved.to_y)):
                if gradient is not None:
                    slope = (cloud * gradient.to(kept).view(cloud.shape)).sum(dim=(-2, -1))
                    value = value + (slope - slope.detach())
            plan, error = solved.plan.to(kept).view(*shape, n, m), solved.error.to(kept).view(shape)
            value, error = (torch.where(finite, number, torch.nan) for number in (value, error))
            return Divergence(value, torch.where(finite[..., None, None], plan, torch.nan), error, solved.iterations)

    def _solve(self, x: Tensor, y: Tensor, a: Tensor, b: Tensor, even: bool, x_live: bool, y_live: bool) -> "_Solved":
        x, y = x.to(_precision(x.device)), y.to(_precision(y.device))
        empty = (a.sum(dim=1) == 0) | (b.sum(dim=1) == 0)
        if not even:
            x, a = _only_weighted(x, a)
            y, b = _only_weighted(y, b)
        # A common shift leaves distances unchanged, and small coordinates lose fewer digits.
        centre = torch.cat([x, y], dim=1).mean(dim=1, keepdim=True)
        x, y = x - centre, y - centre
        crossing, inside = _costs(x, y), _costs_inside(x, y)
        if self.solver == "exact":
            across = _exact(crossing, a, b)
            to_x = across.pull_left(x, y).masked_fill(empty[:, None, None], 0) if x_live else None
            to_y = across.pull_right(x, y).masked_fill(empty[:, None, None], 0) if y_live else None
            plan = across.plan.masked_fill(empty[:, None, None], 0)
            return _Solved(
                across.value.masked_fill(empty, 0), plan, error=across.error, to_x=to_x, to_y=to_y, iterations=0
            )
        eps = x.new_full((len(x), 1), self.eps)
        if self.relative:
            tops = [cost.amax(dim=(1, 2)).view(-1, len(x)) for cost in (crossing, *inside)]
            top = torch.cat(tops).amax(dim=0)[:, None]
            eps = torch.where(top > 0, eps * top, 1.0)
        found, iterations = self._across(crossing, a, b, eps)
        on_x, on_y, steps = self._inside(inside, a, b, eps)
        across = self._with_error(found, a, b, eps)
        within_x, within_y = self._with_error(on_x, a, a, eps), self._with_error(on_y, b, b, eps)
        value = across.value - (within_x.value + within_y.value) / 2
        error = torch.stack([across.error, within_x.error, within_y.error]).amax(dim=0)
        to_x = to_y = None
        if x_live:
            # Both sides of a cloud's transport onto itself have equal gradients: half of their sum is one of them.
            to_x = across.pull_left(x, y) - within_x.pull_left(x, x)
            to_x = to_x.masked_fill(empty[:, None, None], 0)
        if y_live:
            to_y = across.pull_right(x, y) - within_y.pull_left(y, y)
            to_y = to_y.masked_fill(empty[:, None, None], 0)
        value, error = value.masked_fill(empty, 0), error.masked_fill(empty, 0)
        plan = across.plan.masked_fill_(empty[:, None, None], 0)
        return _Solved(value, plan, error=error, to_x=to_x, to_y=to_y, iterations=iterations + steps)

    def _across(self, cost: Tensor, a: Tensor, b: Tensor, eps: Tensor) -> tuple[Solution, int]:
        """Solve the transport between two clouds, by sweeps, and by Newton's method where they stall."""
        if self.solver == "pot":
            g, steps = _pot(cost, a, b=b, eps=eps, tol=self.tol, max_iter=self.max_iter)
        elif self.reach is not None:
            g, steps = newton(cost, a, b=b, eps=eps, tol=self.tol, max_iter=self.max_iter, reach=self.reach)
        else:
            swept = between(cost, a, b=b, eps=eps, tol=self.tol, max_iter=self.max_iter)
            return self._harder(cost, a, b, eps=eps, swept=swept)
        return self._planned(cost, a, b=b, g=g, eps=eps), steps

    def _inside(self, costs: Sequence[Tensor], a: Tensor, b: Tensor, eps: Tensor) -> tuple[Solution, Solution, int]:
        """Solve the transport of both clouds onto themselves, in one batch if they have the same size."""
        if len(costs) == 1:
            found, steps = self._onto_itself(costs[0], torch.cat([a, b]), torch.cat([eps, eps]))
            (f, of_f), (g, of_g), (plan, of_plan) = (part.chunk(2) for part in (found.f, found.g, found.plan))
            return Solution(f, g, plan), Solution(of_f, of_g, of_plan), steps
        (on_x, of_first), (on_y, of_other) = (
            self._onto_itself(cost, weights, eps) for cost, weights in zip(costs, (a, b), strict=True)
        )
        return on_x, on_y, of_first + of_other

    def _onto_itself(self, cost: Tensor, a: Tensor, eps: Tensor) -> tuple[Solution, int]:
        if self.solver == "pot" or self.reach is not None:
            return self._across(cost, a, a, eps)
        swept = within(cost, a, eps=eps, tol=self.tol, max_iter=min(self.max_iter, 50))
        return self._harder(cost, a, a, eps=eps, swept=swept)

    def _harder(
        self, cost: Tensor, a: Tensor, b: Tensor, eps: Tensor, swept: tuple[Solution, Tensor, int, bool]
    ) -> tuple[Solution, int]:
        """Return the solution of the sweeps, replaced by Newton's method for problems that they have not solved."""
        found, error, sweeps, solved = swept
        if solved:
            return found, sweeps
        if sweeps >= self.max_iter:
            # Where the sweeps have diverged, a potential of zero gives at least a finite plan.
            g = torch.where(found.g.isfinite().all(dim=1, keepdim=True), found.g, 0.0)
            return self._planned(cost, a, b=b, g=g, eps=eps), sweeps
        left = (~(error < self.tol)).nonzero()[:, 0]  # includes NaN
        rest = cost[left], a[left], b[left]
        start = found.g[left], error[left]
        g, steps = newton(*rest, eps=eps[left], tol=self.tol, max_iter=self.max_iter - sweeps, start=start)
        better = self._planned(*rest, g=g, eps=eps[left])
        parts = ((found.f, better.f), (found.g, better.g), (found.plan, better.plan))
        return Solution(*(old.index_copy(0, left, new) for old, new in parts)), sweeps + steps

    def _planned(self, cost: Tensor, a: Tensor, b: Tensor, g: Tensor, eps: Tensor) -> Solution:
        """Return the solution of a column potential; its row marginals are exact, also after rounding."""
        density, f = kernel(cost, reading(g, b), b, eps)
        f = damping(eps, self.reach) * f
        return Solution(f, g, density.mul_(masses(a, f, self.reach)[:, :, None]).mul_(b[:, None]))

    def _with_error(self, found: Solution, a: Tensor, b: Tensor, eps: Tensor) -> "_Transport":
        wanted = b if self.reach is None else b * (-found.g / self.reach).exp()
        columns = found.plan.sum(dim=1)
        error = (columns - wanted).abs().sum(dim=1)
        value = dual(a, b, f=found.f, g=found.g, eps=eps, reach=self.reach)[:, 0]
        return _Transport(
            value, found.plan, row_masses=masses(a, found.f, self.reach), column_masses=columns, error=error
        )


@dataclass(frozen=True)
class _Transport:
    """Solution of one of the three problems: value (S), plan (S, N, M), its marginals, and the columns' error (S)."""

    value: Tensor
    plan: Tensor
    row_masses: Tensor
    column_masses: Tensor
    error: Tensor

    def pull_left(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of the value with respect to the first cloud."""
        return self.row_masses[:, :, None] * x - torch.bmm(self.plan, y)

    def pull_right(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of the value with respect to the second cloud."""
        return self.column_masses[:, :, None] * y - torch.bmm(self.plan.mT, x)


@dataclass(frozen=True)
class _Solved:
    value: Tensor
    plan: Tensor
    error: Tensor
    to_x: Tensor | None
    to_y: Tensor | None
    iterations: int


def half_squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the costs `|x_i - y_j|^2 / 2`, (..., N, M), between clouds (..., N, K) and (..., M, K)."""
    cross = x @ y.mT
    return (0.5 * (x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]) - cross).clamp_min(0.0)


def _costs(x: Tensor, y: Tensor) -> Tensor:
    """Return the costs of `half_squared_distances` without gradient, with a third of the memory traffic."""
    of_columns = (0.5 * y.square().sum(dim=2))[:, None].expand(-1, x.shape[1], -1)
    cost = torch.baddbmm(of_columns, x, y.mT, alpha=-1)
    return cost.add_(0.5 * x.square().sum(dim=2, keepdim=True)).clamp_min_(0.0)


def _costs_inside(x: Tensor, y: Tensor) -> list[Tensor]:
    """Return the costs within both clouds, in one stack if they have the same size; the diagonal is exactly 0."""
    found = [_costs(points, points) for points in ([torch.cat([x, y])] if x.shape == y.shape else [x, y])]
    for itself in found:
        itself.diagonal(dim1=1, dim2=2).zero_()
    return found


def _readable(points: Tensor, weights: Tensor | None) -> Tensor:
    """Return points with zeros in place of those without weight."""
    if weights is None:
        return points
    if weights.shape != points.shape[:-1]:
        raise ValueError(f"weights {tuple(weights.shape)} do not fit the points {tuple(points.shape)}")
    return points.masked_fill(~(weights > 0)[..., None], 0.0)


def _weights(points: Tensor, weights: Tensor | None) -> Tensor:
    """Return the weights (S, N) of points (S, N, K) in the solver's precision, with sum 1, or 0 if all are 0."""
    dtype = _precision(points.device)
    if weights is None:
        return torch.full(points.shape[:2], 1 / points.shape[1], dtype=dtype, device=points.device)
    weights = weights.detach().to(points.device, dtype).reshape(points.shape[:2]).clamp_min(0)
    total = weights.sum(dim=1, keepdim=True)
    return torch.where(total > 0, weights / total, 0.0)


def _precision(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _only_weighted(points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Move points without weight onto one with weight, where they do not change the solution."""
    first = weights.argmax(dim=1)
    stand_in = points[torch.arange(len(points), device=points.device), first][:, None]
    points = torch.where((weights > 0)[:, :, None], points, stand_in)
    empty = weights.sum(dim=1, keepdim=True) == 0
    points = torch.where(empty[:, :, None], 0.0, points)
    return points, torch.where(empty, 1 / weights.shape[1], weights)


def _pot(cost: Tensor, a: Tensor, b: Tensor, eps: Tensor, tol: float, max_iter: int) -> tuple[Tensor, int]:
    """Return the column potentials (S, M) and the number of iterations of Python Optimal Transport."""
    import ot

    potentials, iterations = [], 0
    for matrix, of_rows, of_columns, scale in zip(cost, a, b, eps[:, 0].tolist(), strict=True):
        _, log = ot.bregman.sinkhorn_log(
            of_rows, of_columns, matrix, scale, numItermax=max_iter, stopThr=tol, log=True, warn=False
        )
        # POT's dual variables belong to the kernel exp(-C/eps) without the weights a b^T.
        potentials.append(scale * (log["log_v"] - of_columns.log()))
        iterations = max(iterations, int(log["niter"]) + 1)
    return torch.stack(potentials), iterations


def _exact(cost: Tensor, a: Tensor, b: Tensor) -> _Transport:
    """Solve the transport without regularisation, which has no bias: that of a cloud onto itself is 0."""
    import ot

    pairs = zip(cost.cpu().numpy(), a.cpu().numpy(), b.cpu().numpy(), strict=True)
    plan = torch.stack([torch.from_numpy(ot.emd(rows, columns, matrix)) for matrix, rows, columns in pairs]).to(cost)
    columns = plan.sum(dim=1)
    return _Transport(
        (plan * cost).sum(dim=(1, 2)),
        plan,
        row_masses=plan.sum(dim=2),
        column_masses=columns,
        error=(columns - b).abs().sum(dim=1),
    )
