"""Who teaches a student, and what teachers may do beside answering."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from mtpkdot.data.batch import Batch
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.task import Task
from mtpkdot.losses.weighting import Term
from mtpkdot.models.backbone import Backbone
from mtpkdot.modules.backbone import BackboneModule
from mtpkdot.modules.base import load_upstream

Answer = Callable[[Batch], Teacher]
Evidence = dict[str, Any]  # plain data, which a checkpoint holds


@dataclass(frozen=True)
class Upstream:
    """Where teachers come from.

    Attributes:
        checkpoints: path per earlier stage: `backbone` (the prevalent one), `teacher`, `adapted`.
        names: names of the teachers that are used, where they are a choice.
        prevalent: the student's modality.
        task: the task.
    """

    checkpoints: Mapping[str, str | None]
    names: Collection[str]
    prevalent: str
    task: Task

    def backbone(self) -> Backbone:
        """Return the trained prevalent backbone, frozen.

        Raises:
            RunError: there is no such checkpoint.
        """
        return load_upstream(BackboneModule, self.checkpoints["backbone"], "student.model.backbone_ckpt").backbone


class Teachers(nn.Module):
    """Base of those who teach a student: one or several frozen models, each a space of features and outputs.

    Their life cycle is kept by `mtpkdot.modules.teaching.lifecycle.Teaching`: they are loaded (`load`); see the
    training part once before it begins (`look_at`); are compared with the student once it has learned from labels
    (`weigh_against`), where they ask for it; and use the evidence of that from then on (`use`), also after a training
    is resumed.

    Attributes:
        trust: factor of each loss term; 1 for those that are not in it.
        evidence: what they are weighed by; None before.
    """

    stages: ClassVar[tuple[str, ...]] = ()
    """Earlier stages whose checkpoints are needed, beside the prevalent backbone."""
    is_choice: ClassVar[bool] = False
    """Whether `student.model.teachers` may name some of them."""
    pooled: ClassVar[bool] = False
    """Whether all of them are one space."""
    needs_data: ClassVar[bool] = False
    """Whether they look at the training part, or are weighed by the held-out part."""
    is_weighed: ClassVar[bool] = False
    """Whether they teach nothing before they are weighed against the student."""
    levels_output: ClassVar[bool] = False
    """Whether the weight of the term `output` is raised until rows without a label count no less than others."""
    keeps_better: ClassVar[bool] = False
    """Whether the prevalent backbone is handed on where no epoch of the student is better on held-out people."""

    def __init__(self) -> None:
        super().__init__()
        self.trust: dict[Term, float] = {}
        self.evidence: Evidence | None = None

    @classmethod
    @abstractmethod
    def load(cls, upstream: Upstream) -> Self:
        """Return the teachers, frozen.

        Raises:
            RunError: a checkpoint is missing or none of that stage.
        """

    @property
    @abstractmethod
    def space_sizes(self) -> dict[str, int]:
        """Size of the feature of every space."""

    @abstractmethod
    def frozen_encoders(self) -> dict[str, list[Backbone]]:
        """Return the backbones that read each modality, see StageModule."""

    @abstractmethod
    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """Return the feature (N, D), output and validity (N,) of every space on a batch."""

    def look_at(self, training: Iterable[Batch]) -> None:
        """Look at the training part, in order, before the training starts."""

    def weigh_against(
        self, student: Answer, held_out: Iterable[Batch], training: Iterable[Batch], learned: bool
    ) -> Evidence:
        """Compare the teachers with the student that they are to teach.

        Args:
            student: returns its feature and output on a batch, as it is now.
            held_out: the part that selects the epoch, in order.
            training: the training part, in order; read only where it is needed.
            learned: whether the student has been trained at all.

        Returns:
            The evidence to use: tensors and numbers.
        """
        return {}

    def use(self, evidence: Evidence) -> dict[str, float]:
        """Teach by this evidence from now on; returns values to log."""
        self.evidence = evidence
        return {}


def compared(
    batches: Iterable[Batch], student: Answer, teachers: Callable[[Batch], dict[str, Teacher]]
) -> tuple[Teacher, dict[str, Teacher], Tensor, Tensor]:
    """Collect the answers to all of the batches.

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
