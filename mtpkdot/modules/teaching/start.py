"""The backbone that a student starts from, and whether the student has become better than it."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from mtpkdot.data.batch import Batch
from mtpkdot.metrics.collections import best_mode
from mtpkdot.models.backbone import Backbone
from mtpkdot.modules.base import StageModule


class Start:
    """The prevalent backbone as it was, evaluated on the part that selects the student's epoch.

    Attributes:
        scores: its metrics (`val/...`), scalars; empty before it is evaluated.
        is_better: whether it is better than the student, or as good, where both were last compared.
    """

    def __init__(self) -> None:
        self.scores: dict[str, Tensor] = {}
        self.is_better = False

    @torch.no_grad()
    def evaluate(self, backbone: Backbone, modality: str, batches: Iterable[Batch], metrics: MetricCollection) -> None:
        """Compute its metrics.

        Args:
            backbone: the backbone, in eval mode.
            modality: that it reads.
            batches: the part that selects the epoch.
            metrics: of the task, without any sample.
        """
        for batch in batches:
            if bool(batch.labelled.any()):
                # Features at hand may be those of a teacher's fine-tuned encoder where raw steps are there too.
                encoded = StageModule.encode(backbone, batch, modality, raw=True)
                metrics.update(backbone.read(*encoded)[1][batch.labelled], batch.target[batch.labelled])
        self.scores = {f"val/{metric}": value.mean() for metric, value in metrics.compute().items()}

    def compare(self, reached: dict[str, Tensor], monitor: str) -> None:
        """Compare it with a student; of equals the start is preferred.

        Args:
            reached: the student's metrics, scalars by the names of `scores`.
            monitor: the one that selects the epoch.
        """
        gain = reached[monitor] - self.scores[monitor]
        self.is_better = not bool(gain < 0 if best_mode(monitor) == "min" else gain > 0)

    def best(self, monitor: str, score: float) -> float:
        """Return the better of a student's score and its own; the student's where it has none of that name."""
        own = self.scores.get(monitor)
        if own is None:
            return score
        return (min if best_mode(monitor) == "min" else max)(score, float(own))
