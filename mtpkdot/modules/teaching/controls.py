"""Controls: teachers without a privileged modality.

The student of a control is built as every student, with T-Nets that were trained on privileged features.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mtpkdot.data.batch import Batch
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.evidence import likelier
from mtpkdot.losses.propagation import spread_labels
from mtpkdot.losses.task import Task
from mtpkdot.models.backbone import Backbone
from mtpkdot.modules.base import StageModule
from mtpkdot.modules.teacher import JOINT
from mtpkdot.modules.teaching.base import Answer, Evidence, Teachers, Upstream, compared


class BackboneTeacher(Teachers):
    """Prevalent backbone as the teacher, without a privileged modality.

    Args:
        backbone: the prevalent backbone, frozen.
        prevalent: name of its modality.
        task: the task.

    Attributes:
        table: (n, K) outputs that replace the backbone's, by the row of the data set; empty to use the backbone's own.
    """

    needs_data: ClassVar[bool] = True

    table: Tensor

    def __init__(self, backbone: Backbone, prevalent: str, task: Task) -> None:
        super().__init__()
        self.backbone, self.prevalent, self.task = backbone, prevalent, task
        self.register_buffer("table", torch.zeros(0), persistent=False)

    @classmethod
    def load(cls, upstream: Upstream) -> Self:
        """Load the prevalent backbone as the teacher."""
        return cls(upstream.backbone(), upstream.prevalent, upstream.task)

    @property
    def space_sizes(self) -> dict[str, int]:
        """Feature size of the backbone."""
        return {JOINT: self.backbone.dim}

    def frozen_encoders(self) -> dict[str, list[Backbone]]:
        """Return the backbone."""
        return {self.prevalent: [self.backbone]}

    def own(self, batch: Batch) -> Teacher:
        """Return the features and outputs of the backbone on a batch."""
        encoded = StageModule.encode(self.backbone, batch, self.prevalent)
        return Teacher(*self.backbone.read(*encoded), batch.present(self.prevalent))

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """Return the backbone's features, with its own outputs or those of `table`."""
        space = self.own(batch)
        if not len(self.table):
            return {JOINT: space}
        return {JOINT: replace(space, output=self.table[batch.index].to(space.output.dtype))}


class OwnTeacher(BackboneTeacher):
    """Self-training: the better of the prevalent backbone and the student after its warm-up, on held-out people."""

    is_weighed: ClassVar[bool] = True

    @torch.no_grad()
    def weigh_against(
        self, student: Answer, held_out: Iterable[Batch], training: Iterable[Batch], learned: bool
    ) -> Evidence:
        """Compare the student with the backbone by their likelihood on held-out samples, both calibrated.

        Returns:
            `answers`: (n, K) outputs of the student on the training part, by the row of the data set; empty if the
            backbone is the better one.
        """
        if learned:
            own, backbone, *truth = compared(held_out, student, lambda batch: {JOINT: self.own(batch)})
            learned = likelier(self.task, own, backbone[JOINT], *truth)
        if not learned:
            return {"answers": torch.zeros(0)}
        rows, outputs = [], []
        for batch in training:
            rows.append(batch.index)
            outputs.append(student(batch).output)
        return {"answers": _by_row(torch.cat(rows), torch.cat(outputs)).cpu()}

    def use(self, evidence: Evidence) -> dict[str, float]:
        """Use the outputs of the backbone, or those of the student."""
        super().use(evidence)
        self.table = evidence["answers"].to(self.table.device)
        return {"share_backbone": float(not len(self.table)), "share_student": float(len(self.table) > 0)}


class SpreadLabels(BackboneTeacher):
    """Label propagation to unlabelled samples along similarities in the prevalent backbone's feature space.

    Args:
        backbone: the prevalent backbone, frozen.
        prevalent: name of its modality.
        task: the task.
        neighbours: number of neighbours of each sample in the graph.
        alpha: how far labels spread, in (0, 1).
    """

    def __init__(
        self, backbone: Backbone, prevalent: str, task: Task, neighbours: int = 10, alpha: float = 0.95
    ) -> None:
        super().__init__(backbone, prevalent, task)
        self.neighbours, self.alpha = neighbours, alpha

    @torch.no_grad()
    def look_at(self, training: Iterable[Batch]) -> None:
        """Spread the labels of the training part."""
        index, feature, target, labelled, valid = [], [], [], [], []
        for batch in training:
            space = self.own(batch)
            index.append(batch.index)
            valid.append(space.valid)
            feature.append(space.feature[space.valid])
            target.append(batch.target[space.valid])
            labelled.append(batch.labelled[space.valid])
        rows, seen, known = torch.cat(index), torch.cat(valid), torch.cat(labelled)
        answers = spread_labels(
            torch.cat(feature).double().cpu().numpy(),
            self._columns(torch.cat(target), known).cpu().numpy(),
            known.cpu().numpy(),
            neighbours=self.neighbours,
            alpha=self.alpha,
        )
        outputs = self._outputs(torch.from_numpy(np.asarray(answers))).to(rows.device)
        # Samples without the modality get zeros: they are looked up with the others, but are not valid.
        self.table = _by_row(
            rows, outputs.new_zeros(len(rows), outputs.shape[1]).index_copy(0, seen.nonzero()[:, 0], outputs)
        )

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


def _by_row(rows: Tensor, answers: Tensor) -> Tensor:
    return answers.new_zeros(int(rows.max()) + 1, answers.shape[1]).index_copy(0, rows, answers)
