"""Solvers of entropic optimal transport: dual potentials of many problems at once.

A problem is a cost C (N, M), weights a (N) and b (M) that sum to 1, and a regularisation eps > 0:
`min_P <P, C> + eps KL(P | a b^T)`. Its solution is `P_ij = a_i b_j exp((f_i + g_j - C_ij) / eps)`.

Sinkhorn's sweeps on a kernel that is formed anew only when eps changes are cheap, and enough for clouds that overlap at
the scale of eps. Where they are not (small eps, clusters, outliers), `newton` follows.
"""

import torch
from torch import Tensor

_LEVELS = 2  # larger eps before the one that is asked for
_SWEEPS = 10  # sweeps between looks at the error, each of which waits for the device
_START = 14  # sweeps in single precision, for one look at the error to be enough as a rule
_ROUNDS = 5  # such looks before the problem counts as a hard one


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
    scores = (g[:, None] - cost).div_(eps[:, :, None])
    top = scores.amax(dim=2, keepdim=True)
    scores = scores.sub_(top).exp_()
    mass = torch.bmm(scores, b[:, :, None])
    return scores.div_(mass), -eps * (top + mass.log())[:, :, 0]


def between(
    cost: Tensor, a: Tensor, b: Tensor, eps: Tensor, tol: float, max_iter: int
) -> tuple[Tensor, Tensor, int, bool]:
    """Sinkhorn's algorithm with a falling eps and overrelaxed sweeps (Thibault et al., arXiv 1711.01851).

    Coarse work is done in single precision, which then only has a start to provide.

    Args:
        cost: (S, N, M) in the working precision, float64 where the device has it.
        a: (S, N).
        b: (S, M).
        eps: (S, 1).
        tol: L1 error of the column marginals at which a problem is solved; rows are exact.
        max_iter: limit on the sweeps.

    Returns:
        The potential g (S, M) of the columns, the error (S) of each problem (not a number where sweeps are no way to
        solve it), the number of sweeps, and whether all problems are solved.
    """
    unit = cost.amax(dim=(1, 2))[:, None].clamp_min(torch.finfo(cost.dtype).tiny)
    low, low_eps, low_a, low_b = (cost / unit[:, :, None]).float(), (eps / unit).float(), a.float(), b.float()
    g, left = torch.zeros_like(low_b), max_iter
    for level in range(1, _LEVELS + 1):
        # As many steps from the largest cost to eps whatever their ratio: looking at it would wait for the device.
        sweeps = _Sweeps(low, g, low_a, low_b, low_eps.clamp_max(1) ** (level / (_LEVELS + 1)))
        left -= sweeps.plain(min(2, left))
        g = sweeps.g
    sweeps = _Sweeps(low, g, low_a, low_b, low_eps)
    left -= sweeps.plain(min(8, left))
    left -= sweeps.relaxed(min(_START, left))
    omega = sweeps.omega.to(cost.dtype)
    sweeps = _Sweeps(cost, sweeps.g.to(cost.dtype) * unit, a, b, eps, omega)
    error, solved = sweeps.error(), False
    for _ in range(_ROUNDS):
        left -= sweeps.relaxed(min(_SWEEPS, left))
        error = sweeps.error()
        solved = bool((error < tol).all())
        if solved or not left:
            break
    return sweeps.g, error, max_iter - left, solved


class _Sweeps:
    """Sweeps over a fixed kernel: what changes are factors of its rows and columns."""

    def __init__(self, cost: Tensor, g: Tensor, a: Tensor, b: Tensor, eps: Tensor, omega: Tensor | None = None) -> None:
        self.kernel, _ = kernel(cost, g, b, eps)
        # Products with many transposed matrices cost several times a copy; with one they cost the same as others.
        self.transposed = self.kernel.mT if len(cost) == 1 else self.kernel.mT.contiguous()
        self.start, self.a, self.b, self.eps = g, a, b, eps
        self.rows, self.columns = torch.ones_like(a), torch.ones_like(b)
        self.omega = torch.ones_like(eps) if omega is None else omega

    @property
    def g(self) -> Tensor:
        """The potential of the columns by now."""
        return self.start + self.eps * self.columns.log()

    def plain(self, count: int) -> int:
        """Sinkhorn's sweeps, whose rate of convergence tells how to go on. Returns their number."""
        steps = []
        for _ in range(count):
            last, self.columns = self.columns, self._for_columns().reciprocal()
            self.rows = self._for_rows().reciprocal()
            steps.append(last / self.columns)
        if count > 6:
            self._relax(self._rate(steps, 3))
        return count

    def relaxed(self, count: int) -> int:
        """Overrelaxed sweeps, which find a better factor. Returns their number."""
        masses, power = [], -self.omega
        for _ in range(count):
            masses.append(self.columns * self._for_columns())
            self.columns = self.columns * masses[-1].pow(power)
            self.rows = self.rows * (self.rows * self._for_rows()).pow(power)
        if count > 1:
            self._relax(self._rate(masses, count // 2))
        return count

    def error(self) -> Tensor:
        """L1 error (S) of the columns' masses, where the rows have theirs."""
        rows = self._for_rows().reciprocal()
        masses = self.columns * torch.bmm((self.a * rows)[:, None], self.kernel)[:, 0]
        return (self.b * (masses - 1).abs()).sum(dim=1)

    def _rate(self, masses: list[Tensor], span: int) -> Tensor:
        """The share (S, 1) of the columns' error that each of the last sweeps left."""
        before, after = ((self.b * (mass - 1).abs()).sum(dim=1) for mass in (masses[-1 - span], masses[-1]))
        return (after / before).pow(1 / span)[:, None]

    def _relax(self, rate: Tensor) -> None:
        """The best factor, from the share of the error that a sweep with the present one leaves (Young, 1954)."""
        # A sweep with the factor w leaves l where one without leaves s: (l + w - 1)^2 = l w^2 s.
        plain = (rate + self.omega - 1).square() / (rate * self.omega.square())
        better = 2 / (1 + (1 - plain.clamp(0, 0.9999)).sqrt())
        # Below w - 1 no rate tells anything: the factor is large enough.
        self.omega = torch.where(rate > self.omega - 1, torch.maximum(better, self.omega), self.omega)

    def _for_columns(self) -> Tensor:
        return torch.bmm((self.a * self.rows)[:, None], self.kernel)[:, 0]

    def _for_rows(self) -> Tensor:
        return torch.bmm((self.b * self.columns)[:, None], self.transposed)[:, 0]


def within(cost: Tensor, a: Tensor, eps: Tensor, tol: float, max_iter: int) -> tuple[Tensor, Tensor, int, bool]:
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
    kernel = (cost / -eps[:, :, None]).exp_()
    factor = torch.ones_like(a)
    for done in range(1, max_iter + 1):
        first = 1 / torch.bmm((a * factor)[:, None], kernel)[:, 0]
        second = 1 / torch.bmm((a * first)[:, None], kernel)[:, 0]
        factor = (first * second).sqrt()
        if done % _SWEEPS == 0 or done == max_iter:
            masses = factor * torch.bmm((a * factor)[:, None], kernel)[:, 0]
            error = (a * (masses - 1).abs()).sum(dim=1)
            solved = bool((error < tol).all())
            if solved:
                break
    return eps * factor.log(), error, done, solved
