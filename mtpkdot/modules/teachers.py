"""Who teaches a student, beside the multimodal and the adapted teachers themselves."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtpkdot.data.batch import Batch
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.evidence import Evidence, pool, weigh
from mtpkdot.losses.methods import TeacherKind, Term
from mtpkdot.losses.propagation import spread_labels
from mtpkdot.losses.task import Task
from mtpkdot.models.backbone import Backbone
from mtpkdot.modules.adapted import AdaptedModule
from mtpkdot.modules.backbone import BackboneModule
from mtpkdot.modules.base import load_upstream
from mtpkdot.modules.teacher import JOINT, TeacherModule


class Prepared(nn.Module):
    """Teachers that do more than answer.

    Attributes:
        trust: factor of each loss term.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust: dict[Term, float] = {}

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
    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """The spaces of a batch."""


class OwnTeacher(Prepared):
    """Self-training: the prevalent backbone teaches, and no privileged modality is seen.

    Args:
        backbone: the prevalent backbone, frozen.
        prevalent: its modality.
    """

    def __init__(self, backbone: Backbone, prevalent: str) -> None:
        super().__init__()
        self.backbone, self.prevalent = backbone, prevalent

    @property
    def space_sizes(self) -> dict[str, int]:
        """The backbone's feature."""
        return {JOINT: self.backbone.dim}

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """The backbone."""
        return {self.prevalent: [self.backbone]}

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """Feature and output of the backbone."""
        if self.prevalent in batch.encoded:
            sequence, mask = batch.encoded[self.prevalent]
        else:
            sequence, mask = self.backbone.features(batch.inputs[self.prevalent], batch.masks[self.prevalent])
        feature, output = self.backbone.read(sequence, mask)
        return {JOINT: Teacher(feature, output, batch.present(self.prevalent))}


class PooledTeachers(Prepared):
    """The multimodal and the adapted teachers as one, weighed by held-out evidence against the student that they teach.

    They teach recordings without a label alone: of the others they have seen the labels, which the student sees too.

    Args:
        adapted: the teachers.
        names: those of them that are used; None for all.

    Attributes:
        evidence: None until they are weighed; until then they teach nothing.
    """

    def __init__(self, adapted: AdaptedModule, names: Collection[str] | None = None) -> None:
        super().__init__()
        self.adapted = adapted
        self.names = [name for name in adapted.space_sizes if names is None or name in names]
        self.evidence: Evidence | None = None

    @property
    def space_sizes(self) -> dict[str, int]:
        """One space: all of them side by side."""
        return {JOINT: sum(self.adapted.space_sizes[name] for name in self.names)}

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """Those of the teachers."""
        return self.adapted.frozen_encoders(fitting)

    @torch.no_grad()
    def weigh(self, held_out: Iterable[Batch], student: Callable[[Batch], Teacher]) -> Evidence:
        """Judge the teachers.

        Args:
            held_out: the part that selects the epoch, in order.
            student: feature and output of the student as it is now.
        """
        found: dict[str, list[Teacher]] = {}
        target, labelled = [], []
        for batch in held_out:
            for name, space in {**self._members(batch), "": student(batch)}.items():
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
        own = teachers.pop("")
        return weigh(self.adapted.task, own, teachers, torch.cat(target), torch.cat(labelled))

    def adopt(self, evidence: Evidence) -> dict[str, float]:
        """Teach by this evidence from now on; returns what to log."""
        self.evidence = evidence
        structure, output = evidence.structure, evidence.output
        self.trust = {"output": output, "transport": structure, "centroid": structure}
        shares = dict(zip(self.names, evidence.shares.tolist(), strict=True))
        told = {f"share_{name}": share for name, share in shares.items()}
        return {**told, "trust_output": output, "trust_structure": structure}

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """The one space."""
        evidence = self.evidence
        if evidence is None:
            raise RuntimeError("the teachers have not been weighed: call weigh and adopt first")
        space = pool(self.adapted.task, evidence.temperatures, evidence.shares, self._members(batch))
        return {JOINT: replace(space, valid=space.valid & ~batch.labelled)}

    def _members(self, batch: Batch) -> dict[str, Teacher]:
        spaces = self.adapted.spaces(batch)
        return {name: spaces[name] for name in self.names}


