"""Comparison of a student with the backbone that it starts from."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from mtpkdot.data.batch import Batch
from mtpkdot.metrics.collections import best_mode
from mtpkdot.models.backbone import Backbone
from mtpkdot.modules.base import StageModule


class Start:
    """Prevalent backbone before the student's training, evaluated on the part that selects the epoch.

    Attributes:
        scores: scalar metrics of the backbone (`val/...`); empty before it is evaluated.
        is_better: whether the backbone was at least as good as the student at their last comparison.
    """

    def __init__(self) -> None:
        self.scores: dict[str, Tensor] = {}
        self.is_better = False

    @torch.no_grad()
    def evaluate(self, backbone: Backbone, modality: str, batches: Iterable[Batch], metrics: MetricCollection) -> None:
        """Compute the metrics of the backbone.

        Args:
            backbone: the backbone, in eval mode.
            modality: name of the modality that it reads.
            batches: batches of the part that selects the epoch.
            metrics: metrics of the task, without samples.
        """
        for batch in batches:
            if bool(batch.labelled.any()):
                # Raw steps first: features in the batch may come from a teacher's fine-tuned encoder.
                encoded = StageModule.encode(backbone, batch, modality, raw=True)
                metrics.update(backbone.read(*encoded)[1][batch.labelled], batch.target[batch.labelled])
        self.scores = {f"val/{metric}": value.mean() for metric, value in metrics.compute().items()}

    def compare(self, reached: dict[str, Tensor], monitor: str) -> None:
        """Compare the backbone with a student; at equal scores the backbone is preferred.

        Args:
            reached: scalar metrics of the student, by the names of `scores`.
            monitor: name of the metric that selects the epoch.
        """
        gain = reached[monitor] - self.scores[monitor]
        self.is_better = not bool(gain < 0 if best_mode(monitor) == "min" else gain > 0)

    def best(self, monitor: str, score: float) -> float:
        """Return the better of the student's and the backbone's score; the student's if the backbone has none."""
        own = self.scores.get(monitor)
        if own is None:
            return score
        return (min if best_mode(monitor) == "min" else max)(score, float(own))
