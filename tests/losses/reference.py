"""Independent float64 solutions the losses are held against."""

import numpy as np
import ot
import torch


def random(*shape, seed, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def similarity_clouds(batch, k, seed, dtype=torch.float32):
    """Anchored cosine matrices of random features, written out in NumPy: what the structural loss compares."""
    rng = np.random.default_rng(seed)
    matrices = []
    for _ in range(2):
        features = rng.standard_normal((batch, 24)) + 0.5
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        matrices.append(features @ features.T)
    anchors = np.argsort(matrices[0], axis=1, kind="stable")[:, :k]
    return [torch.tensor(np.take_along_axis(m - m.min(), anchors, axis=1)).to(dtype) for m in matrices]


def converged_divergence(x, y, eps):
    """Sinkhorn divergence by Python Optimal Transport, iterated to machine precision, KL against the product measure."""
    x, y = x.detach().double().numpy(), y.detach().double().numpy()

    def cost_of_transport(a, b):
        cost = 0.5 * ((a[:, None] - b[None]) ** 2).sum(axis=2)
        weight = np.full(len(a), 1 / len(a))
        plan, log = ot.bregman.sinkhorn_log(
            weight, weight, cost, eps, numItermax=100_000, stopThr=1e-12, log=True, warn=False
        )
        np.testing.assert_allclose(plan.sum(axis=0), weight, atol=1e-10)
        np.testing.assert_allclose(plan.sum(axis=1), weight, atol=1e-10)
        log_ratio = log["log_u"][:, None] + log["log_v"][None] - cost / eps - 2 * np.log(weight[0])
        return (plan * cost).sum() + eps * (plan * log_ratio).sum()

    return cost_of_transport(x, y) - (cost_of_transport(x, x) + cost_of_transport(y, y)) / 2
