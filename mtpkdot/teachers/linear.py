"""Linear teacher: multinomial or ordinal logistic regression, or ridge regression."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor

from mtpkdot.losses.task import Task
from mtpkdot.teachers.calibration import held_out_score
from mtpkdot.teachers.member import Member, Targets
from mtpkdot.teachers.rows import Rows, Scaling

_STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(2, -9, -1))  # penalties, the largest first
_PATIENCE = 3  # weaker penalties in a row without a gain on held-out people, after which none is tried


class LinearTeacher(Member):
    """Linear model of the standardised features of its modalities, with a squared penalty.

    The penalty is the one with the highest likelihood on held-out people. Unlike scikit-learn's logistic regression it
    learns from probabilities as well as from labels, at the cost of one row each.

    Args:
        modalities: modalities that it reads.
        strengths: penalties to choose from, relative to the mean loss of a row.
    """

    learns_from_answers: ClassVar[bool] = True

    def __init__(self, modalities: Sequence[str], strengths: Sequence[float] = _STRENGTHS) -> None:
        super().__init__(modalities)
        self.strengths = sorted(strengths, reverse=True)

    def fit(self, task: Task, training: Rows, targets: Targets, held_out: Rows) -> Tensor:
        """Fit a model per penalty, and keep the best on held-out people; see Member."""
        scaling = Scaling.fit(training, self.modalities)
        known = (targets.weight > 0) & training.seen(self.modalities)
        x, y, weight = scaling(training.keep(known)), targets.columns[known], targets.weight[known]
        judged = held_out.keep(held_out.seen(self.modalities))
        held = scaling(judged)
        path = _ridge_path if task == "regression" else _logistic_path
        best, score, worse = None, -np.inf, 0
        for coefficients in path(task, x.numpy(), y.numpy(), (weight / weight.sum()).numpy(), self.strengths):
            weights = torch.from_numpy(coefficients)
            reached = held_out_score(task, held @ weights[1:] + weights[0], judged.target) if len(judged) else 0.0
            worse += 1
            if best is None or reached > score:
                best, score, worse = weights, reached, 0
            if worse == _PATIENCE:
                break
        assert best is not None
        self.state = {"weights": best}
        for name in self.modalities:
            self.state |= {f"mean.{name}": scaling.mean[name], f"scale.{name}": scaling.scale[name]}
        return self.output(training)

    def output(self, rows: Rows) -> Tensor:
        """Return logits, thresholds' logits or values (N, K); see Member."""
        scaling = Scaling(*({n: self.state[f"{part}.{n}"] for n in self.modalities} for part in ("mean", "scale")))
        weights = self.state["weights"]
        return scaling(rows) @ weights[1:] + weights[0]


Array = npt.NDArray[np.float64]


def _logistic_path(task: Task, x: Array, y: Array, weight: Array, strengths: Sequence[float]) -> Iterator[Array]:
    """Yield coefficients (1 + D, K) of logistic regressions, each started from the one with the larger penalty.

    Args:
        task: `classification` (multinomial) or `ordinal` (one binary regression per threshold).
        x: (N, D) features.
        y: (N, K) probabilities.
        weight: (N,) weights with sum 1.
        strengths: penalties.
    """
    inputs = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    shape = (inputs.shape[1], y.shape[1])

    def loss(flat: Array, strength: float) -> tuple[float, Array]:
        w = flat.reshape(shape)
        logits = inputs @ w
        if task == "classification":
            logits = logits - logits.max(axis=1, keepdims=True)
            total = np.log(np.exp(logits).sum(axis=1, keepdims=True))
            cost = (weight[:, None] * y * (total - logits)).sum()
            error = np.exp(logits - total) - y
        else:
            cost = (weight[:, None] * (np.logaddexp(0, logits) - y * logits)).sum()
            error = 1 / (1 + np.exp(-logits)) - y
        gradient = inputs.T @ (weight[:, None] * error)
        gradient[1:] += strength * w[1:]
        return float(cost + 0.5 * strength * np.square(w[1:]).sum()), gradient.ravel()

    start: Array = np.zeros(shape).ravel()
    for strength in strengths:
        options = {"maxiter": 200, "ftol": 1e-8}
        start = minimize(loss, start, args=(strength,), jac=True, method="L-BFGS-B", options=options).x
        yield start.reshape(shape).copy()


def _ridge_path(task: Task, x: Array, y: Array, weight: Array, strengths: Sequence[float]) -> Iterator[Array]:
    """Yield coefficients (1 + D, K) of ridge regressions, as `_logistic_path` does, from one decomposition."""
    mean, centre = weight @ y, weight @ x
    root = np.sqrt(weight)[:, None]
    left, size, right = np.linalg.svd(root * (x - centre), full_matrices=False)
    projected = left.T @ (root * (y - mean))
    for strength in strengths:
        w = right.T @ ((size / (size**2 + strength))[:, None] * projected)
        yield np.concatenate([(mean - centre @ w)[None], w])
