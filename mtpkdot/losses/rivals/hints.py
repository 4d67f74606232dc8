"""Hints (Romero et al., "FitNets: Hints for thin deep nets", ICLR 2015)."""

from typing import ClassVar

from torch import Tensor

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision, Linear, mean_over_rows
from mtpkdot.losses.task import Task


class Hints(FullPrecision):
    """Mean squared error between a learned linear map of the student's feature and the teacher's feature.

    Equation 3 has half the squared distance, which is D_t / 2 times this loss. The paper first trains the student's
    lower half on it and then the student on the task; here it is a term beside the task's.

    Args:
        task: the task.
        student_dim: size of the student's feature.
        teacher_dim: size of the teacher's feature.
    """

    weight: ClassVar[float] = 100.0  # of the comparison by Tian et al. (ICLR 2020), on feature maps

    def __init__(self, task: Task, student_dim: int, teacher_dim: int) -> None:
        super().__init__(task, student_dim, teacher_dim)
        self.regressor = Linear(student_dim, teacher_dim)

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the features; labels are not used."""
        return mean_over_rows((self.regressor(student.feature) - teacher.feature).square())
