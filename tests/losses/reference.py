"""Independent float64 solutions the losses are held against, in NumPy."""

import numpy as np
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
