"""Patient distillation (Sun et al., "Patient knowledge distillation for BERT model compression", EMNLP 2019)."""

from torch import Tensor

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision, adapter, mean_over_rows
from mtpkdot.losses.similarity import unit_rows
from mtpkdot.losses.task import Task


class PatientDistillation(FullPrecision):
    """Mean over samples of the squared distance of the features brought to unit length, `2 - 2 cos`.

    The paper compares several layers of equal width. Here it is the one feature, and where the sizes differ the
    student's passes a learned linear map first. A zero feature has no direction: it is at distance 1 from any that has
    one, with zero gradient, and at 0 from another zero.

    Args:
        task: the task.
        student_dim: size of the student's feature.
        teacher_dim: size of the teacher's feature.
    """

    def __init__(self, task: Task, student_dim: int, teacher_dim: int) -> None:
        super().__init__(task, student_dim, teacher_dim)
        self.adapter = adapter(student_dim, teacher_dim)

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the features; the labels are not read."""
        difference = unit_rows(self.adapter(student.feature)) - unit_rows(teacher.feature)
        return mean_over_rows(difference.square().sum(dim=1))
