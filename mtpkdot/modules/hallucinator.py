"""Stage 4: T-Nets, which learn to hallucinate each privileged feature from the prevalent one."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtpkdot.data.batch import Batch
from mtpkdot.losses.gather import gather_rows
from mtpkdot.losses.hallucination import Discrepancy, hallucination_loss
from mtpkdot.models.attention import reduce_steps
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.tnets import Hourglass, TNet, TNetFactory, check_tnet
from mtpkdot.modules.backbone import BackboneModule
from mtpkdot.modules.base import StageModule, load_upstream


class HallucinatorModule(StageModule):
    """One T-Net per privileged modality on frozen backbones, trained on labelled and unlabelled samples.

    The T-Net is applied to each step of the prevalent feature. Its result and the privileged feature are compared by
    their means over time, so that modalities of different length and rate need no alignment; if every step has a
    target, they are compared step by step.

    Args:
        backbone_ckpts: checkpoint of the backbone per modality; set by the pipeline.
        tnet: Hourglass or another TNet, with its settings.
        discrepancy: `mse`, or `mmd` (multi-kernel Gaussian).
        options: see StageModule.
    """

    section: ClassVar[str] = "hallucinator"
    monitors_loss: ClassVar[bool] = True
    built_in: ClassVar[dict[str, type]] = {"tnet": Hourglass}

    def __init__(
        self,
        backbone_ckpts: dict[str, str] | None = None,
        tnet: TNetFactory | None = None,
        discrepancy: Discrepancy = "mse",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.save_hyperparameters()
        self.backbone_ckpts, self.discrepancy = backbone_ckpts or {}, discrepancy
        self.new_tnet = tnet or Hourglass
        check_tnet(self.new_tnet)

    def setup(self, stage: str) -> None:
        """Load the frozen backbones and build T-Nets of their sizes."""
        if len(self.frozen):
            return
        for index, name in enumerate(self.steps):
            key = f"hallucinator.model.backbone_ckpts.{name}"
            self.frozen[str(index)] = load_upstream(BackboneModule, self.backbone_ckpts.get(name), key)
        if not self.blueprint:
            dims = {name: self.backbone(name).backbone.dim for name in self.steps}
            self.build(dims)

    def build(self, blueprint: dict[str, Any]) -> None:
        """Build one T-Net per privileged modality."""
        size = blueprint[self.prevalent]
        self.tnets = nn.ModuleList(self.new_tnet(size, blueprint[name]) for name in self.privileged)
        super().build(blueprint)

    def named_tnets(self) -> list[tuple[str, TNet]]:
        """Return pairs of a privileged modality and the T-Net that hallucinates its feature."""
        return [(n, t) for n, t in zip(self.privileged, self.tnets, strict=True) if isinstance(t, TNet)]

    def backbone(self, modality: str) -> BackboneModule:
        """Return the frozen backbone of a modality."""
        backbone = self.frozen[str(list(self.steps).index(modality))]
        assert isinstance(backbone, BackboneModule)
        return backbone

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """Return the backbones; see StageModule."""
        return {name: [self.backbone(name).backbone] for name in self.steps}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the discrepancy per privileged modality, and their sum as `loss`."""
        encoded = {name: self.encode(self.backbone(name).backbone, batch, name) for name in self.steps}
        feature, mask = encoded[self.prevalent]
        terms = {}
        for name, tnet in zip(self.privileged, self.tnets, strict=True):
            both = batch.present(self.prevalent) & batch.present(name)
            made, real = reduce_steps(tnet(feature), mask, self.per_step), reduce_steps(*encoded[name], self.per_step)
            terms[f"hallucinate_{name}"] = hallucination_loss(self.discrepancy, *gather_rows(made, real, both))
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}
