"""Batched Sinkhorn solvers of entropic optimal transport.

A problem is a cost C (N, M), weights a (N) and b (M) that sum to 1, and a regularisation eps > 0:
`min_P <P, C> + eps KL(P | a b^T)`. Its solution is `P_ij = a_i b_j exp((f_i + g_j - C_ij) / eps)`.

Sinkhorn's sweeps on a fixed kernel are cheap, and they converge fast for clouds that overlap at the scale of eps.
Otherwise (small eps, clusters, outliers) `newton` continues from their result.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_SWEEPS = 10  # sweeps between checks of the error, each of which waits for the device
_START = 14  # sweeps in single precision, so that one check of the error is usually enough
_ROUNDS = 5  # checks of the error before the problem counts as hard


@dataclass(frozen=True)
class Solution:
    """Potentials f (S, N) and g (S, M), and their plan (S, N, M), whose row marginals are exact."""

    f: Tensor
    g: Tensor
    plan: Tensor


def kernel(cost: Tensor, g: Tensor, b: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the best row potential for a column potential, and their kernel, whose rows have mass 1 under b.

    Args:
        cost: (S, N, M) costs of S problems.
        g: (S, M) potential of the columns.
        b: (S, M) weights of the columns.
        eps: (S, 1) regularisation.

    Returns:
        `exp((f_i + g_j - C_ij) / eps)` (S, N, M), and f (S, N).
    """
    # Multiplication is several times faster than division.
    scores = (g[:, None] - cost).mul_(eps.reciprocal()[:, :, None])
    top = scores.amax(dim=2, keepdim=True)
    scores = scores.sub_(top).exp_()
    mass = torch.bmm(scores, b[:, :, None])
    return scores.mul_(mass.reciprocal()), -eps * (top + mass.log())[:, :, 0]


def between(
    cost: Tensor, a: Tensor, b: Tensor, eps: Tensor, tol: float, max_iter: int
) -> tuple[Solution, Tensor, int, bool]:
    """Solve problems by overrelaxed sweeps, starting from a larger eps (Thibault et al., arXiv 1711.01851).

    The start is computed in single precision.

    Args:
        cost: (S, N, M) costs of S problems in the working precision, float64 where the device has it.
        a: (S, N) weights of the rows.
        b: (S, M) weights of the columns.
        eps: (S, 1) regularisation.
        tol: L1 error of the column marginals at which a problem is solved; row marginals are exact.
        max_iter: limit on the number of sweeps.

    Returns:
        The solution, the error (S) of each problem (NaN if sweeps cannot solve it), the number of sweeps, and whether
        all problems are solved.
    """
    unit = torch.maximum(cost.amax(dim=(1, 2))[:, None], eps)
    low, low_eps = (cost * unit.reciprocal()[:, :, None]).float(), (eps / unit).float()
    low_a, low_b = a.float(), b.float()
    # The first eps is the geometric mean of the largest cost and eps, whatever their ratio: to read it would wait for
    # the device.
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
    """Sweeps over a fixed kernel, which update factors of its rows (S, 1, N) and columns (S, 1, M)."""

    def __init__(self, cost: Tensor, g: Tensor, a: Tensor, b: Tensor, eps: Tensor, omega: Tensor | None = None) -> None:
        density, self.f_start = kernel(cost, g, b, eps)
        self.to_columns, self.to_rows = density * a[:, :, None], density.mul_(b[:, None]).mT
        self.g_start, self.a, self.b, self.eps = g, a[:, None], b[:, None], eps
        self.rows, self.columns = torch.ones_like(self.a), torch.ones_like(self.b)
        self.omega = torch.ones_like(eps[:, None]) if omega is None else omega
        self.masses: list[Tensor] = []

    @property
    def g(self) -> Tensor:
        """Current potential of the columns."""
        return self.g_start + self.eps * self.columns[:, 0].log()

    def solution(self) -> Solution:
        """Return the current solution; its plan overwrites the kernel."""
        rows = torch.bmm(self.columns, self.to_rows).reciprocal_()
        plan = self.to_columns.mul_(rows.mT).mul_(self.columns * self.b)
        return Solution(self.f_start + self.eps * rows[:, 0].log(), self.g, plan)

    def plain(self, count: int) -> int:
        """Run plain sweeps, set the relaxation factor from their rate of convergence, and return their number."""
        steps = []
        for _ in range(count):
            last, self.columns = self.columns, torch.bmm(self.rows, self.to_columns).reciprocal_()
            self.rows = torch.bmm(self.columns, self.to_rows).reciprocal_()
            steps.append((last, self.columns))
        if count > 6:
            self._relax(self._rate([last / columns for last, columns in (steps[-4], steps[-1])], 3))
        return count

    def relaxed(self, count: int) -> int:
        """Run overrelaxed sweeps and return their number."""
        self.masses, power = [], -self.omega
        for _ in range(count):
            self.masses.append(torch.bmm(self.rows, self.to_columns).mul_(self.columns))
            self.columns = self.masses[-1].pow(power).mul_(self.columns)
            self.rows = torch.bmm(self.columns, self.to_rows).mul_(self.rows).pow_(power).mul_(self.rows)
        return count

    def learn(self) -> None:
        """Improve the relaxation factor, from the rate of convergence of the last overrelaxed sweeps."""
        span = len(self.masses) // 2
        if span:
            self._relax(self._rate([self.masses[-1 - span], self.masses[-1]], span))

    def error(self) -> Tensor:
        """Return the L1 error (S) of the column marginals; row marginals are exact."""
        rows = torch.bmm(self.columns, self.to_rows).reciprocal_()
        return self._off(torch.bmm(rows, self.to_columns).mul_(self.columns))[:, 0, 0]

    def _off(self, masses: Tensor) -> Tensor:
        return (masses - 1).abs_().mul_(self.b).sum(dim=2, keepdim=True)

    def _rate(self, masses: list[Tensor], span: int) -> Tensor:
        """Return the mean factor (S, 1, 1) by which each of the last sweeps has reduced the error of the columns."""
        before, after = (self._off(mass) for mass in masses)
        # An error at the level of rounding has no rate.
        return torch.where(after > 30 * torch.finfo(after.dtype).eps, after / before, 0.0).pow(1 / span)

    def _relax(self, rate: Tensor) -> None:
        """Set the best relaxation factor, from the rate of convergence with the current one (Young, 1954)."""
        # The rate l with the factor w and the rate s without one satisfy (l + w - 1)^2 = l w^2 s.
        plain = (rate + self.omega - 1).square() / (rate * self.omega.square())
        better = 2 / (1 + (1 - plain.clamp(0, 0.9999)).sqrt())
        # A rate below w - 1 carries no information: the factor is large enough.
        self.omega = torch.where(rate > self.omega - 1, torch.maximum(better, self.omega), self.omega)


def within(cost: Tensor, a: Tensor, eps: Tensor, tol: float, max_iter: int) -> tuple[Solution, Tensor, int, bool]:
    """Solve the transport of clouds onto themselves, in which both sides have the same potential.

    The two halves of a sweep multiply the error for an eigenvalue s in [0, 1] of the plan by -s and s^2. Their mean
    reduces any error to at most 1/8 of its size, for every eps. The kernel of a zero potential has ones on its
    diagonal, so that no start from a larger eps is needed.

    Args:
        cost: (S, N, N) costs of S problems, symmetric with a zero diagonal.
        a: (S, N) weights.
        eps: (S, 1) regularisation.
        tol: L1 error of the marginals at which a problem is solved.
        max_iter: limit on the number of sweeps.

    Returns:
        As `between`.
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
