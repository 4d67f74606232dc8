"""Base of the teachers of a student, with the hooks of their life cycle."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import Batch
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.task import Task
from mtpkdot.losses.weighting import Term
from mtpkdot.models.backbone import Backbone
from mtpkdot.modules.backbone import BackboneModule
from mtpkdot.modules.base import load_upstream

Answer = Callable[[Batch], Teacher]
Evidence = dict[str, Any]  # plain data, stored in checkpoints


@dataclass(frozen=True)
class Upstream:
    """Earlier stages that the teachers are loaded from.

    Attributes:
        checkpoints: path of the checkpoint per stage: `backbone` (the prevalent one), `teacher`, `adapted`.
        names: names of the teachers to use, for methods with a choice of teachers.
        prevalent: name of the student's modality.
        task: the task.
    """

    checkpoints: Mapping[str, str | None]
    names: Collection[str]
    prevalent: str
    task: Task

    def backbone(self) -> Backbone:
        """Load the trained prevalent backbone, frozen.

        Raises:
            RunError: the checkpoint is missing or not that of a backbone.
        """
        return load_upstream(BackboneModule, self.checkpoints["backbone"], "student.model.backbone_ckpt").backbone


class Teachers(nn.Module):
    """Base of the teachers of a student: one or several frozen models, each with a space of features and outputs.

    `mtpkdot.modules.teaching.lifecycle.Teaching` runs their life cycle: they are loaded (`load`); read the training
    part once before the training (`look_at`); are compared with the student after its warm-up (`weigh_against`), if
    `is_weighed`; and use the resulting evidence from then on (`use`), also after the training is resumed.

    Attributes:
        trust: factor of each loss term; 1 for terms that are missing.
        evidence: evidence in use; None before the teachers are weighed.
    """

    stages: ClassVar[tuple[str, ...]] = ()
    """Earlier stages whose checkpoints are needed, in addition to the prevalent backbone."""
    is_choice: ClassVar[bool] = False
    """True if `student.model.teachers` may select some of them."""
    pooled: ClassVar[bool] = False
    """True if all of them form one space."""
    needs_data: ClassVar[bool] = False
    """True if they need the training part or the held-out part of the data."""
    is_weighed: ClassVar[bool] = False
    """True if they are weighed against the student, and teach only after that."""
    needs_unlabelled: ClassVar[bool] = False
    """True if they teach rows without a label only, and the method is `none` if there are no such rows."""
    levels_output: ClassVar[bool] = False
    """True to raise the weight of the term `output` until unlabelled rows have at least the weight of labelled ones."""
    sees_hidden: ClassVar[bool] = False
    """True for a bound that is no method to use: `look_at` then reads the labels that the data hide as well."""
    keeps_better: ClassVar[bool] = False
    """True to keep the prevalent backbone as the final model if no epoch is better on held-out people."""

    def __init__(self) -> None:
        super().__init__()
        self.trust: dict[Term, float] = {}
        self.evidence: Evidence | None = None

    @classmethod
    @abstractmethod
    def load(cls, upstream: Upstream) -> Self:
        """Load the teachers, frozen.

        Raises:
            RunError: a checkpoint is missing or not that of the stage.
        """

    @property
    @abstractmethod
    def space_sizes(self) -> dict[str, int]:
        """Feature size of every space."""

    @abstractmethod
    def frozen_encoders(self) -> dict[str, list[Backbone]]:
        """Return the frozen backbones per modality, see StageModule."""

    @abstractmethod
    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """Return the features (N, D), outputs (N, num_outputs) and validity (N,) bool of every space on a batch.

        N is the number of samples, or of steps if every step has a target. One space is named `joint`: it teaches rows
        without a label, unless the config names another selection, and rivals compare with it.
        """

    def check_data(self, data: BaseData) -> None:
        """Check that the teachers were made for the data.

        Args:
            data: data of the student's training.

        Raises:
            RunError: they were not.
        """

    def look_at(self, training: Iterable[Batch]) -> None:
        """Read the training part, in order, before the training starts."""

    def weigh_against(
        self, student: Answer, held_out: Iterable[Batch], training: Iterable[Batch], learned: bool
    ) -> Evidence:
        """Compare the teachers with the student that they are to teach.

        Args:
            student: function that returns the features and outputs of the current student on a batch.
            held_out: batches of the part that selects the epoch, in order.
            training: batches of the training part, in order; read only if needed.
            learned: whether the student has been trained at all.

        Returns:
            The evidence for `use`, tensors and numbers.
        """
        return {}

    def use(self, evidence: Evidence) -> dict[str, float]:
        """Use evidence from now on, and return values to log."""
        self.evidence = evidence
        return {}


def compared(
    batches: Iterable[Batch], student: Answer, teachers: Callable[[Batch], dict[str, Teacher]]
) -> tuple[Teacher, dict[str, Teacher], Tensor, Tensor]:
    """Collect the features and outputs of student and teachers on all batches.

    Args:
        batches: batches, in order.
        student: function that returns the features and outputs of the student on a batch.
        teachers: function that returns those of the teachers, by name.

    Returns:
        The student, the teachers by name, the targets (N,) or (N, K), and the mask (N,) of labelled rows.
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
