"""Stage 4: the T-Net learns to hallucinate each privileged feature from the prevalent one."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtpkdot.data.batch import Batch
from mtpkdot.losses.gather import gather_rows
from mtpkdot.losses.hallucination import Discrepancy, hallucination_loss
from mtpkdot.models.attention import rows
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.tnet import TNet
from mtpkdot.modules.backbone import BackboneModule
from mtpkdot.modules.base import StageModule, load_upstream


class HallucinatorModule(StageModule):
    """One T-Net per privileged modality, on frozen backbones; trained on labelled and unlabelled samples alike.

    The T-Net works step by step on the prevalent feature, and its result is compared with the privileged feature as
    means over time, so that modalities of different length and rate need no alignment; step by step where targets are
    given per step.

    Args:
        backbone_ckpts: checkpoint per modality; filled by the pipeline.
        hidden: sizes of the T-Net's hidden layers. PKDOT: 256 128 256 with activation; MT-PKDOT: 2048 1024 512 256 512
            1024 2048 without.
        activation: ReLU between the layers.
        discrepancy: `mse`, or `mmd` (multi-kernel Gaussian).
        options: see StageModule.
    """

    section: ClassVar[str] = "hallucinator"
    monitors_loss: ClassVar[bool] = True

    def __init__(
        self,
        backbone_ckpts: dict[str, str] | None = None,
        hidden: Sequence[int] = (256, 128, 256),
        activation: bool = True,
        discrepancy: Discrepancy = "mse",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.save_hyperparameters()
        self.backbone_ckpts, self.discrepancy = backbone_ckpts or {}, discrepancy
        self.hidden, self.activation = [int(size) for size in hidden], activation

    def setup(self, stage: str) -> None:
        """Load the frozen backbones, and build the T-Nets to their sizes."""
        if len(self.frozen):
            return
        for index, name in enumerate(self.steps):
            key = f"hallucinator.model.backbone_ckpts.{name}"
            self.frozen[str(index)] = load_upstream(BackboneModule, self.backbone_ckpts.get(name), key)
        if not self.blueprint:
            dims = {name: self.backbone(name).backbone.dim for name in self.steps}
            common = {"in_dim": dims[self.prevalent], "hidden": self.hidden, "activation": self.activation}
            self.build({name: {**common, "out_dim": dims[name]} for name in self.privileged})

    def build(self, blueprint: dict[str, Any]) -> None:
        """One T-Net per privileged modality."""
        self.tnets = nn.ModuleList(TNet(**blueprint[name]) for name in self.privileged)
        super().build(blueprint)

    def backbone(self, modality: str) -> BackboneModule:
        """The frozen backbone of a modality."""
        backbone = self.frozen[str(list(self.steps).index(modality))]
        assert isinstance(backbone, BackboneModule)
        return backbone

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """The backbones."""
        return {name: [self.backbone(name).backbone] for name in self.steps}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Discrepancy per privileged modality, summed."""
        encoded = {name: self.encode(self.backbone(name).backbone, batch, name) for name in self.steps}
        feature, mask = encoded[self.prevalent]
        terms = {}
        for name, tnet in zip(self.privileged, self.tnets, strict=True):
            both = batch.present(self.prevalent) & batch.present(name)
            made, real = rows(tnet(feature), mask, self.per_step), rows(*encoded[name], self.per_step)
            terms[f"hallucinate_{name}"] = hallucination_loss(self.discrepancy, *gather_rows(made, real, both))
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}
