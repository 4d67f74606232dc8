"""Parts of a user's own: encoder, fusion, T-Net, structural loss, selection, rival, method and member of the pool."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mtpkdot.data import Batch
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.rivals import Rival, Seen
from mtpkdot.losses.selection import Selection, Shares
from mtpkdot.losses.structure import StructuralLoss, Structure
from mtpkdot.losses.task import Task
from mtpkdot.models import Backbone, Encoder, Fusion, Steps, TNet, masked_mean
from mtpkdot.modules import TeacherModule, load_upstream
from mtpkdot.modules.teaching import Method, Teachers, Upstream
from mtpkdot.teachers import Member, Rows, Targets


class Differences(Encoder):
    """Every step beside its difference from the one before."""

    def __init__(self, steps: Steps, dim: int = 16) -> None:
        super().__init__(steps, dim)
        self.layer = nn.Linear(2 * steps.shape[0], dim)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.where(mask[:, :, None], x, 0.0)
        return self.layer(torch.cat([x, x - x.roll(1, dims=1)], dim=2)).relu(), mask


class Beside(Fusion):
    """One linear layer on all pooled features; an absent modality is zeros."""

    def __init__(self, dims: dict[str, int], per_step: bool = False, dim: int = 16) -> None:
        super().__init__(dims, per_step, dim)
        self.layer = nn.Linear(sum(dims.values()), dim)

    def forward(self, features: dict[str, Tensor], masks: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        pooled = [masked_mean(features[name], masks[name]) for name in self.modalities]
        present = torch.stack([masks[name].any(dim=1) for name in self.modalities], dim=1).float()
        return self.layer(torch.cat(pooled, dim=1)).tanh(), present / present.sum(dim=1, keepdim=True).clamp_min(1)


class Affine(TNet):
    """One linear layer."""

    def __init__(self, in_dim: int, out_dim: int, bias: bool = True) -> None:
        super().__init__(in_dim, out_dim)
        self.layer = nn.Linear(in_dim, out_dim, bias)

    def forward(self, feature: Tensor) -> Tensor:
        return self.layer(feature)


class Gram(StructuralLoss):
    """Squared difference between the matrices of cosines."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, student, teacher, weights=None, past=None):
        own, theirs = normalize(student, dim=1), normalize(teacher.detach(), dim=1)
        distance = self.factor * (own @ own.T - theirs @ theirs.T).square().mean()
        return Structure(distance, distance, distance.new_zeros(()), 0)


class Even(Selection):
    """Every teacher that sees a row has the same share of it."""

    def __call__(self, task, own, teachers, valid, target, labelled, scale=1.0):
        return Shares(
            valid / valid.sum(dim=1, keepdim=True).clamp_min(1), torch.ones_like(valid[:, 0], dtype=torch.float32)
        )


class Distance(Rival):
    """Mean absolute difference of the outputs."""

    def forward(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        return (student.output - teacher.output).abs().sum() / max(student.output.numel(), 1)


class Blend(Teachers):
    """The multimodal teacher, whose answers are mixed with those of the prevalent backbone."""

    stages = ("teacher",)
    share = 0.25

    def __init__(self, teacher: TeacherModule, backbone: Backbone, prevalent: str) -> None:
        super().__init__()
        self.teacher, self.backbone, self.prevalent = teacher, backbone, prevalent

    @classmethod
    def load(cls, upstream: Upstream) -> "Blend":
        teacher = load_upstream(TeacherModule, upstream.checkpoints["teacher"], "student.model.teacher_ckpt")
        return cls(teacher, upstream.backbone(), upstream.prevalent)

    @property
    def space_sizes(self) -> dict[str, int]:
        return self.teacher.space_sizes

    def frozen_encoders(self) -> dict[str, list[Backbone]]:
        encoders = self.teacher.frozen_encoders(fitting=False)
        return {**encoders, self.prevalent: [*encoders[self.prevalent], self.backbone]}

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        joint = self.teacher.spaces(batch)["joint"]
        own = self.backbone.read(*TeacherModule.encode(self.backbone, batch, self.prevalent))[1]
        return {"joint": replace(joint, output=torch.lerp(joint.output, own, self.share))}


BLEND = Method({"task": 1.0, "output": 0.5, "transport": 0.1}, Blend)


class WithoutSettings(Fusion):
    """Wrong: takes nothing."""

    def __init__(self) -> None:
        super().__init__({}, False, 4)


class Narrow(Beside):
    """Wrong: returns less than it says."""

    def forward(self, features, masks):
        joint, gate = super().forward(features, masks)
        return joint[:, 1:], gate


class Pooling(Affine):
    """Wrong: loses the steps."""

    def forward(self, feature):
        return super().forward(feature).mean(dim=1)


class PerTeacher(Even):
    """Wrong: has one share per teacher, not per row."""

    def __call__(self, task, own, teachers, valid, target, labelled, scale=1.0):
        return Shares(torch.full((len(teachers),), 1 / len(teachers)), torch.ones(len(own)))


class Centroids(Member):
    """Classes by the nearest mean of their rows."""

    def fit(self, task: Task, training: Rows, targets: Targets, held_out: Rows) -> Tensor:
        weights = targets.columns * targets.weight[:, None]
        means = weights.T @ self._features(training) / weights.sum(dim=0)[:, None].clamp_min(1e-9)
        self.state = {"means": means}
        return self.output(training)

    def output(self, rows: Rows) -> Tensor:
        return -torch.cdist(self._features(rows), self.state["means"]).square()

    def _features(self, rows: Rows) -> Tensor:
        parts = [torch.where(rows.present[m][:, None], rows.values[m], 0.0) for m in self.modalities]
        return torch.cat(parts, dim=1).double()


class Lopsided(Centroids):
    def output(self, rows: Rows) -> Tensor:
        return super().output(rows)[:, :1]


class Flat(Blend):
    """Wrong: has one answer for all rows."""

    def spaces(self, batch):
        joint = super().spaces(batch)["joint"]
        return {"joint": replace(joint, output=joint.output.mean(dim=0))}


class Renamed(Blend):
    """Wrong: has no joint space."""

    @property
    def space_sizes(self):
        return {"both": self.teacher.space_sizes["joint"]}


class Unfinished(Teachers):
    """Wrong: cannot be loaded and says nothing."""

    space_sizes = {"joint": 4}  # noqa: RUF012

    def frozen_encoders(self):
        return {}


class Elsewhere(Blend):
    """Wrong: needs a stage that teachers are not loaded from."""

    stages = ("mixture",)


FLAT, RENAMED = Method({"task": 1.0, "output": 1.0}, Flat), Method({"task": 1.0, "output": 1.0}, Renamed)
UNFINISHED, ELSEWHERE = Method({"output": 1.0}, Unfinished), Method({"output": 1.0}, Elsewhere)
MISSPELT, CLASSLESS = Method({"outptu": 1.0}, Blend), Method({"output": 1.0}, "Blend")
