"""Predictions of trained stages, on validation and test, by all processes of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Literal

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from tqdm import tqdm

from mtpkdot.data.base import BaseData
from mtpkdot.models.weights import without_pretrained
from mtpkdot.modules import StageModule, StudentModule
from mtpkdot.pipeline.features import FeatureCache
from mtpkdot.pipeline.ranks import Ranks
from mtpkdot.pipeline.results import Row, prediction_table, score
from mtpkdot.pipeline.stages import Stage
from mtpkdot.progress import progress

Split = Literal["validation", "test"]
SPLITS: tuple[Split, ...] = ("validation", "test")


@dataclass(frozen=True)
class Evaluation:
    """What predictions are made with; all processes of a run call its methods in the same order.

    Attributes:
        data: the data set.
        trainer: the shared Trainer section.
        features: where features of frozen encoders are kept.
        ranks: the processes that share the batches of a part.
    """

    data: BaseData
    trainer: dict[str, Any]
    features: FeatureCache
    ranks: Ranks

    def stage(
        self, stage: Stage, checkpoint: Path, upstream: dict[str, str], splits: Sequence[str]
    ) -> tuple[list[Row], list[pd.DataFrame]]:
        """Evaluate every head of a stage.

        Args:
            stage: the stage.
            checkpoint: its weights.
            upstream: checkpoints of the stages it predicts with, by model argument: the folder of runs may have moved
                since training.
            splits: of `validation` and `test`.

        Returns:
            Rows of the results, and a table of predictions per part and head; both empty on all processes but the
            first.
        """
        overrides: dict[str, Any] = dict(upstream)
        with without_pretrained():
            module = stage.module.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True, **overrides)
        rows, tables = [], []
        for split in splits if module.heads else ():
            predictions = self.predict(module, split, f"{stage.name} on {split}")
            if predictions is None:
                continue
            index = predictions["index"]
            for head in module.heads:
                rows += score(self.data, stage.kind, head, split, index, predictions[head])
                name = f"{stage.kind}.{head}" if stage.kind == "adapted" else stage.name
                tables.append(prediction_table(self.data, name, split, index, predictions[head]))
        return rows, tables

    def submission(self, checkpoint: Path) -> pd.DataFrame | None:
        """Predict the samples whose labels the data set's authors keep, in the form they ask for.

        Args:
            checkpoint: weights of a student.

        Returns:
            The table; None on all processes but the first.
        """
        with without_pretrained():
            module = StudentModule.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
        predictions = self.predict(module, "submission", "rows to submit")
        if predictions is None:
            return None
        index, output = predictions["index"], predictions[module.heads[0]]
        table = self.data.submission(index.numpy(), output)
        return prediction_table(self.data, "student", "submission", index, output) if table is None else table

    def predict(self, module: StageModule, split: str, title: str) -> dict[str, Tensor] | None:
        """Compute the outputs of a module on a part.

        The processes share out whole batches, those that one process would have: the rounding of a convolution depends
        on its batch, so that the outputs are those of one process to the bit. Where there are fewer batches than
        processes some have no work, which costs less time than one batch takes.

        Args:
            module: the module.
            split: the part.
            title: of the progress bar.

        Returns:
            In the order of the data `index` (m,) and per head (m, num_outputs), in float32; None on all processes but
            the first.
        """
        device, part = self.ranks.device, split
        # Each process predicts alone: no batch of one waits for a batch of another.
        runner = L.Trainer(
            accelerator=self.trainer["accelerator"],
            devices=[device.index] if device.type == "cuda" else 1,
            precision=self.trainer["precision"],
            deterministic=self.trainer["deterministic"],
            benchmark=self.trainer["benchmark"],
            inference_mode=self.trainer["inference_mode"],
            callbacks=[_Progress(title)] if self._shows_progress else [],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        module.setup("predict")
        self.features.attach(module, self.data, False, device)
        loader: Any = self.data.evaluation_loader(part, self.ranks.rank, self.ranks.size)  # type: ignore[arg-type]

        def share() -> list[dict[str, Tensor]]:
            """This process's batches: indices and outputs alone."""
            batches: Any = runner.predict(module, loader) if len(loader) else []
            names = ("index", *module.heads)
            return [{name: batch[name].to(_dtype(name), copy=True) for name in names} for batch in batches]

        shares = self.ranks.gathered(share)
        if shares is None:
            return None
        # Of each process its first batch, then of each its second one, and so on.
        batches = [batch for batch in chain.from_iterable(zip_longest(*shares)) if batch is not None]
        assert batches
        return {name: torch.cat([batch[name] for batch in batches]) for name in ("index", *module.heads)}

    @property
    def _shows_progress(self) -> bool:
        return self.ranks.first and self.trainer["enable_progress_bar"] is not False


class _Progress(Callback):
    """Shows how far a prediction has come, and how long it will still take.

    Args:
        title: what is predicted.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.bar: tqdm[Any] | None = None

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin."""
        self.bar = progress(int(sum(trainer.num_predict_batches)), 0, self.title, "batch", leave=False)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Go one batch on."""
        assert self.bar is not None
        self.bar.update()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Clear the line, however the prediction has ended."""
        if self.bar is not None:
            self.bar.close()


def _dtype(name: str) -> torch.dtype:
    return torch.int64 if name == "index" else torch.float32
