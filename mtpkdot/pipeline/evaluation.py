"""Predictions of trained stages on validation and test, computed by all processes of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from mtpkdot.data.base import BaseData, Part
from mtpkdot.data.batch import Batch
from mtpkdot.losses.gather import whole_batches
from mtpkdot.models.weights import without_pretrained
from mtpkdot.modules import StageModule
from mtpkdot.pipeline.features import FeatureCache
from mtpkdot.pipeline.jobs import nested
from mtpkdot.pipeline.ranks import Ranks
from mtpkdot.pipeline.results import Score, prediction_table, score
from mtpkdot.pipeline.stages import Stage
from mtpkdot.progress import progress

Split = Literal["validation", "test"]
SPLITS: tuple[Split, ...] = ("validation", "test")


@dataclass(frozen=True)
class Prediction:
    """Predictions of a stage on a part of the data.

    Attributes:
        stage: the stage.
        split: name of the part.
        index: (m,) rows of the data set, in its order.
        outputs: outputs (m, num_outputs) of each head, float32.
    """

    stage: Stage
    split: str
    index: Tensor
    outputs: dict[str, Tensor]

    def scored(self, data: BaseData) -> tuple[list[Score], list[pd.DataFrame]]:
        """Return the scores of every head, and a table of predictions of every head.

        Metrics synchronise all processes of a distributed run: call this after the process group has ended.
        """
        scores, tables = [], []
        for head, output in self.outputs.items():
            scores += score(data, self.stage.kind, modality=head, split=self.split, index=self.index, output=output)
            apart = self.stage.module.names_heads or len(self.outputs) > 1
            name = f"{self.stage.name}.{head}" if apart else self.stage.name
            tables.append(prediction_table(data, name, split=self.split, index=self.index, output=output))
        return scores, tables

    def submitted(self, data: BaseData) -> pd.DataFrame:
        """Return the predictions of the first head in the format that the authors of the data set ask for."""
        output = next(iter(self.outputs.values()))
        table = data.submission(self.index.numpy(), output)
        if table is None:
            return prediction_table(data, self.stage.name, split=self.split, index=self.index, output=output)
        return table


@dataclass(frozen=True)
class Evaluation:
    """Data, Trainer section and processes that make predictions; all processes call its methods in the same order.

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
    ) -> list[Prediction]:
        """Predict parts of the data with every head of a stage.

        Args:
            stage: the stage.
            checkpoint: path of its weights.
            upstream: checkpoints of the stages it depends on, by model argument, since the folder of runs may have
                moved since training.
            splits: parts among `validation`, `test` and `submission` (samples whose labels the authors of the data set
                keep).

        Returns:
            One prediction per part; empty for a stage without heads, and on all processes but the first.
        """
        with without_pretrained():
            module = stage.module.load_from_checkpoint(
                checkpoint, map_location="cpu", weights_only=True, **nested(upstream)
            )
        found = []
        for split in splits if module.heads else ():
            predicted = self.predict(module, split, f"{stage.name} on {split}")
            if predicted is not None:
                found.append(Prediction(stage, split, predicted.pop("index"), predicted))
        return found

    def predict(self, module: StageModule, split: str, title: str) -> dict[str, Tensor] | None:
        """Compute the outputs of a module on a part.

        The processes share whole batches, the same ones that a single process would see: the rounding of a convolution
        depends on its batch, so the outputs equal those of a single process bit for bit. With fewer batches than
        processes some have no work, which costs less time than one batch.

        Args:
            module: the module.
            split: name of the part.
            title: title of the progress bar.

        Returns:
            `index` (m,) and the outputs (m, num_outputs) of each head in float32, in the order of the data; None on all
            processes but the first.
        """
        device, part = self.ranks.device, cast(Part, split)
        module.setup("predict")
        self.features.attach(module, self.data, False, device)
        loader: Any = self.data.evaluation_loader(part, self.ranks.rank, self.ranks.size)
        # Each process predicts alone: no process waits for the batch of another.
        runner = L.Trainer(
            accelerator=self.trainer["accelerator"],
            devices=[device.index] if device.type == "cuda" else 1,
            precision=self.trainer["precision"],
            deterministic=self.trainer["deterministic"],
            benchmark=self.trainer["benchmark"],
            inference_mode=self.trainer["inference_mode"],
            callbacks=[_Progress(title, loader)] if self._shows_progress else [],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )

        def share() -> list[dict[str, Tensor]]:
            """Return the batches of this process: indices and outputs."""
            with whole_batches():
                batches: Any = runner.predict(module, loader) if len(loader) else []
            names = ("index", *module.heads)
            return [{name: batch[name].to(_dtype(name), copy=True) for name in names} for batch in batches]

        shares = self.ranks.gathered(share)
        if shares is None:
            return None
        # The first batch of each process, then the second of each, and so on.
        batches = [batch for batch in chain.from_iterable(zip_longest(*shares)) if batch is not None]
        assert batches
        return {name: torch.cat([batch[name] for batch in batches]) for name in ("index", *module.heads)}

    @property
    def _shows_progress(self) -> bool:
        return self.ranks.first and self.trainer["enable_progress_bar"] is not False


class _Progress(Callback):
    """Progress bar of a prediction, with the remaining time.

    Args:
        title: title of the bar.
        loader: batches of this process.
    """

    def __init__(self, title: str, loader: DataLoader[Batch]) -> None:
        self.title, self.batch_size, self.left = title, int(loader.batch_size or 1), len(loader.sampler)  # type: ignore[arg-type]
        self.bar: tqdm[Any] | None = None

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.bar = progress(self.left, 0, self.title, "sample", leave=False)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Advance by one batch."""
        assert self.bar is not None
        seen = min(self.batch_size, self.left)
        self.left -= seen
        self.bar.update(seen)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Clear the line, however the prediction has ended."""
        if self.bar is not None:
            self.bar.close()


def _dtype(name: str) -> torch.dtype:
    return torch.int64 if name == "index" else torch.float32
