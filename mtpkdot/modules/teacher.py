"""Stage 2: the multimodal teacher, the upper bound."""

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
    """Backbones of all modalities, a gated cross-modal transformer on top, and a linear head.

    Args:
        encoders: encoder per modality, as the backbones were trained, where it is not the default; set by the pipeline.
        backbone_ckpts: checkpoint per modality; filled by the pipeline.
        finetune_encoders: go on training the backbones; the papers freeze them.
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
            # A distributed step waits for all gradients, and the heads never have one.
            (backbone.head if finetune_encoders else backbone).requires_grad_(False)
        self.name_heads(["+".join(self.steps)])

    @classmethod
    def encoder_arguments(cls, encoders: Mapping[str, Any], prevalent: str) -> dict[str, Any]:
        """Return the encoders of all backbones; see StageDeclaration."""
        # Those that are null are built by default and left out: a null in a dict of classes cannot be written down.
        return {"encoders": {name: encoder for name, encoder in encoders.items() if encoder is not None}}

    def named_backbones(self) -> list[tuple[str, Backbone]]:
        """The backbones with their modalities, in the data's order."""
        return [(n, b) for n, b in zip(self.steps, self.backbones, strict=True) if isinstance(b, Backbone)]

    def setup(self, stage: str) -> None:
        """Start from the trained backbones."""
        if stage != "fit":
            return
        self.fit_heads(self.head)
        for name, backbone in self.named_backbones():
            key = f"teacher.model.backbone_ckpts.{name}"
            trained = load_upstream(BackboneModule, self.backbone_ckpts.get(name), key)
            backbone.load_state_dict(trained.backbone.state_dict())

    def frozen_parts(self) -> Iterable[nn.Module]:
        """The backbones, unless they go on training."""
        return () if self.finetune_encoders else (self.backbones,)

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """The backbones, unless they are being trained."""
        return {} if self.finetune_encoders and fitting else {n: [b] for n, b in self.named_backbones()}

    def sequences(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Feature sequence (B, T', D_m) and mask (B, T') of every modality."""
        features, masks = {}, {}
        for name, backbone in self.named_backbones():
            features[name], masks[name] = self.encode(backbone, batch, name)
        return features, masks

    @property
    def space_sizes(self) -> dict[str, int]:
        """Size of the feature of every space."""
        return {JOINT: self.fusion.dim}

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """The joint space, valid where any modality is present."""
        joint, gate = self.fusion(*self.sequences(batch))
        self.last_gate = gate.detach()
        valid = torch.stack([batch.present(name) for name in self.steps]).any(dim=0)
        return {JOINT: Teacher(joint, self.head(joint), valid)}

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Predictions from all modalities."""
        return {self.heads[0]: self.spaces(batch)[JOINT].output}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Task loss on labelled samples; the mean gate of each modality is logged beside it."""
        joint = self.spaces(batch)[JOINT]
        known = batch.labelled & joint.valid
        output, target, known, gate = gather_rows(joint.output, batch.target, known, self.last_gate)
        terms = {"loss": task_loss(self.task, output, target, known)}
        return terms | {f"gate_{name}": gate[:, i].mean() for i, name in enumerate(self.steps)}
