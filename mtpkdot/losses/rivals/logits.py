"""Distillation of softened outputs (Hinton, Vinyals and Dean, arXiv 1503.02531)."""

import torch
from torch import Tensor

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision
from mtpkdot.losses.rivals.settings import positive
from mtpkdot.losses.task import Task, output_loss


class LogitDistillation(FullPrecision):
    """Divergence `T^2 KL(teacher || student)` of outputs softened by T (section 2); mean over thresholds if ordinal.

    Values have no softened distribution. They are compared by their mean squared error, each target in units of the
    standard deviation of the teacher's predictions within the batch, so that the loss does not depend on the targets'
    unit. A target whose predictions are constant within the batch, or nearly so compared with the student's distance
    from them, is compared in its own unit.

    Args:
        task: the task.
        student_dim: not used.
        teacher_dim: not used.
        temperature: T, > 0.

    Raises:
        ValueError: the temperature is out of range.
    """

    def __init__(self, task: Task, student_dim: int, teacher_dim: int, *, temperature: float = 4.0) -> None:
        super().__init__(task, student_dim, teacher_dim)
        positive(temperature=temperature)
        self.temperature = temperature

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the outputs; labels are not used."""
        scale = unit(student.output, teacher.output) if self.task == "regression" else 1.0
        return output_loss(
            self.task,
            student.output,
            teacher=teacher.output,
            valid=torch.ones_like(labelled),
            temperature=self.temperature,
            scale=scale,
        )


def unit(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the unit (K,) in which values (N, K) are compared: the teacher's population standard deviation per column.

    It is 1 for a column that is constant in the teacher, up to rounding or to a thousandth of the student's distance.
    """
    rows = max(len(teacher), 1)
    centre = teacher.sum(dim=0) / rows
    variance = (teacher - centre).square().sum(dim=0) / rows
    distance = (student.detach() - centre).square().sum(dim=0) / rows
    # The rounding error of constants is relative to the size of the values.
    rounding = 64 * torch.finfo(teacher.dtype).eps ** 2 * teacher.square().sum(dim=0) / rows
    smallest = torch.maximum(rounding, 1e-6 * distance).clamp_min(torch.finfo(teacher.dtype).tiny)
    return variance.where(variance > smallest, torch.ones_like(variance)).sqrt()
