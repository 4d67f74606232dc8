"""Controls: teachers without a privileged modality, and the bound of what any teacher could give.

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
from mtpkdot.teachers.calibration import Calibration, sharpening

_SOURCES = {"backbone": False, "student": True}

_SURE = 1e4  # Logit of a probability of 1 at any temperature, and finite in half precision.


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

    def columns(self, target: Tensor, known: Tensor) -> Tensor:
        """Return targets as columns (N, K): one-hot classes, passed thresholds (0 or 1), or values.

        Args:
            target: (N,) classes or (N, K) values.
            known: (N,) bool; columns of other rows have no meaning.
        """
        if self.task == "regression":
            return target.double()
        outputs, classes = self.backbone.head.out_features, torch.where(known, target, 0)
        if self.task == "ordinal":
            return (classes[:, None] > torch.arange(outputs, device=target.device)).double()
        return F.one_hot(classes, outputs).double()


class OwnTeacher(BackboneTeacher):
    """Self-training: the better of the prevalent backbone and the student after its warm-up, on held-out people.

    Its answers are calibrated on held-out people and then sharpened, or spread like the labels, as those of the pool of
    mtpkdot_plus are. They teach rows without a label.
    """

    needs_unlabelled: ClassVar[bool] = True
    is_weighed: ClassVar[bool] = True
    levels_output: ClassVar[bool] = True
    keeps_better: ClassVar[bool] = True
    power: ClassVar[float] = 2.0

    @torch.no_grad()
    def weigh_against(
        self, student: Answer, held_out: Iterable[Batch], training: Iterable[Batch], learned: bool
    ) -> Evidence:
        """Compare the student with the backbone by their likelihood on held-out samples, both calibrated.

        Returns:
            `answers`: (n, K) answers of the better one on the training part, by the row of the data set; and
            `of_student`, True if that is the student.
        """
        own, backbone, target, labelled = compared(held_out, student, lambda batch: {JOINT: self.own(batch)})
        learned = learned and likelier(self.task, own, backbone[JOINT], target=target, labelled=labelled)
        better, answer = (own, student) if learned else (backbone[JOINT], self.own)
        seen = labelled & better.valid
        calibration = Calibration.fit(self.task, better.output[seen].cpu(), target[seen].cpu())
        rows, outputs, labels, taught = [], [], [], []
        for batch in training:
            given = answer(batch)
            rows.append(batch.index)
            outputs.append(calibration(given.output.cpu()))
            labels.append(batch.target[batch.labelled].cpu())
            taught.append((given.valid & ~batch.labelled).cpu())
        answers, unlabelled = torch.cat(outputs), torch.cat(taught)
        sharpen = sharpening(self.task, self.power, answers[unlabelled], torch.cat(labels))
        return {"answers": _by_row(torch.cat(rows).cpu(), sharpen(answers).float()), "of_student": learned}

    def use(self, evidence: Evidence) -> dict[str, float]:
        """Use the answers, and return the source of them for the log."""
        super().use(evidence)
        self.table = evidence["answers"].to(self.table.device)
        return {f"share_{name}": float(of == evidence["of_student"]) for name, of in _SOURCES.items()}

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """Return the backbone's features with the answers, valid on rows without a label."""
        space = super().spaces(batch)[JOINT]
        return {JOINT: replace(space, valid=space.valid & ~batch.labelled)}


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
            self.columns(torch.cat(target), known).cpu().numpy(),
            known.cpu().numpy(),
            neighbours=self.neighbours,
            alpha=self.alpha,
        )
        outputs = self._outputs(torch.from_numpy(np.asarray(answers))).to(rows.device)
        # Samples without the modality get zeros: they are looked up with the others, but are not valid.
        self.table = _by_row(
            rows, outputs.new_zeros(len(rows), outputs.shape[1]).index_copy(0, seen.nonzero()[:, 0], outputs)
        )

    def _outputs(self, answers: Tensor) -> Tensor:
        if self.task == "regression":
            return answers.float()
        return (answers.logit(eps=1e-3) if self.task == "ordinal" else answers.clamp_min(1e-3).log()).float()


class HiddenLabels(BackboneTeacher):
    """Oracle: the true labels that the data hide from training, as answers that are sure and never wrong.

    It bounds what teachers could give the same student through the same loss, and is no method to use. Recordings whose
    label is not known to anybody are not taught. Start, warm-up and weights are those of `mtpkdot_plus`.

    Attributes:
        known: (n,) 1 for rows of the data set with a label, hidden or not; empty before `look_at`.
    """

    sees_hidden: ClassVar[bool] = True
    is_weighed: ClassVar[bool] = True  # for the warm-up: there is nothing to weigh
    levels_output: ClassVar[bool] = True
    keeps_better: ClassVar[bool] = True

    known: Tensor

    def __init__(self, backbone: Backbone, prevalent: str, task: Task) -> None:
        super().__init__(backbone, prevalent, task)
        self.register_buffer("known", torch.zeros(0), persistent=False)  # not bool, for averages of weights

    def look_at(self, training: Iterable[Batch]) -> None:
        """Read the true labels of the training part, those of `mtpkdot.data.BaseData.revealed_loader`."""
        rows, target, known = (
            torch.cat(parts) for parts in zip(*((b.index, b.target, b.labelled) for b in training), strict=True)
        )
        answers = self.columns(target, known)
        if self.task == "classification":
            answers = _SURE * answers
        elif self.task == "ordinal":
            answers = _SURE * (2 * answers - 1)
        answers = torch.where(known[:, None], answers, 0.0).float()
        self.table, self.known = _by_row(rows, answers), _by_row(rows, known[:, None].float())[:, 0]

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """Return the backbone's features with the true answers, valid on rows whose label is hidden."""
        space = super().spaces(batch)[JOINT]
        return {JOINT: replace(space, valid=space.valid & (self.known[batch.index] > 0) & ~batch.labelled)}


def _by_row(rows: Tensor, answers: Tensor) -> Tensor:
    return answers.new_zeros(int(rows.max()) + 1, answers.shape[1]).index_copy(0, rows, answers)
