"""Solvers of entropic optimal transport: dual potentials of many problems at once.

A problem is a cost C (N, M), weights a (N) and b (M) that sum to 1, and a regularisation eps > 0:
`min_P <P, C> + eps KL(P | a b^T)`. Its solution is `P_ij = a_i b_j exp((f_i + g_j - C_ij) / eps)`.

Sinkhorn's sweeps on a kernel that is formed anew only when eps changes are cheap, and enough for clouds that overlap at
the scale of eps. Where they are not (small eps, clusters, outliers), `newton` follows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_SWEEPS = 10  # sweeps between looks at the error, each of which waits for the device
_START = 14  # sweeps in single precision, for one look at the error to be enough as a rule
_ROUNDS = 5  # such looks before the problem counts as a hard one


@dataclass(frozen=True)
class Solution:
    """Potentials f (S, N) and g (S, M), and their plan (S, N, M), whose rows have the mass they should."""

    f: Tensor
    g: Tensor
    plan: Tensor


def kernel(cost: Tensor, g: Tensor, b: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """Best potential of the rows for given columns, and the kernel of both: each of its rows has mass 1 under b.

    Args:
        cost: (S, N, M).
        g: (S, M) potential of the columns.
        b: (S, M) weights.
        eps: (S, 1).

    Returns:
        `exp((f_i + g_j - C_ij) / eps)` (S, N, M), and f (S, N).
    """
    # Products are several times faster than quotients.
    scores = (g[:, None] - cost).mul_(eps.reciprocal()[:, :, None])
    top = scores.amax(dim=2, keepdim=True)
    scores = scores.sub_(top).exp_()
    mass = torch.bmm(scores, b[:, :, None])
    return scores.mul_(mass.reciprocal()), -eps * (top + mass.log())[:, :, 0]


def between(
    cost: Tensor, a: Tensor, b: Tensor, eps: Tensor, tol: float, max_iter: int
) -> tuple[Solution, Tensor, int, bool]:
    """Sinkhorn's algorithm from a larger eps on, with overrelaxed sweeps (Thibault et al., arXiv 1711.01851).

    Coarse work is done in single precision, which then only has a start to provide.

    Args:
        cost: (S, N, M) in the working precision, float64 where the device has it.
        a: (S, N).
        b: (S, M).
        eps: (S, 1).
        tol: L1 error of the column marginals at which a problem is solved; rows are exact.
        max_iter: limit on the sweeps.

    Returns:
        What was found, the error (S) of each problem (not a number where sweeps are no way to solve it), the number of
        sweeps, and whether all problems are solved.
    """
    unit = torch.maximum(cost.amax(dim=(1, 2))[:, None], eps)
    low, low_eps = (cost * unit.reciprocal()[:, :, None]).float(), (eps / unit).float()
    low_a, low_b = a.float(), b.float()
    # First half of the way from the largest cost to eps, whatever their ratio: looking at it would wait for the device.
    sweeps = _Sweeps(low, torch.zeros_like(low_b), a=low_a, b=low_b, eps=low_eps.sqrt())
    left = max_iter - sweeps.plain(min(2, max_iter))
    sweeps = _Sweeps(low, sweeps.g, a=low_a, b=low_b, eps=low_eps)
    left -= sweeps.plain(min(8, left))
    left -= sweeps.relaxed(min(_START, left))
    sweeps.learn()
    omega = sweeps.omega.to(cost.dtype)
    sweeps = _Sweeps(cost, sweeps.g.to(cost.dtype) * unit, a=a, b=b, eps=eps, omega=omega)
    for _ in range(_ROUNDS):
        left -= sweeps.relaxed(min(_SWEEPS, left))
        error = sweeps.error()
        solved = bool((error < tol).all())
        if solved or not left:
            break
        sweeps.learn()
    return sweeps.solution(), error, max_iter - left, solved


class _Sweeps:
    """Sweeps over a fixed kernel: what changes are factors of its rows (S, 1, N) and columns (S, 1, M)."""

    def __init__(self, cost: Tensor, g: Tensor, a: Tensor, b: Tensor, eps: Tensor, omega: Tensor | None = None) -> None:
        density, self.f_start = kernel(cost, g, b, eps)
        self.to_columns, self.to_rows = density * a[:, :, None], density.mul_(b[:, None]).mT
        self.g_start, self.a, self.b, self.eps = g, a[:, None], b[:, None], eps
        self.rows, self.columns = torch.ones_like(self.a), torch.ones_like(self.b)
        self.omega = torch.ones_like(eps[:, None]) if omega is None else omega
        self.masses: list[Tensor] = []

    @property
    def g(self) -> Tensor:
        """The potential of the columns by now."""
        return self.g_start + self.eps * self.columns[:, 0].log()

    def solution(self) -> Solution:
        """What was found by now. Consumes the kernel."""
        rows = torch.bmm(self.columns, self.to_rows).reciprocal_()
        plan = self.to_columns.mul_(rows.mT).mul_(self.columns * self.b)
        return Solution(self.f_start + self.eps * rows[:, 0].log(), self.g, plan)

    def plain(self, count: int) -> int:
        """Sinkhorn's sweeps, whose rate of convergence tells how to go on. Returns their number."""
        steps = []
        for _ in range(count):
            last, self.columns = self.columns, torch.bmm(self.rows, self.to_columns).reciprocal_()
            self.rows = torch.bmm(self.columns, self.to_rows).reciprocal_()
            steps.append((last, self.columns))
        if count > 6:
            self._relax(self._rate([last / columns for last, columns in (steps[-4], steps[-1])], 3))
        return count

    def relaxed(self, count: int) -> int:
        """Overrelaxed sweeps. Returns their number."""
        self.masses, power = [], -self.omega
        for _ in range(count):
            self.masses.append(torch.bmm(self.rows, self.to_columns).mul_(self.columns))
            self.columns = self.masses[-1].pow(power).mul_(self.columns)
            self.rows = torch.bmm(self.columns, self.to_rows).mul_(self.rows).pow_(power).mul_(self.rows)
        return count

    def learn(self) -> None:
        """Find a better factor from what the last overrelaxed sweeps left of the error."""
        span = len(self.masses) // 2
        if span:
            self._relax(self._rate([self.masses[-1 - span], self.masses[-1]], span))

    def error(self) -> Tensor:
        """L1 error (S) of the columns' masses, where the rows have theirs."""
        rows = torch.bmm(self.columns, self.to_rows).reciprocal_()
        return self._off(torch.bmm(rows, self.to_columns).mul_(self.columns))[:, 0, 0]

    def _off(self, masses: Tensor) -> Tensor:
        return (masses - 1).abs_().mul_(self.b).sum(dim=2, keepdim=True)

    def _rate(self, masses: list[Tensor], span: int) -> Tensor:
        """The share (S, 1, 1) of the columns' error that each of the last sweeps left, from the first to the last."""
        before, after = (self._off(mass) for mass in masses)
        # What is left of an error by rounding tells nothing.
        return torch.where(after > 30 * torch.finfo(after.dtype).eps, after / before, 0.0).pow(1 / span)

    def _relax(self, rate: Tensor) -> None:
        """The best factor, from the share of the error that a sweep with the present one leaves (Young, 1954)."""
        # A sweep with the factor w leaves l where one without leaves s: (l + w - 1)^2 = l w^2 s.
        plain = (rate + self.omega - 1).square() / (rate * self.omega.square())
        better = 2 / (1 + (1 - plain.clamp(0, 0.9999)).sqrt())
        # Below w - 1 no rate tells anything: the factor is large enough.
        self.omega = torch.where(rate > self.omega - 1, torch.maximum(better, self.omega), self.omega)


