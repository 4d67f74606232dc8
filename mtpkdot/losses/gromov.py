"""Gromov-Wasserstein distance between two similarity structures, solved to a local optimum by POT.

`GW(T, S) = min_P sum_ijkl (T_ik - S_jl)^2 P_ij P_kl` over the plans P with the samples' weights as marginals (Memoli,
2011; Peyre et al., ICML 2016). The fused form adds a price for leaving the pairing (Vayer et al., ICML 2019).
"""

import numpy as np
import torch
from torch import Tensor


def gromov_wasserstein(
    teacher: Tensor, student: Tensor, weights: Tensor, pairing: float | None = None
) -> tuple[Tensor, Tensor, int]:
    """Compute the Gromov-Wasserstein distance between two similarity structures of the same samples.

    The problem is not convex: it is solved from three starts (the pairing of the samples, a matching of similar rows,
    and the independent plan), and the best solution is returned. It is a local optimum; for structures that differ much
    it may depend on how the samples are paired, although the distance itself does not. By the envelope theorem the
    gradient is that of the objective at the plan. Computed on the CPU, O(B^3) per step.

    Args:
        teacher: (B, B) symmetric similarities; detached.
        student: (B, B) symmetric similarities, with gradient.
        weights: (B,) positive, with sum 1.
        pairing: None to ignore the pairing of the samples; a price p in (0, 1] for the fused problem
            `(1 - p) GW + p (mass that leaves its own sample)`.

    Returns:
        The value (scalar; NaN where a similarity is not finite), the plan (B, B), and the number of
        conditional-gradient steps.

    Raises:
        ValueError: the price is outside (0, 1].

    Example:
        >>> teacher = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.5, 1.0]])
        >>> student = teacher.flip(0, 1)  # the same structure of other samples
        >>> value, plan, _ = gromov_wasserstein(teacher, student, torch.full((3,), 1 / 3))
        >>> abs(round(value.item(), 6))
        0.0
    """
    if pairing is not None and not 0 < pairing <= 1:
        raise ValueError(f"pairing must lie in (0, 1], not {pairing}")
    price = 0.0 if pairing is None else pairing
    found, steps = _solve(_array(teacher), _array(student), _array(weights), price)
    plan = torch.from_numpy(found).to(student)
    teacher, weights = teacher.detach().to(student.dtype), weights.to(student.dtype)
    squares = weights @ teacher.square() @ weights + weights @ student.square() @ weights
    # The mixed term of the square: the sum over i, k of T_ik (P S P^T)_ik.
    structure = squares - 2 * (teacher * (plan @ student @ plan.T)).sum()
    moved = 1 - plan.diagonal().sum()
    return (1 - price) * structure.clamp_min(0) + price * moved, plan, steps


def _array(values: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    return values.detach().cpu().double().numpy()


def _solve(
    teacher: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    student: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    weights: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    price: float,
) -> tuple["np.ndarray[tuple[int, ...], np.dtype[np.float64]]", int]:
    import ot

    weights = weights / weights.sum()
    if not (np.isfinite(teacher).all() and np.isfinite(student).all()):
        return np.diag(weights), 0  # the value is NaN for any plan
    cost = price * (1 - np.eye(len(weights)))
    best, lowest, steps = np.diag(weights), np.inf, 0
    # Matches samples whose similarities to all others have similar distributions.
    profiles = ((np.sort(teacher, axis=1)[:, None] - np.sort(student, axis=1)) ** 2).sum(axis=2)
    for start in (best, ot.emd(weights, weights, profiles), np.outer(weights, weights)):
        plan, log = ot.gromov.fused_gromov_wasserstein(
            cost / max(price, 1e-12) if price else cost,
            teacher,
            student,
            weights,
            weights,
            alpha=1 - price,
            symmetric=True,
            G0=start,
            log=True,
            max_iter=500,
        )
        steps += len(log["loss"])
        # Rounding must not decide between two plans of equal cost.
        if log["fgw_dist"] < lowest - 1e-12:
            best, lowest = plan, log["fgw_dist"]
    return best, steps
