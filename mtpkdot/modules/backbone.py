"""Stage 1: a backbone per modality. The prevalent one is the lower bound for the student."""

from typing import Any, ClassVar

from torch import Tensor

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import Batch
from mtpkdot.losses.gather import gather_rows
from mtpkdot.losses.task import task_loss
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import EncoderFactory
from mtpkdot.models.normalise import Standardize
from mtpkdot.modules.base import StageModule
from mtpkdot.modules.trial import try_encoder


class BackboneModule(StageModule):
    """Backbone trained on one modality.

    Args:
        modality: name of the modality; set by the pipeline.
        encoder: class of the encoder with its settings; null for FeatureEncoder.
        options: see StageModule.
    """

    section: ClassVar[str] = "backbone"
    per_modality: ClassVar[bool] = True
    switches: ClassVar[frozenset[str]] = frozenset({"shared_backbone"})
    reads_raw: ClassVar[bool] = True
    uses_unlabelled = False

    def __init__(self, modality: str, encoder: EncoderFactory | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.save_hyperparameters()
        self.modality = modality
        self.backbone = Backbone(self.steps[modality], self.num_outputs, encoder, self.per_step)
        self.name_heads([modality])

    def check_built(self, data: BaseData, name: str, batch_size: int) -> None:
        """Try the encoder on samples of each part; see StageDeclaration."""
        try_encoder(self.backbone, self.modality, data, f"{name}.model.encoder")

    def setup(self, stage: str) -> None:
        """Set standardisation and head to the statistics of the training part."""
        if stage != "fit":
            return
        data = getattr(self.trainer, "datamodule", None)
        statistics = data.statistics(self.modality) if isinstance(data, BaseData) else None
        if statistics is not None and isinstance(self.backbone.normalise, Standardize):
            self.backbone.normalise.fit(*statistics)
        self.fit_heads(self.backbone.head)

    @property
    def modalities(self) -> list[str]:
        """Modality of the backbone, as a list."""
        return [self.modality]

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """Return the backbone if it is not being trained; see StageModule."""
        return {} if fitting else {self.modality: [self.backbone]}

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the predictions of the backbone."""
        return {self.modality: self.backbone.read(*self.encode(self.backbone, batch, self.modality, raw=True))[1]}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the task loss on labelled samples that have the modality."""
        known = batch.labelled & batch.present(self.modality)
        return {"loss": task_loss(self.task, *gather_rows(self.outputs(batch)[self.modality], batch.target, known))}
