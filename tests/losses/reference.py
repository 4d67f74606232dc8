"""Independent float64 solutions the losses are held against, in NumPy."""

from typing import NamedTuple

import numpy as np
import ot
import torch


def random(*shape, seed, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def similarity_clouds(batch, k, seed, dtype=torch.float32):
    """Anchored cosine matrices of random features: what the structural loss compares."""
    rng = np.random.default_rng(seed)
    return [torch.tensor(cloud).to(dtype) for cloud in anchored(*(rng.standard_normal((2, batch, 24)) + 0.5), k)]


def anchored(teacher, student, k):
    """Cosine matrices on the teacher's k least similar columns of each row, both shifted by their minimum."""
    units = [np.asarray(x, dtype=float) / np.linalg.norm(x, axis=1, keepdims=True) for x in (teacher, student)]
    matrices = [unit @ unit.T for unit in units]
    columns = np.argsort(matrices[0], axis=1, kind="stable")[:, :k]
    return [np.take_along_axis(m - m.min(), columns, axis=1) for m in matrices]


def converged_divergence(x, y, eps):
    """Sinkhorn divergence to rounding, with KL against the product measure."""
    x, y = (np.asarray(cloud, dtype=float) for cloud in (x, y))

    def transport(a, b):
        return transport_cost(0.5 * ((a[:, None] - b[None]) ** 2).sum(axis=2), eps)

    return transport(x, y) - (transport(x, x) + transport(y, y)) / 2


def transport_cost(cost, eps):
    """`min_P <P, C> + eps KL(P | 1/n^2)` by Newton's method on the dual, started by a few Sinkhorn sweeps."""
    n = len(cost)
    f = g = np.zeros(n)

    def softmin(matrix, potential, scale):
        exponent = (potential[None] - matrix) / scale
        top = exponent.max(axis=1, keepdims=True)
        return -scale * (top[:, 0] + np.log(np.exp(exponent - top).mean(axis=1)))

    for scale in [*np.geomspace(max(cost.max(), eps), eps, 20), *[eps] * 30]:
        f = softmin(cost, g, scale)
        g = softmin(cost.T, f, scale)

    def plan(f, g):
        return np.exp((f[:, None] + g[None] - cost) / eps) / n**2

    def dual(f, g):
        return f.mean() + g.mean() - eps * (plan(f, g).sum() - 1)

    for _ in range(50):
        p = plan(f, g)
        rows, columns = p.sum(axis=1), p.sum(axis=0)
        slope = np.concatenate([1 / n - rows, 1 / n - columns])
        if np.abs(slope).sum() < 1e-13:
            break
        curvature = np.block([[np.diag(rows), p], [p.T, np.diag(columns)]]) / eps
        step, size = np.linalg.lstsq(curvature, slope, rcond=1e-14)[0], 1.0
        with np.errstate(over="ignore", invalid="ignore"):
            while size > 1e-6 and not dual(f + size * step[:n], g + size * step[n:]) >= dual(f, g) - 1e-15:
                size /= 2
        f, g = f + size * step[:n], g + size * step[n:]
    assert np.abs(slope).sum() < 1e-8, "the reference has not converged"
    return dual(f, g)


def half_squared(x, y):
    """The cost by its definition, difference by difference, in the most digits there are."""
    x, y = np.asarray(x, dtype=np.longdouble), np.asarray(y, dtype=np.longdouble)
    return 0.5 * ((x[:, None] - y[None]) ** 2).sum(axis=2)


def on_the_sphere(points):
    """Points divided by their lengths; zero vectors stay zero."""
    length = np.linalg.norm(points, axis=-1, keepdims=True)
    return points / np.where(length > 0, length, 1)


class Transport(NamedTuple):
    """A solution and two bounds of its error: of the value, and of the plan's marginals (L1)."""

    value: float
    plan: np.ndarray
    gap: float
    error: float


def solve_transport(cost, a, b, eps):
    """`min_P <P, C> + eps KL(P | a b^T)` by damped Newton steps and Sinkhorn sweeps in turn, with a falling eps.

    Any potentials bound the value from below, and any plan with the right marginals bounds it from above: the distance
    of the two is the solution's certificate, whatever way led there.
    """
    # A far point adds the same large number to all that it is compared with; what is the same decides nothing.
    by_row = cost.min(axis=1)
    by_column = (cost - by_row[:, None]).min(axis=0)
    base, cost = a @ by_row + b @ by_column, (cost - by_row[:, None] - by_column).astype(float)
    g, scale = np.zeros(len(b)), max(float(cost.max()), eps)
    while scale > eps:
        g = _ascend(cost, g, a, b, scale, 1e-4, 60)
        scale = max(scale / 3, eps)
    g = _ascend(cost, g, a, b, eps, 1e-13, 400)
    f = _softmin(cost, g, b, eps)
    plan = a[:, None] * b * np.exp((f[:, None] + g - cost) / eps)
    dual = a @ f + b @ g
    feasible = _with_marginals(plan, a, b, cost)
    ratio = np.divide(feasible, a[:, None] * b, out=np.ones_like(plan), where=feasible > 0)
    primal = (feasible * cost).sum() + eps * (feasible * np.log(ratio)).sum()
    return Transport(float(base + dual), plan, abs(primal - dual), np.abs(plan.sum(axis=0) - b).sum())


def _softmin(cost, g, b, eps):
    exponent = (g - cost) / eps
    top = exponent.max(axis=1, keepdims=True)
    return -eps * (top[:, 0] + np.log(np.exp(exponent - top) @ b))


def _ascend(cost, g, a, b, eps, tol, steps):
    def at(g):
        f = _softmin(cost, g, b, eps)
        return a @ f + b @ g, b * np.exp((f[:, None] + g - cost) / eps), f

    f = at(g)[2]
    ridge, best, stalled = 1e-2, np.inf, 0
    for _ in range(steps):
        g = _softmin(cost.T, f, a, eps)
        value, rows, f = at(g)
        mass = a @ rows
        error = np.abs(mass - b).sum()
        stalled = 0 if error < 0.7 * best else stalled + 1
        best = min(best, error)
        if error < tol or (error < 1e-9 and stalled > 5):
            break
        root = np.sqrt(np.maximum(mass, 1e-300))
        scaled = np.sqrt(a)[:, None] * rows / root
        matrix = np.eye(len(b)) - scaled.T @ scaled + np.outer(root, root)
        while ridge < 1e6:
            step = eps * np.linalg.solve(matrix + ridge * np.eye(len(b)), (b - mass) / root) / root
            new_value, _, new_f = at(g + step)
            if np.isfinite(new_value) and new_value >= value - 1e-15 * abs(value):
                ridge = max(ridge / 10, 1e-15)
                g, f = g + step, new_f
                break
            ridge *= 10
        else:
            ridge = 1.0
    return g


def _with_marginals(plan, a, b, cost):
    """A plan that has them: what is too much is taken away, and what then lacks is carried the cheapest way."""
    plan = plan * np.minimum(a / plan.sum(axis=1), 1)[:, None]
    plan = plan * np.minimum(b / plan.sum(axis=0), 1)
    rows, columns = (np.maximum(lack, 0) for lack in (a - plan.sum(axis=1), b - plan.sum(axis=0)))
    missing = rows.sum()
    if min(missing, columns.sum()) <= 0:
        return plan
    return plan + missing * ot.emd(rows / missing, columns / columns.sum(), cost)


class Solution(NamedTuple):
    """A divergence, its gradients, its plan, and the sizes that rounding errors are measured by."""

    value: float
    to_x: np.ndarray
    to_y: np.ndarray
    plan: np.ndarray
    largest_cost: float
    largest_gradient: float


def solve_divergence(x, y, eps, a=None, b=None):
    """Sinkhorn divergence of half squared distances, with its certificate checked."""
    x, y = (np.asarray(cloud, dtype=float) for cloud in (x, y))
    a, b = (
        np.full(len(points), 1 / len(points)) if weights is None else np.asarray(weights, dtype=float) / np.sum(weights)
        for points, weights in ((x, a), (y, b))
    )

    def pulls(plan, p, q):
        return plan.sum(axis=1)[:, None] * p - plan @ q

    solved = [
        solve_transport(half_squared(p, q), v, w, eps) for p, q, v, w in ((x, y, a, b), (x, x, a, a), (y, y, b, b))
    ]
    largest = max(abs(found.value) for found in solved)
    for found in solved:
        assert found.gap <= 1e-8 * largest + 1e-14, f"the reference has not converged: gap {found.gap}"
        assert found.error <= 5e-7, f"the reference has not converged: error {found.error}"
    across, in_x, in_y = solved
    to_x, to_y = pulls(across.plan, x, y), pulls(across.plan.T, y, x)
    of_x, of_y = (pulls(t.plan, p, p) + pulls(t.plan.T, p, p) for t, p in ((in_x, x), (in_y, y)))
    return Solution(
        across.value - (in_x.value + in_y.value) / 2,
        to_x - of_x / 2,
        to_y - of_y / 2,
        across.plan,
        largest,
        max(np.linalg.norm(gradient) for gradient in (to_x, to_y, of_x, of_y)),
    )