def within(cost: Tensor, a: Tensor, eps: Tensor, tol: float, max_iter: int) -> tuple[Solution, Tensor, int, bool]:
    """Transport of a cloud onto itself: one potential serves both sides.

    The two halves of a sweep leave the shares -s and s^2 of an error that belongs to the plan's eigenvalue s in [0, 1].
    Their mean leaves 1/8 of any at most, whatever eps is. The kernel of a zero potential has ones on its diagonal and
    needs no help of a larger eps.

    Args:
        cost: (S, N, N), symmetric with a zero diagonal.
        a: (S, N).
        eps: (S, 1).
        tol: L1 error of the marginals.
        max_iter: limit on the sweeps.

    Returns:
        As for `between`.
    """
    kernel, a, mass = (cost * -eps.reciprocal()[:, :, None]).exp_(), a[:, None], a[:, None]
    for done in range(1, max_iter + 1):
        first = a / torch.bmm(mass, kernel)
        second = a / torch.bmm(first, kernel)
        mass = first.mul_(second).sqrt_()
        if done % _SWEEPS == 0 or done == max_iter:
            rows = a / torch.bmm(mass, kernel)
            error = torch.bmm(rows, kernel).mul_(mass).sub_(a).abs_().sum(dim=2)[:, 0]
            solved = bool((error < tol).all())
            if solved:
                break
    f = -eps * torch.bmm(mass, kernel)[:, 0].log()
    g = -eps * torch.bmm(rows, kernel)[:, 0].log()
    return Solution(f, g, kernel.mul_(rows.mT).mul_(mass)), error, done, solved
