"""Calibration of outputs on held-out rows, and the likelihood of labels."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from mtpkdot.losses.task import Task, class_probabilities

_LEAST, _MOST = 0.02, 50.0  # range of inverse temperatures
_FLOOR = 1e-7  # least probability of a label, so that one sure mistake does not outweigh all else


@dataclass(frozen=True)
class Calibration:
    """Linear map of the outputs of a model: `slope * output + offset`.

    For classes and thresholds the slope is an inverse temperature (Guo et al., ICML 2017) and the offset 0; for values
    both are those of a regression of the labels on the outputs, the slope not negative.

    Attributes:
        slope: (K,) float64.
        offset: (K,) float64.

    Example:
        >>> outputs, truth = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0], [3.0], [5.0]])
        >>> Calibration.fit("regression", outputs, truth)(outputs).flatten().tolist()
        [1.0, 3.0, 5.0]
    """

    slope: Tensor
    offset: Tensor

    @classmethod
    def fit(cls, task: Task, output: Tensor, truth: Tensor) -> "Calibration":
        """Return the calibration with the highest likelihood.

        Args:
            task: the task.
            output: (N, K) outputs.
            truth: (N,) classes or (N, K) values; without rows the outputs are left unchanged.
        """
        size = output.shape[1]
        ones, zeros = torch.ones(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
        if not len(truth):
            return cls(ones, zeros)
        output, truth = output.detach().double(), truth.detach()
        if task == "regression":
            truth = truth.double()
            centred, wanted = output - output.mean(dim=0), truth - truth.mean(dim=0)
            variance = centred.square().mean(dim=0)
            flat = variance <= 1e-12 * output.square().mean(dim=0)
            slope = torch.where(flat, 0.0, (centred * wanted).mean(dim=0) / variance.masked_fill(flat, 1.0))
            slope = slope.clamp_min(0.0)
            return cls(slope, truth.mean(dim=0) - slope * output.mean(dim=0))

        def loss(exponent: float) -> float:
            return -float(log_likelihood(task, output * 10**exponent, truth).mean())

        bounds = torch.tensor([_LEAST, _MOST]).log10().tolist()
        found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
        return cls(ones * 10 ** float(found.x), zeros)

    def __call__(self, output: Tensor) -> Tensor:
        """Return the calibrated outputs (N, K), float64."""
        return self.slope * output.double() + self.offset


def unchanged(size: int) -> Calibration:
    """Return the calibration that leaves outputs (N, size) as they are."""
    return Calibration(torch.ones(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64))


def sharpening(task: Task, power: float, answers: Tensor, labels: Tensor) -> Calibration:
    """Return the map from calibrated answers to those that others learn from.

    Probabilities are raised to a power and renormalised. Values get the mean and the standard deviation of the labels,
    since the best guesses of a weak teacher lie close to the mean.

    Args:
        task: the task.
        power: the power; values ignore it.
        answers: (N, K) calibrated answers on the rows that they are for.
        labels: (L, K) values; ignored for classes.

    Example:
        >>> answers = torch.tensor([[0.9, 0.1]]).log()
        >>> sharpening("classification", 2.0, answers, torch.tensor([0]))(answers).softmax(dim=1)
        tensor([[0.9878, 0.0122]], dtype=torch.float64)
    """
    same = unchanged(answers.shape[1])
    if task != "regression":
        return Calibration(power * same.slope, same.offset)
    answers, labels = answers.double(), labels.double()
    deviation = answers.std(dim=0, unbiased=False)
    flat = deviation <= 1e-6 * answers.square().mean(dim=0).sqrt()
    slope = torch.where(flat, 1.0, labels.std(dim=0, unbiased=False) / deviation.masked_fill(flat, 1.0))
    return Calibration(slope, labels.mean(dim=0) - slope * answers.mean(dim=0))


def log_likelihood(task: Task, output: Tensor, truth: Tensor) -> Tensor:
    """Return the log likelihood (N,) of labels given calibrated outputs.

    Values are normally distributed around the output with the variance of the errors on these rows.

    Args:
        task: the task.
        output: (N, K) outputs, see `mtpkdot.losses.task`.
        truth: (N,) classes or (N, K) values.
    """
    if task == "regression":
        errors = (output.double() - truth.double()).square()
        variance = errors.mean(dim=0).clamp_min(torch.finfo(errors.dtype).tiny)
        return -0.5 * (errors / variance + variance.log()).sum(dim=1)
    chosen = class_probabilities(task, output.double()).gather(1, truth[:, None])[:, 0]
    return chosen.clamp_min(_FLOOR).log()


def held_out_score(task: Task, output: Tensor, truth: Tensor) -> float:
    """Return the mean log likelihood of labels after calibration on the same rows.

    Args:
        task: the task.
        output: (N, K) outputs.
        truth: (N,) classes or (N, K) values, at least one row.
    """
    return float(log_likelihood(task, Calibration.fit(task, output, truth)(output), truth).mean())


def mean_error(gain: Tensor, people: Tensor) -> tuple[float, float]:
    """Return the mean of the gains (N,) of rows and its standard error, with people as the unit of sampling.

    The rows of a person are not independent: the error is that of a ratio of sums over people.

    Args:
        gain: (N,) gains.
        people: (N,) numbers of the people.

    Returns:
        Mean and standard error; the error is infinite with one person.
    """
    which = torch.from_numpy(np.unique(people.numpy(), return_inverse=True)[1])
    count = int(which.max()) + 1
    mean = gain.double().mean()
    if count < 2:
        return float(mean), float("inf")
    sums = torch.zeros(count, dtype=torch.float64).index_add(0, which, gain.double() - mean)
    return float(mean), float(sums.square().sum().mul(count / (count - 1)).sqrt() / len(gain))
