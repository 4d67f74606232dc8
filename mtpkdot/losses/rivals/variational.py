"""Variational information distillation (Ahn et al., CVPR 2019)."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision, Linear, mean_over_rows
from mtpkdot.losses.task import Task

FLOOR = 1e-5
"""Smallest variance, in the squared unit of the teacher's feature."""


class VariationalDistillation(FullPrecision):
    """Gaussian negative log-likelihood of the teacher's feature given the student's, a bound of mutual information.

    The loss is the mean over samples and dimensions of `log sigma_d + (t_d - mu_d(s))^2 / (2 sigma_d^2)`, without the
    constant. The mean mu is a regression on the student's feature. The variance `softplus(alpha_d)` is one learned
    number per dimension of the teacher's feature, the same for all samples. The loss may be negative; only the smallest
    allowed variance bounds it from below.

    Args:
        task: the task.
        student_dim: size of the student's feature.
        teacher_dim: size of the teacher's feature.
        hidden: size of the regressor's hidden layer with ReLU; None for a linear regressor.
        variance: initial variance, larger than 1e-5.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        task: Task,
        student_dim: int,
        teacher_dim: int,
        *,
        hidden: int | None = None,
        variance: float = 5.0,
    ) -> None:
        super().__init__(task, student_dim, teacher_dim)
        if hidden is not None and hidden < 1:
            raise ValueError(f"hidden must be at least 1 or None, not {hidden}")
        if not FLOOR < variance < math.inf:
            raise ValueError(f"variance must be finite and larger than {FLOOR}, not {variance}")
        sizes = [student_dim, teacher_dim] if hidden is None else [student_dim, hidden, teacher_dim]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [Linear(before, after), nn.ReLU()]
        self.regressor = nn.Sequential(*layers[:-1])
        start = variance - FLOOR
        self.alpha = nn.Parameter(torch.full((teacher_dim,), start + math.log(-math.expm1(-start))))

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the features; labels are not used."""
        variance = F.softplus(self.alpha.to(student.feature.dtype)) + FLOOR
        error = (self.regressor(student.feature) - teacher.feature).square()
        return mean_over_rows(0.5 * (variance.log() + error / variance))
