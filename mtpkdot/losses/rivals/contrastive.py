"""Contrastive distillation (Tian et al., "Contrastive representation distillation", ICLR 2020)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision, Linear, mean_over_rows
from mtpkdot.losses.rivals.settings import positive
from mtpkdot.losses.similarity import unit_rows
from mtpkdot.losses.task import Task


class ContrastiveDistillation(FullPrecision):
    """InfoNCE between learned unit projections of both features, with the batch as negatives.

    The paper draws thousands of negatives from a memory bank of past projections, scores every pair separately (noise
    contrastive estimation) and can exclude negatives of the sample's own class. Here the negatives are the current
    projections of the other B - 1 rows of the batch, a cross-entropy scores the pairs of a row together, and classes
    are ignored. Both are bounds of the mutual information; this one cannot exceed log B. The loss is the mean of both
    directions, student to teacher and teacher to student.

    Args:
        task: the task.
        student_dim: size of the student's feature.
        teacher_dim: size of the teacher's feature.
        temperature: divisor of the cosines, > 0.
        dim: size of the projections, at least 1.

    Raises:
        ValueError: a setting is out of range.
    """

    weight: ClassVar[float] = 0.8  # of the comparison by Tian et al. (ICLR 2020), on feature maps

    def __init__(
        self, task: Task, student_dim: int, teacher_dim: int, *, temperature: float = 0.07, dim: int = 128
    ) -> None:
        super().__init__(task, student_dim, teacher_dim)
        positive(temperature=temperature)
        if dim < 1:
            raise ValueError(f"dim must be at least 1, not {dim}")
        self.temperature = temperature
        self.student_head, self.teacher_head = Linear(student_dim, dim), Linear(teacher_dim, dim)

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the features; labels are not used."""
        of_student = unit_rows(self.student_head(student.feature))
        of_teacher = unit_rows(self.teacher_head(teacher.feature))
        logits = of_student @ of_teacher.T / self.temperature
        own = torch.arange(len(logits), device=logits.device)
        both = torch.cat([F.cross_entropy(way, own, reduction="none") for way in (logits, logits.T)])
        return mean_over_rows(both)
