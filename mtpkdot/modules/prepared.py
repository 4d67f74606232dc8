"""Teachers that do more than answer: they look at the data, or meet the student, before they teach."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mtpkdot.data.batch import Batch
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.methods import Term
from mtpkdot.models.backbone import Backbone

Answer = Callable[[Batch], Teacher]
Found = dict[str, Any]


class Prepared(nn.Module):
    """Teachers that do more than answer.

    Attributes:
        trust: factor of each loss term.
        found: what they go by, plain data; None until they know, and till then they teach nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust: dict[Term, float] = {}
        self.found: Found | None = None

    @property
    @abstractmethod
    def space_sizes(self) -> dict[str, int]:
        """Size of the feature of every space."""

    @abstractmethod
    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """See StageModule."""

    def prepare(self, training: Iterable[Batch]) -> None:
        """Look at the training part, in order, before the training starts."""

    @abstractmethod
    def meet(self, student: Answer, held_out: Iterable[Batch], training: Iterable[Batch], learned: bool) -> Found:
        """Compare themselves with the student that they will teach.

        Args:
            student: its feature and output, as it is now.
            held_out: the part that selects the epoch, in order.
            training: the training part, in order; read only where it is needed.
            learned: whether the student has been trained at all.

        Returns:
            What to adopt: tensors and numbers, which a checkpoint holds.
        """

    def adopt(self, found: Found) -> dict[str, float]:
        """Teach by this from now on; returns what to log."""
        self.found = found
        return {}

    @abstractmethod
    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """The spaces of a batch."""


def compared(
    batches: Iterable[Batch], student: Answer, teachers: Callable[[Batch], dict[str, Teacher]]
) -> tuple[Teacher, dict[str, Teacher], Tensor, Tensor]:
    """Answers to all of the batches.

    Args:
        batches: in order.
        student: feature and output of the student.
        teachers: those of its teachers, by name.

    Returns:
        The student's answers, the teachers', the targets (N,) or (N, K), and which of them are known (N,) bool.
    """
    own: list[Teacher] = []
    others: dict[str, list[Teacher]] = {}
    target, labelled = [], []
    for batch in batches:
        own.append(student(batch))
        for name, answer in teachers(batch).items():
            others.setdefault(name, []).append(answer)
        target.append(batch.target)
        labelled.append(batch.labelled)
    return (
        _joined(own),
        {name: _joined(parts) for name, parts in others.items()},
        torch.cat(target),
        torch.cat(labelled),
    )


def _joined(parts: list[Teacher]) -> Teacher:
    return Teacher(
        torch.cat([part.feature for part in parts]),
        torch.cat([part.output for part in parts]),
        torch.cat([part.valid for part in parts]),
    )
