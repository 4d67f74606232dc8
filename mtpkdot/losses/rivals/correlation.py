"""Correlation congruence (Peng et al., "Correlation congruence for knowledge distillation", ICCV 2019)."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision
from mtpkdot.losses.rivals.settings import positive
from mtpkdot.losses.similarity import unit_rows
from mtpkdot.losses.task import Task


class CorrelationCongruence(FullPrecision):
    """Mean squared difference of the correlation matrices of the batch under a Gaussian kernel.

    On features of unit length the kernel `exp(-gamma |x - y|^2)` is `exp(-2 gamma) exp(2 gamma x.y)`, whose second
    factor is expanded as a Taylor series, `sum_p (2 gamma)^p / p! (x.y)^p` for p up to the order. The paper adds a
    sampler of batches and the divergence of the outputs, which are not part of this term. A zero feature is treated as
    orthogonal to all others.

    Args:
        task: the task.
        student_dim: not used.
        teacher_dim: not used.
        gamma: inverse width of the kernel, > 0.
        order: order of the expansion, at least 1.

    Raises:
        ValueError: a setting is out of range.
    """

    weight: ClassVar[float] = 0.02  # of the comparison by Tian et al. (ICLR 2020), on feature maps

    def __init__(self, task: Task, student_dim: int, teacher_dim: int, *, gamma: float = 0.4, order: int = 2) -> None:
        super().__init__(task, student_dim, teacher_dim)
        positive(gamma=gamma)
        if order < 1:
            raise ValueError(f"order must be at least 1, not {order}")
        self.gamma, self.order = gamma, order

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the features; labels are not used."""
        difference = self._kernel(student.feature) - self._kernel(teacher.feature)
        return difference.square().sum() / max(difference.numel(), 1)

    def _kernel(self, feature: Tensor) -> Tensor:
        unit = unit_rows(feature)
        exponent = 2 * self.gamma * (unit @ unit.T)
        series = torch.ones_like(exponent)
        for p in range(self.order, 0, -1):  # Horner's scheme
            series = 1 + series * exponent / p
        return math.exp(-2 * self.gamma) * series
