"""Stage 3: adapted backbones, the additional teachers of MT-PKDOT."""

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtpkdot.data.batch import Batch
from mtpkdot.errors import RunError
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.gather import gather_rows, own_rows, row_counts
from mtpkdot.losses.task import task_loss
from mtpkdot.models.adapter import Adapter
from mtpkdot.models.attention import reduce_steps
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.fusions import FusionFactory, GatedFusion
from mtpkdot.models.head import Head
from mtpkdot.modules.base import StageModule, load_upstream
from mtpkdot.modules.teacher import JOINT, TeacherModule


class AdaptedModule(StageModule):
    """Bottleneck adapters with a head per backbone, aligned with the joint feature (MT-PKDOT, arXiv 2408.09035).

    Loss: `align_weight * sum_m (1 - cos(a_m, z)) + task_weight * (L_joint + 0.5 * sum_m L_m)`, both weights 0.5.
    Alignment uses every sample that has the modality, the task losses only labelled ones.

    Args:
        fusion: class of the multimodal teacher's fusion; set by the pipeline.
        teacher_ckpt: checkpoint of the multimodal teacher; set by the pipeline.
        bottleneck: hidden size of the adapters.
        teacher: `frozen` keeps the joint feature fixed; `cotrained` also trains a copy of the fusion, as the released
            code does; only then does the loss include `L_joint`.
        shuffle: control in which the adapters get the features of other samples, so that alignment has no effect.
        align_weight: weight of the cosine terms.
        task_weight: weight of the task terms.
        options: see StageModule.
    """

    section: ClassVar[str] = "adapted"
    names_heads: ClassVar[bool] = True
    inherited: ClassVar[Mapping[str, tuple[str, str]]] = {"fusion": ("teacher_ckpt", "fusion")}

    def __init__(
        self,
        fusion: FusionFactory | None = None,
        teacher_ckpt: str | None = None,
        bottleneck: int = 64,
        teacher: Literal["frozen", "cotrained"] = "frozen",
        shuffle: bool = False,
        align_weight: float = 0.5,
        task_weight: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.save_hyperparameters()
        self.teacher_ckpt, self.bottleneck, self.cotrained = teacher_ckpt, bottleneck, teacher == "cotrained"
        self.new_fusion = fusion or GatedFusion
        self.shuffle, self.align_weight, self.task_weight = shuffle, align_weight, task_weight
        self.name_heads(list(self.steps))

    def setup(self, stage: str) -> None:
        """Load the multimodal teacher and build adapters of its sizes."""
        if JOINT in self.frozen:
            return
        teacher = load_upstream(TeacherModule, self.teacher_ckpt, "adapted.model.teacher_ckpt")
        self.frozen[JOINT] = teacher
        identity = _identity(teacher)
        if self.blueprint and self.blueprint["teacher"] != identity:
            raise RunError(
                f"{self.teacher_ckpt} is not the teacher that these adapters were trained on",
                "Give adapted_ckpt and teacher_ckpt of one run.",
            )
        if not self.blueprint:
            sizes = {name: backbone.dim for name, backbone in teacher.named_backbones()}
            joint = {"dim": teacher.fusion.dim, "protocol": teacher.fusion.protocol}
            self.build({"features": sizes, "fusion": joint, "teacher": identity})
            self.fit_heads(*(adapter.head for adapter in self.adapters if isinstance(adapter, Adapter)))
            if self.cotrained:
                self._copy(teacher)

    def _copy(self, teacher: TeacherModule) -> None:
        """Copy the weights of the teacher's fusion and head.

        Raises:
            RunError: the teacher has another fusion. Settings without weights, such as attention heads, count as well.
        """
        sizes = {name: backbone.dim for name, backbone in teacher.named_backbones()}
        features = {name: torch.linspace(-1, 1, 3 * size).reshape(1, 3, size) for name, size in sizes.items()}
        masks = {name: torch.ones(1, 3, dtype=torch.bool) for name in sizes}
        try:
            self.fusion.load_state_dict(teacher.fusion.state_dict())
            with torch.no_grad():
                same = torch.allclose(*(fusion.eval()(features, masks)[0] for fusion in (self.fusion, teacher.fusion)))
        except RuntimeError:
            same = False
        if not same:
            raise RunError(
                f"{self.teacher_ckpt} has another fusion than teacher.model.fusion",
                "Set that section to the one it was trained with, or train the teacher anew.",
            )
        self.head.load_state_dict(teacher.head.state_dict())

    def build(self, blueprint: dict[str, Any]) -> None:
        """Build one adapter per modality, and the copy of the fusion if it is cotrained."""
        joint_dim = blueprint["fusion"]["dim"]
        self.adapters = nn.ModuleList(
            Adapter(dim, joint_dim, self.bottleneck, self.num_outputs) for dim in blueprint["features"].values()
        )
        if self.cotrained:
            self.fusion = self.new_fusion(dict(blueprint["features"]), self.per_step)
            self.fusion.use_protocol(**blueprint["fusion"]["protocol"])
            self.head = Head(joint_dim, self.num_outputs)
        super().build(blueprint)

    @property
    def joint_teacher(self) -> TeacherModule:
        """Frozen multimodal teacher."""
        teacher = self.frozen[JOINT]
        assert isinstance(teacher, TeacherModule)
        return teacher

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """Return the frozen encoders of the multimodal teacher; see StageModule."""
        return self.joint_teacher.frozen_encoders(fitting=False)

    @property
    def space_sizes(self) -> dict[str, int]:
        """Feature size of every space; adapted spaces have the size of the joint one."""
        return dict.fromkeys([*self.steps, JOINT], self.joint_teacher.fusion.dim)

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """Return the adapted space of every modality, by its name, and the joint space."""
        teacher = self.joint_teacher
        with torch.no_grad():
            features, masks = teacher.sequences(batch)
        fusion, head = (self.fusion, self.head) if self.cotrained else (teacher.fusion, teacher.head)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.cotrained):
            joint, _ = fusion(features, masks)
            output = head(joint)
        spaces = {}
        for name, adapter in zip(self.steps, self.adapters, strict=True):
            read = reduce_steps(features[name], masks[name], self.per_step)
            adapted, adapted_output = adapter(_of_others(read) if self.shuffle else read)
            spaces[name] = Teacher(adapted, adapted_output, batch.present(name))
        valid = torch.stack([space.valid for space in spaces.values()]).any(dim=0)
        return {**spaces, JOINT: Teacher(joint, output, valid)}

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the predictions of every adapted teacher."""
        spaces = self.spaces(batch)
        return {name: spaces[name].output for name in self.steps}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the alignment with the joint feature and the task losses."""
        spaces = self.spaces(batch)
        joint = spaces[JOINT]
        terms: dict[str, Tensor] = {}
        for name in self.steps:
            space = spaces[name]
            distance, valid, output, target, labelled = gather_rows(
                1 - F.cosine_similarity(space.feature, joint.feature, dim=1),
                space.valid,
                space.output,
                batch.target,
                batch.labelled,
            )
            # A masked mean instead of an indexed one is finite also if no sample has the modality.
            terms[f"align_{name}"] = (distance * valid).sum() / valid.sum().clamp_min(1)
            terms[f"task_{name}"] = task_loss(self.task, output, target, labelled & valid)
        task = 0.5 * torch.stack([terms[f"task_{name}"] for name in self.steps]).sum()
        if self.cotrained:
            known = batch.labelled & joint.valid
            terms["task_joint"] = task_loss(self.task, *gather_rows(joint.output, batch.target, known))
            task = task + terms["task_joint"]
        align = torch.stack([terms[f"align_{name}"] for name in self.steps]).sum()
        return {"loss": self.align_weight * align + self.task_weight * task, **terms}


def _of_others(features: Tensor) -> Tensor:
    """Return for each row of features (N, D) its predecessor in the batch of all processes, (N, D)."""
    return own_rows(gather_rows(features)[0].roll(1, dims=0), row_counts(features))


def _identity(teacher: TeacherModule) -> str:
    """Return a digest of a teacher's weights, since adapters fit the features of one teacher only."""
    digest = hashlib.sha256()
    for key, value in sorted(teacher.state_dict().items()):
        digest.update(key.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