class SpreadLabels(OwnTeacher):
    """Label propagation: labels spread to the other samples along similarities in the prevalent backbone's space.

    Args:
        backbone: the prevalent backbone, frozen.
        prevalent: its modality.
        task: the task.
        neighbours: of each sample in the graph.
        alpha: how far labels spread.
    """

    table: Tensor

    def __init__(
        self, backbone: Backbone, prevalent: str, task: Task, neighbours: int = 10, alpha: float = 0.95
    ) -> None:
        super().__init__(backbone, prevalent)
        self.task, self.neighbours, self.alpha = task, neighbours, alpha
        self.register_buffer("table", torch.zeros(0), persistent=False)

    @torch.no_grad()
    def prepare(self, training: Iterable[Batch]) -> None:
        """Spread the labels of the training part."""
        index, feature, target, labelled = [], [], [], []
        for batch in training:
            space = super().spaces(batch)[JOINT]
            index.append(batch.index[space.valid])
            feature.append(space.feature[space.valid])
            target.append(batch.target[space.valid])
            labelled.append(batch.labelled[space.valid])
        rows, known = torch.cat(index), torch.cat(labelled)
        answers = spread_labels(
            torch.cat(feature).double().cpu().numpy(),
            self._columns(torch.cat(target), known).cpu().numpy(),
            known.cpu().numpy(),
            self.neighbours,
            self.alpha,
        )
        outputs = self._outputs(torch.from_numpy(np.asarray(answers))).to(rows.device)
        self.table = outputs.new_zeros(int(rows.max()) + 1, outputs.shape[1]).index_copy(0, rows, outputs)

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """The backbone's feature, and the answer that has reached each training sample."""
        space = super().spaces(batch)[JOINT]
        return {JOINT: Teacher(space.feature, self.table[batch.index].to(space.output.dtype), space.valid)}

    def _columns(self, target: Tensor, known: Tensor) -> Tensor:
        outputs = self.backbone.head.out_features
        if self.task == "regression":
            return target.double()
        classes = torch.where(known, target, 0)
        if self.task == "ordinal":
            return (classes[:, None] > torch.arange(outputs, device=target.device)).double()
        return F.one_hot(classes, outputs).double()

    def _outputs(self, answers: Tensor) -> Tensor:
        if self.task == "regression":
            return answers.float()
        return (answers.logit(eps=1e-3) if self.task == "ordinal" else answers.clamp_min(1e-3).log()).float()


Teachers = TeacherModule | AdaptedModule | Prepared


def trained_backbone(checkpoint: str | None) -> Backbone:
    """The prevalent backbone that a student starts from."""
    return load_upstream(BackboneModule, checkpoint, "student.model.backbone_ckpt").backbone


def load_teachers(
    kind: TeacherKind, checkpoints: Mapping[str, str | None], names: Collection[str], prevalent: str, task: Task
) -> Teachers:
    """The teachers of a student, frozen.

    Args:
        kind: who they are.
        checkpoints: of the stages backbone, teacher and adapted.
        names: those that are pooled, where the kind is `pooled`.
        prevalent: the student's modality.
        task: the task.

    Raises:
        RunError: a checkpoint is missing or none of that stage.
    """
    if kind == "joint":
        return load_upstream(TeacherModule, checkpoints["teacher"], "student.model.teacher_ckpt")
    if kind == "own":
        return OwnTeacher(trained_backbone(checkpoints["backbone"]), prevalent)
    if kind == "spread":
        return SpreadLabels(trained_backbone(checkpoints["backbone"]), prevalent, task)
    adapted = load_upstream(AdaptedModule, checkpoints["adapted"], "student.model.adapted_ckpt")
    adapted.teacher_ckpt = checkpoints["teacher"]
    adapted.setup("predict")
    return PooledTeachers(adapted, names) if kind == "pooled" else adapted
