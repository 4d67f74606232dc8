"""Patient distillation (Sun et al., "Patient knowledge distillation for BERT model compression", EMNLP 2019)."""

from torch import Tensor

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision, adapter, mean_over_rows
from mtpkdot.losses.similarity import unit_rows
from mtpkdot.losses.task import Task


class PatientDistillation(FullPrecision):
    """Mean squared distance of the features scaled to unit length, `2 - 2 cos`, over samples.

    The paper compares several layers of equal width. Here one feature is compared, and if the sizes differ, the
    student's first passes a learned linear map. A zero feature has the distance 1 from any nonzero one, with zero
    gradient, and 0 from another zero feature.

    Args:
        task: the task.
        student_dim: size of the student's feature.
        teacher_dim: size of the teacher's feature.
    """

    def __init__(self, task: Task, student_dim: int, teacher_dim: int) -> None:
        super().__init__(task, student_dim, teacher_dim)
        self.adapter = adapter(student_dim, teacher_dim)

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the features; labels are not used."""
        difference = unit_rows(self.adapter(student.feature)) - unit_rows(teacher.feature)
        return mean_over_rows(difference.square().sum(dim=1))
