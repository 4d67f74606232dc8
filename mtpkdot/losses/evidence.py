"""What held-out samples say of teachers: how to calibrate and weigh them, and how far to trust them.

Teachers are trained on the labels that they are to pass on, so that their training losses say little. Samples of people
that no stage was trained on, those that select the epoch, say more.
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
_SHARPNESS = torch.logspace(0, 2.5, 26, dtype=torch.float64)  # of the softmax over similarities
_STEPS = 100
_JUDGED = 4000  # rows that the nearest-neighbour rule is judged on, which costs their square
_ROUNDING = 1e-6  # of log likelihoods that have been float32


@dataclass(frozen=True)
class Evidence:
    """What is known of teachers from held-out samples.

    Attributes:
        temperatures: (T,) by which each teacher's outputs are divided to be calibrated (Guo et al., ICML 2017); 1 for
            values.
        shares: (T,) not negative, sum 1: of each teacher in the pool.
        output: probability, in [0, 1], that the pool answers better than the student.
        structure: the same of the similarities in the pool's space, as a nearest-neighbour rule, on at most 4,000 rows.
    """

    temperatures: Tensor
    shares: Tensor
    output: float
    structure: float


def weigh(task: Task, own: Teacher, teachers: Mapping[str, Teacher], target: Tensor, labelled: Tensor) -> Evidence:
    """Judge teachers on held-out samples.

    The shares are those of a mixture, the likeliest on the samples with a prior of one sample for each teacher (by
    expectation maximisation).

    Args:
        task: the task.
        own: features and outputs of the student.
        teachers: by name, on the same N rows.
        target: (N,) classes or (N, K) values.
        labelled: (N,) bool.

    Returns:
        The evidence; equal shares, a trust of a half and a warning if fewer than two labelled rows are seen by all.
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
    # Evenly over all of them: the steps of a video lie side by side.
    some = slice(None, None, -(-rows // _JUDGED))
    near = _neighbours(task, answers.feature[seen][some], truth[some])
    near = near - _neighbours(task, own.feature[seen][some], truth[some])
    return Evidence(temperatures.float(), shares.float(), _probability(gain), _probability(near))


def likelier(task: Task, own: Teacher, other: Teacher, target: Tensor, labelled: Tensor) -> bool:
    """Whether the first of two answers better on held-out samples, each calibrated on them.

    Args:
        task: the task.
        own: outputs (N, K); features are not read.
        other: the same, on the same rows.
        target: (N,) classes or (N, K) values.
        labelled: (N,) bool.

    Returns:
        False as well if no labelled row is seen by both, or if an output is not finite.
    """
    seen = labelled & own.valid & other.valid
    gain = _calibrated(task, own.output[seen], target[seen]) - _calibrated(task, other.output[seen], target[seen])
    return bool(gain.mean() > 0) if len(gain) else False


def pool(task: Task, temperatures: Tensor, shares: Tensor, teachers: Mapping[str, Teacher]) -> Teacher:
    """Several teachers as one.

    Args:
        task: the task.
        temperatures: (T,) see `Evidence`.
        shares: (T,) see `Evidence`.
        teachers: by name.

    Returns:
        Its output is the mean of the calibrated ones, as logits or values, over the teachers that see a row. Its
        feature (N, sum of D_t) is theirs side by side, scaled so that its cosine similarity is the mean of theirs.
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
    """Which makes the truth likeliest, scalar float64."""
    if task == "regression":
        return torch.ones((), dtype=torch.float64)
    grid = _TEMPERATURES.to(output.device)
    likelihood = torch.stack([_log_likelihood(task, output.double() / t, truth).mean() for t in grid])
    return grid[int(likelihood.argmax())]


def _calibrated(task: Task, output: Tensor, truth: Tensor) -> Tensor:
    """(N,) log likelihood of the truth at the temperature that suits it best."""
    return _log_likelihood(task, output.double() / _temperature(task, output, truth), truth)


def _log_likelihood(task: Task, output: Tensor, truth: Tensor) -> Tensor:
    """(N,) of the truth; values are taken as normal, with the variance of the errors."""
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
    """(N,) log likelihood of each truth given the others, weighed by similarity; the sharpness is the likeliest."""
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
    """That the mean gain (N,) is above 0, by its standard error."""
    error = gain.std() / len(gain) ** 0.5
    return float(torch.special.ndtr(gain.mean() / (error + _ROUNDING)))
