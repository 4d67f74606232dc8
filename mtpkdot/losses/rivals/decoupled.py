"""Decoupled distillation (Zhao et al., "Decoupled knowledge distillation", CVPR 2022)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision
from mtpkdot.losses.rivals.settings import not_negative, positive
from mtpkdot.losses.task import Task


class DecoupledDistillation(FullPrecision):
    """Decoupled distillation loss `T^2 (alpha TCKD + beta NCKD)`, the mean over labelled rows.

    TCKD is the divergence of the probability of the true class against the rest, NCKD that of the probabilities among
    the rest, both softened by T. Both need the true class, so that unlabelled rows are ignored. With two classes there
    is only one other class, and NCKD is 0. The paper's warm-up of the weight over the first epochs is not part of the
    loss.

    Args:
        task: `classification`.
        student_dim: not used.
        teacher_dim: not used.
        temperature: T, > 0.
        alpha: weight of the true class against the rest.
        beta: weight of the probabilities among the rest.

    Raises:
        ValueError: the task is another one, or a setting is out of range.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("classification",)

    def __init__(
        self,
        task: Task,
        student_dim: int,
        teacher_dim: int,
        *,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
    ) -> None:
        super().__init__(task, student_dim, teacher_dim)
        positive(temperature=temperature)
        not_negative(alpha=alpha, beta=beta)
        if alpha == beta == 0:
            raise ValueError("alpha and beta must not both be 0")
        self.temperature, self.alpha, self.beta = temperature, alpha, beta

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the outputs of labelled rows."""
        if student.output.shape[1] < 2:
            return student.output.sum() * 0.0  # a single class is always predicted correctly
        # Rows are masked instead of selected: the host then need not wait for the number of labelled rows.
        true = torch.where(labelled, target, torch.zeros_like(target)).long()[:, None]
        of_student, of_teacher = (self._decouple(x / self.temperature, true) for x in (student.output, teacher.output))
        rows = self.alpha * _divergence(of_student[0], of_teacher[0])
        rows = rows + self.beta * _divergence(of_student[1], of_teacher[1])
        return self.temperature**2 * rows.where(labelled, torch.zeros_like(rows)).sum() / labelled.sum().clamp_min(1)

    @staticmethod
    def _decouple(logits: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of true class and rest (N, 2), and within the rest (N, C - 1)."""
        columns = torch.arange(logits.shape[1] - 1, device=logits.device).expand(len(logits), -1)
        rest = logits.gather(1, columns + (columns >= true))
        against = torch.cat([logits.gather(1, true), rest.logsumexp(dim=1, keepdim=True)], dim=1)
        return against.log_softmax(dim=1), rest.log_softmax(dim=1)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(student, teacher, log_target=True, reduction="none").sum(dim=1)
