"""Generalized distillation (Lopez-Paz et al., "Unifying distillation and privileged information", ICLR 2016)."""

import torch.nn.functional as F
from torch import Tensor

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision, mean_over_rows
from mtpkdot.losses.rivals.settings import positive
from mtpkdot.losses.task import Task


class GeneralizedDistillation(FullPrecision):
    """Cross-entropy of the student's prediction, not softened, to the teacher's prediction softened by T.

    Unlike in `LogitDistillation` the student is not softened and there is no factor T^2. The loss of a student that is
    equal to the softened teacher is the entropy of that prediction, not 0. Ordered classes have the mean binary
    cross-entropy of the thresholds. Values have the mean squared error in their own unit, without softening.

    The paper mixes `(1 - lambda)` of the task's loss with `lambda` of this one. The imitation weight lambda is the
    weight of this term in the configuration, where the task has a weight of its own.

    Args:
        task: the task.
        student_dim: not used.
        teacher_dim: not used.
        temperature: T, > 0.

    Raises:
        ValueError: the temperature is out of range.
    """

    def __init__(self, task: Task, student_dim: int, teacher_dim: int, *, temperature: float = 2.0) -> None:
        super().__init__(task, student_dim, teacher_dim)
        positive(temperature=temperature)
        self.temperature = temperature

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the outputs; labels are not used."""
        output, taught = student.output, teacher.output
        if self.task == "regression":
            return mean_over_rows((output - taught).square())
        softened = taught / self.temperature
        if self.task == "ordinal":
            rows = F.binary_cross_entropy_with_logits(output, softened.sigmoid(), reduction="none")
            return mean_over_rows(rows)
        return mean_over_rows(-(softened.softmax(dim=1) * output.log_softmax(dim=1)).sum(dim=1))
