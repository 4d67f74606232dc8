"""Evidence on teachers from held-out samples: their calibration, their weights, and the trust in them.

Teachers are trained on the labels that they pass on, so that their training losses are no evidence of their quality.
Evidence comes from samples of people that no stage was trained on: those that select the epoch.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.similarity import cosine_matrix
from mtpkdot.losses.task import Task, class_probabilities

_TEMPERATURES = torch.logspace(-1, 1, 61, dtype=torch.float64)  # 0.1 to 10
_SHARPNESS = torch.logspace(0, 2.5, 26, dtype=torch.float64)  # inverse temperatures of a softmax over similarities
_STEPS = 100
_JUDGED = 4000  # most rows for the nearest-neighbour rule, whose cost is quadratic in them
_ROUNDING = 1e-6  # rounding error of log likelihoods computed from float32


@dataclass(frozen=True)
class Evidence:
    """Calibration, weights and trust of T teachers, estimated on held-out samples.

    Attributes:
        temperatures: (T,) temperature that calibrates each teacher's outputs (Guo et al., ICML 2017); 1 for values.
        shares: (T,) weight of each teacher in the pool, not negative, with sum 1.
        output: probability in [0, 1] that the pool predicts better than the student.
        structure: probability in [0, 1] that a nearest-neighbour rule predicts better in the pool's feature space than
            in the student's, on at most 4,000 rows.
    """

    temperatures: Tensor
    shares: Tensor
    output: float
    structure: float


def weigh(task: Task, own: Teacher, teachers: Mapping[str, Teacher], target: Tensor, labelled: Tensor) -> Evidence:
    """Estimate the calibration, weights and trust of teachers on held-out samples.

    The shares are the weights of a mixture that maximise the likelihood of the samples, with a prior of one sample per
    teacher (by expectation maximisation).

    Args:
        task: the task.
        own: features and outputs of the student on N rows.
        teachers: features and outputs per teacher, on the same rows.
        target: (N,) classes or (N, K) values.
        labelled: (N,) bool.

    Returns:
        The evidence. If the student and all teachers share fewer than two labelled rows, the shares are equal, the
        trust is 0.5, and a warning is issued.
    """
    members = list(teachers.values())
    seen = labelled & own.valid & torch.stack([member.valid for member in members]).all(dim=0)
    rows = int(seen.sum())
    if rows < 2:
        warnings.warn(
            f"Of the held-out samples {rows} are labelled and seen by the student and all of {', '.join(teachers)}: "
            "the teachers are pooled in equal shares, and trusted by a half.",
            stacklevel=2,
        )
        return Evidence(torch.ones(len(members)), torch.full((len(members),), 1 / len(members)), 0.5, 0.5)
    truth = target[seen]
    temperatures = torch.stack([_temperature(task, member.output[seen], truth) for member in members])
    likelihoods = torch.stack(
        [_log_likelihood(task, m.output[seen].double() / t, truth) for m, t in zip(members, temperatures, strict=True)],
        dim=1,
    )
    shares = _mixture(likelihoods)
    answers = pool(task, temperatures, shares, teachers)
    gain = _log_likelihood(task, answers.output[seen].double(), truth) - _calibrated(task, own.output[seen], truth)
    # Spread evenly over the rows, since the steps of one video are adjacent.
    some = slice(None, None, -(-rows // _JUDGED))
    near = _neighbours(task, answers.feature[seen][some], truth[some])
    near = near - _neighbours(task, own.feature[seen][some], truth[some])
    return Evidence(temperatures.float(), shares.float(), _probability(gain), _probability(near))


def likelier(task: Task, own: Teacher, other: Teacher, target: Tensor, labelled: Tensor) -> bool:
    """Return whether the first of two models has the higher likelihood on held-out samples, both calibrated on them.

    Args:
        task: the task.
        own: the first model; only outputs and validity are used.
        other: the second model, on the same rows.
        target: (N,) classes or (N, K) values.
        labelled: (N,) bool.

    Returns:
        True if it has; False also if the models share no labelled row, or if an output is not finite.
    """
    seen = labelled & own.valid & other.valid
    gain = _calibrated(task, own.output[seen], target[seen]) - _calibrated(task, other.output[seen], target[seen])
    return bool(gain.mean() > 0) if len(gain) else False


def pool(task: Task, temperatures: Tensor, shares: Tensor, teachers: Mapping[str, Teacher]) -> Teacher:
    """Combine several teachers into one.

    Args:
        task: the task.
        temperatures: (T,) see `Evidence`.
        shares: (T,) see `Evidence`.
        teachers: features and outputs per teacher.

    Returns:
        The combined teacher. Its output, logits or values, is the weighted mean of the calibrated predictions of the
        teachers that are valid on a row. Its feature (N, sum of D_t) concatenates theirs, scaled so that its cosine
        similarity is the weighted mean of theirs.
    """
    members = list(teachers.values())
    valid = torch.stack([member.valid for member in members], dim=1)
    weights = shares.to(members[0].output)[None] * valid
    weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    scaled = torch.stack([m.output / t for m, t in zip(members, temperatures.to(members[0].output), strict=True)], 1)
    if task == "classification":
        mixed = (weights[:, :, None] * scaled.softmax(dim=2)).sum(dim=1)
        output = mixed.clamp_min(torch.finfo(mixed.dtype).tiny).log()
    elif task == "ordinal":
        mixed = (weights[:, :, None] * scaled.sigmoid()).sum(dim=1)
        output = mixed.logit(eps=1e-6)
    else:
        output = (weights[:, :, None] * scaled).sum(dim=1)
    sides = [F.normalize(m.feature, dim=1) * weights[:, i : i + 1].sqrt() for i, m in enumerate(members)]
    return Teacher(torch.cat(sides, dim=1), output, valid.any(dim=1))


def _temperature(task: Task, output: Tensor, truth: Tensor) -> Tensor:
    """Return the temperature that maximises the likelihood of the truth, scalar float64."""
    if task == "regression":
        return torch.ones((), dtype=torch.float64)
    grid = _TEMPERATURES.to(output.device)
    likelihood = torch.stack([_log_likelihood(task, output.double() / t, truth).mean() for t in grid])
    return grid[int(likelihood.argmax())]


def _calibrated(task: Task, output: Tensor, truth: Tensor) -> Tensor:
    """Return the log likelihood (N,) of the truth at the best temperature."""
    return _log_likelihood(task, output.double() / _temperature(task, output, truth), truth)


def _log_likelihood(task: Task, output: Tensor, truth: Tensor) -> Tensor:
    """Return the log likelihood (N,) of the truth; values are normally distributed with the variance of the errors."""
    if task == "regression":
        errors = (output - truth).square()
        variance = errors.mean(dim=0).clamp_min(torch.finfo(errors.dtype).tiny)
        return -0.5 * (errors / variance + variance.log()).sum(dim=1)
    chosen = class_probabilities(task, output).gather(1, truth[:, None])[:, 0]
    return chosen.clamp_min(torch.finfo(chosen.dtype).eps).log()


def _mixture(likelihoods: Tensor) -> Tensor:
    rows, count = likelihoods.shape
    shares = likelihoods.new_full((count,), 1 / count)
    for _ in range(_STEPS):
        shares = ((likelihoods + shares.log()).softmax(dim=1).sum(dim=0) + 1) / (rows + count)
    return shares


def _neighbours(task: Task, feature: Tensor, truth: Tensor) -> Tensor:
    """Return the log likelihood (N,) of each truth given the others, weighted by a softmax of similarities.

    The sharpness of the softmax is the one with the highest mean likelihood.
    """
    similarity = cosine_matrix(feature.double()).fill_diagonal_(-torch.inf)
    if task == "regression":
        values = truth.double()
        found = [_log_likelihood(task, (s * similarity).softmax(dim=1) @ values, values) for s in _SHARPNESS.tolist()]
    else:
        classes = F.one_hot(truth).double()
        found = [
            ((s * similarity).softmax(dim=1) @ classes).gather(1, truth[:, None])[:, 0].clamp_min(1e-6).log()
            for s in _SHARPNESS.tolist()
        ]
    stacked = torch.stack(found)
    return stacked[int(stacked.mean(dim=1).argmax())]


def _probability(gain: Tensor) -> float:
    """Return the probability that the mean of the gains (N,) is above 0, from its standard error."""
    error = gain.std() / len(gain) ** 0.5
    return float(torch.special.ndtr(gain.mean() / (error + _ROUNDING)))
