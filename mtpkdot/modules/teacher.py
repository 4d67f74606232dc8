"""Stage 2: the multimodal teacher, the upper bound for the student."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtpkdot.data.batch import Batch
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.gather import gather_rows
from mtpkdot.losses.task import task_loss
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import EncoderFactory
from mtpkdot.models.fusions import FusionFactory, GatedFusion, fusion_size
from mtpkdot.models.head import Head
from mtpkdot.modules.backbone import BackboneModule
from mtpkdot.modules.base import StageModule, load_upstream

JOINT = "joint"


class TeacherModule(StageModule):
    """Multimodal teacher: backbones of all modalities, a fusion and a linear head.

    Args:
        encoders: encoder of the trained backbone per modality, if it is not the default; set by the pipeline.
        backbone_ckpts: checkpoint of the backbone per modality; set by the pipeline.
        finetune_encoders: continue to train the backbones; the papers freeze them.
        fusion: GatedFusion or another Fusion, with its settings; its joint feature is the distilled layer.
        batch_attention: protocol switch.
        frozen_projections: protocol switch.
        per_step: linked from the data.
        options: see StageModule.
    """

    section: ClassVar[str] = "teacher"
    takes: ClassVar[frozenset[str]] = frozenset({"encoders"})
    switches: ClassVar[frozenset[str]] = frozenset({"batch_attention", "frozen_projections"})
    uses_unlabelled = False
    built_in: ClassVar[dict[str, type]] = {"fusion": GatedFusion}

    def __init__(
        self,
        encoders: dict[str, EncoderFactory] | None = None,
        backbone_ckpts: dict[str, str] | None = None,
        finetune_encoders: bool = False,
        fusion: FusionFactory | None = None,
        batch_attention: bool = False,
        frozen_projections: bool = False,
        per_step: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(per_step=per_step, **options)
        self.save_hyperparameters()
        self.backbone_ckpts, self.finetune_encoders = backbone_ckpts or {}, finetune_encoders
        encoders, build = encoders or {}, fusion or GatedFusion
        fusion_size(build, list(self.steps), per_step)
        self.backbones = nn.ModuleList(
            Backbone(steps, self.num_outputs, encoders.get(name), per_step) for name, steps in self.steps.items()
        )
        self.fusion = build({name: backbone.dim for name, backbone in self.named_backbones()}, per_step)
        self.fusion.use_protocol(batch_attention, frozen_projections)
        self.head = Head(self.fusion.dim, self.num_outputs)
        for _, backbone in self.named_backbones():
            # The heads never have a gradient, for which distributed training would wait.
            (backbone.head if finetune_encoders else backbone).requires_grad_(False)
        self.name_heads(["+".join(self.steps)])

    @classmethod
    def encoder_arguments(cls, encoders: Mapping[str, Any], prevalent: str) -> dict[str, Any]:
        """Return the encoders of all backbones; see StageDeclaration."""
        # Default encoders are left out, since a config cannot express null in a dict of classes.
        return {"encoders": {name: encoder for name, encoder in encoders.items() if encoder is not None}}

    def named_backbones(self) -> list[tuple[str, Backbone]]:
        """Return pairs of modality and backbone, in the data's order."""
        return [(n, b) for n, b in zip(self.steps, self.backbones, strict=True) if isinstance(b, Backbone)]

    def setup(self, stage: str) -> None:
        """Load the weights of the trained backbones for training."""
        if stage != "fit":
            return
        self.fit_heads(self.head)
        for name, backbone in self.named_backbones():
            key = f"teacher.model.backbone_ckpts.{name}"
            trained = load_upstream(BackboneModule, self.backbone_ckpts.get(name), key)
            backbone.load_state_dict(trained.backbone.state_dict())

    def frozen_parts(self) -> Iterable[nn.Module]:
        """Return the backbones, unless they are trained."""
        return () if self.finetune_encoders else (self.backbones,)

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """Return the backbones, unless they are being trained; see StageModule."""
        return {} if self.finetune_encoders and fitting else {n: [b] for n, b in self.named_backbones()}

    def sequences(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the feature sequence (B, T', D_m) and mask (B, T') of every modality."""
        features, masks = {}, {}
        for name, backbone in self.named_backbones():
            features[name], masks[name] = self.encode(backbone, batch, name)
        return features, masks

    @property
    def space_sizes(self) -> dict[str, int]:
        """Feature size of every space."""
        return {JOINT: self.fusion.dim}

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """Return the joint space, valid where any modality is present."""
        joint, gate = self.fusion(*self.sequences(batch))
        self.last_gate = gate.detach()
        valid = torch.stack([batch.present(name) for name in self.steps]).any(dim=0)
        return {JOINT: Teacher(joint, self.head(joint), valid)}

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the predictions from all modalities."""
        return {self.heads[0]: self.spaces(batch)[JOINT].output}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the task loss on labelled samples, and the mean gate of each modality for the log."""
        joint = self.spaces(batch)[JOINT]
        known = batch.labelled & joint.valid
        output, target, known, gate = gather_rows(joint.output, batch.target, known, self.last_gate)
        terms = {"loss": task_loss(self.task, output, target, known)}
        return terms | {f"gate_{name}": gate[:, i].mean() for i, name in enumerate(self.steps)}
