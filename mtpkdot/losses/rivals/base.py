"""Base of the rivals: inputs and result of a distillation loss from the literature."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, get_args

from torch import Tensor, nn

from mtpkdot.losses.task import Task


@dataclass(frozen=True)
class Seen:
    """Features and outputs of one model on the rows of a batch.

    Attributes:
        feature: (N, D) features.
        output: (N, C) logits of classes, (N, C - 1) of thresholds (ordinal), or (N, K) values.
    """

    feature: Tensor
    output: Tensor


class Rival(nn.Module):
    """Base of the distillation losses from the literature.

    Args:
        task: the task.
        student_dim: size of the student's feature.
        teacher_dim: size of the teacher's feature.

    Raises:
        ValueError: the loss is not defined for the task.

    Example:
        >>> class Lengths(Rival):
        ...     def forward(self, student, teacher, target, labelled):
        ...         return (student.feature.norm(dim=1) - teacher.feature.norm(dim=1)).square().mean()
        >>> student, teacher = Seen(torch.ones(2, 4), torch.zeros(2, 3)), Seen(torch.ones(2, 9), torch.zeros(2, 3))
        >>> Lengths("classification", 4, 9)(student, teacher, torch.tensor([0, 1]), torch.tensor([True, True]))
        tensor(1.)
    """

    tasks: ClassVar[tuple[Task, ...]] = get_args(Task)
    """Tasks that the loss is defined for."""
    weight: ClassVar[float] = 1.0
    """Weight of the loss beside the task's, unless the config says otherwise."""

    def __init__(self, task: Task, student_dim: int, teacher_dim: int) -> None:
        super().__init__()
        if task not in self.tasks:
            raise ValueError(f"{type(self).__name__} is defined for {' and '.join(self.tasks)}, not for {task}")
        self.task, self.student_dim, self.teacher_dim = task, student_dim, teacher_dim

    def forward(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            student: features and outputs of the student, with gradients.
            teacher: features and outputs of the teacher on the same rows, detached.
            target: (N,) class indices or (N, K) values. Entries of unlabelled rows are ignored.
            labelled: (N,) bool.

        Returns:
            Scalar in float32, or in float64 for float64 features; 0 with zero gradient if no rows can be compared.
        """
        raise NotImplementedError


RivalFactory = Callable[[Task, int, int], Rival]
