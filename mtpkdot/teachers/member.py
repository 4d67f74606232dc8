"""Base of the members of a pool that are fitted in one go, without batches."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mtpkdot.losses.task import Task, class_probabilities
from mtpkdot.teachers.rows import Rows


@dataclass(frozen=True)
class Targets:
    """Targets of a member on the training rows.

    Attributes:
        columns: (N, K) float64: probabilities of classes, of passed thresholds (ordinal), or values.
        weight: (N,) float64 weight of every row; 0 for rows without a target.
    """

    columns: Tensor
    weight: Tensor

    @classmethod
    def of_labels(cls, task: Task, rows: Rows, size: int) -> "Targets":
        """Return the labels of the rows as targets.

        Args:
            task: the task.
            rows: the rows.
            size: number of outputs.
        """
        if task == "regression":
            columns = torch.where(rows.labelled[:, None], rows.target.double(), 0.0)
        else:
            classes = torch.where(rows.labelled, rows.target, 0)
            if task == "ordinal":
                columns = (classes[:, None] > torch.arange(size)).double()
            else:
                columns = F.one_hot(classes, size).double()
        return cls(columns, rows.labelled.double())

    def with_answers(self, task: Task, output: Tensor, valid: Tensor) -> "Targets":
        """Return these targets, with the answers of a teacher on rows that have none.

        Args:
            task: the task.
            output: (N, K) outputs of the teacher.
            valid: (N,) bool, True where it has an answer.
        """
        taught = valid & (self.weight == 0)
        answers = output.double()
        if task == "classification":
            answers = class_probabilities(task, answers)
        elif task == "ordinal":
            answers = answers.sigmoid()
        return Targets(
            torch.where(taught[:, None], answers, self.columns), torch.where(taught, 1.0, self.weight).double()
        )


class Member(ABC):
    """Base of the members of a pool. A subclass takes its settings after `modalities`.

    Args:
        modalities: modalities that it reads.

    Attributes:
        learns_from_answers: True if it learns in the second round from the answers of the first pool as well.

    Example:
        >>> class Prior(Member):
        ...     def fit(self, task, training, targets, held_out):
        ...         mean = (targets.columns * targets.weight[:, None]).sum(dim=0) / targets.weight.sum()
        ...         self.state = {"output": mean.clamp_min(1e-3).log()}
        ...         return self.output(training)
        ...
        ...     def output(self, rows):
        ...         return self.state["output"].expand(len(rows), -1)
        >>> rows = Rows.of({"face": torch.zeros(4, 2)}, torch.tensor([0, 0, 0, 1]))
        >>> member = Prior(["face"])
        >>> output = member.fit("classification", rows, Targets.of_labels("classification", rows, 2), rows)
        >>> output.exp()[0].tolist()
        [0.75, 0.25]
    """

    learns_from_answers: ClassVar[bool] = False

    def __init__(self, modalities: Sequence[str]) -> None:
        self.modalities = list(modalities)
        self.state: dict[str, Tensor] = {}
        """Everything that `fit` has learned, tensors by name; stored in the checkpoint."""

    @abstractmethod
    def fit(self, task: Task, training: Rows, targets: Targets, held_out: Rows) -> Tensor:
        """Learn from the training rows, and set `state`.

        Args:
            task: the task.
            training: the training rows, N.
            targets: their targets; rows of weight 0 have none.
            held_out: rows of other people, all with a label, for the choice of settings.

        Returns:
            The outputs (N, K) on the training rows.
        """

    @abstractmethod
    def output(self, rows: Rows) -> Tensor:
        """Return outputs (N, K), see `mtpkdot.losses.task`; arbitrary where none of its modalities is present."""


MemberFactory = Callable[[Sequence[str]], Member]
