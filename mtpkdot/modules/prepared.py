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
    def meet(self, student: Answer, held_out: Iterable[Batch], training: Iterable[Batch]) -> Found:
        """Compare themselves with the student that they will teach.

        Args:
            student: its feature and output, as it is now.
            held_out: the part that selects the epoch, in order.
            training: the training part, in order.

        Returns:
            What to adopt.
        """

    def adopt(self, found: Found) -> dict[str, float]:
        """Teach by this from now on; returns what to log."""
        self.found = found
        return {}

    @abstractmethod
    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """The spaces of a batch."""


def compared(
    batches: Iterable[Batch], answer: Callable[[Batch], dict[str, Teacher]]
) -> tuple[dict[str, Teacher], Tensor, Tensor]:
    """Answers to all of the batches.

    Args:
        batches: in order.
        answer: features and outputs, by name.

    Returns:
        The answers by name, the targets (N,) or (N, K), and which of them are known (N,).
    """
    found: dict[str, list[Teacher]] = {}
    target, labelled = [], []
    for batch in batches:
        for name, space in answer(batch).items():
            found.setdefault(name, []).append(space)
        target.append(batch.target)
        labelled.append(batch.labelled)
    teachers = {
        name: Teacher(
            torch.cat([part.feature for part in parts]),
            torch.cat([part.output for part in parts]),
            torch.cat([part.valid for part in parts]),
        )
        for name, parts in found.items()
    }
    return teachers, torch.cat(target), torch.cat(labelled)
