"""Distillation weighted by the teacher's concordance (M2PKD: Aslam et al., CVPR Workshops 2023).

Aslam et al., "Privileged knowledge distillation for dimensional emotion recognition in the wild".
"""

from typing import ClassVar

from torch import Tensor

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision, adapter, mean_over_rows
from mtpkdot.losses.similarity import unit_rows
from mtpkdot.losses.task import Task, concordance


class CCCWeighted(FullPrecision):
    """Mean cosine distance of the features, weighted by the concordance of the teacher's predictions with the labels.

    The weight is the mean over targets of the teacher's CCC on the labelled rows of the batch, each clamped to [0, 1],
    and applies to the unlabelled rows of the batch as well. It is 0 with fewer than two labelled rows. If the sizes
    differ, the student's feature first passes a learned linear map. A zero feature has the distance 1 from every other,
    with zero gradient.

    This follows the paper's abstract and secondary descriptions, as its full text was not available: equations,
    normalisation and the compared layer may differ.

    Args:
        task: `regression`.
        student_dim: size of the student's feature.
        teacher_dim: size of the teacher's feature.

    Raises:
        ValueError: the task is another one.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("regression",)

    def __init__(self, task: Task, student_dim: int, teacher_dim: int) -> None:
        super().__init__(task, student_dim, teacher_dim)
        self.adapter = adapter(student_dim, teacher_dim)

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the features, weighted by the teacher's concordance on labelled rows."""
        cosine = (unit_rows(self.adapter(student.feature)) * unit_rows(teacher.feature)).sum(dim=1)
        return self._weight(teacher.output, target, labelled) * mean_over_rows(1 - cosine)

    @staticmethod
    def _weight(answers: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        known = answers[labelled]
        if len(known) < 2:
            return answers.new_zeros(())
        return concordance(known, target[labelled].to(known.dtype)).clamp(0, 1).mean()
