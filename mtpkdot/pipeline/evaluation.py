"""Predictions of trained stages, on validation and test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import pandas as pd
import torch

from mtpkdot.data.base import BaseData
from mtpkdot.models.weights import without_pretrained
from mtpkdot.modules import StageModule, StudentModule
from mtpkdot.pipeline.features import FeatureCache
from mtpkdot.pipeline.results import Row, prediction_table, score
from mtpkdot.pipeline.stages import Stage

Split = Literal["validation", "test"]
SPLITS: tuple[Split, ...] = ("validation", "test")


def evaluate_stage(
    stage: Stage,
    checkpoint: Path,
    upstream: dict[str, str],
    data: BaseData,
    trainer: dict[str, Any],
    splits: Sequence[str],
    features: FeatureCache,
) -> tuple[list[Row], list[pd.DataFrame]]:
    """Evaluate every head of a stage.

    Args:
        stage: the stage.
        checkpoint: its weights.
        upstream: checkpoints of the stages it predicts with, by model argument: the folder of runs may have moved
            since training.
        data: the data set.
        trainer: the shared Trainer section; one device is used, so that every sample counts once.
        splits: of `validation` and `test`.
        features: where features of frozen encoders are kept.

    Returns:
        Rows of the results, and a table of predictions per part and head.
    """
    overrides: dict[str, Any] = dict(upstream)
    with without_pretrained():
        module = stage.module.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True, **overrides)
    rows, tables = [], []
    for split in splits if module.heads else ():
        predictions = predict(module, data, trainer, split, features)
        index = predictions["index"]
        for head in module.heads:
            rows += score(data, stage.kind, head, split, index, predictions[head])
            name = f"{stage.kind}.{head}" if stage.kind == "adapted" else stage.name
            tables.append(prediction_table(data, name, split, index, predictions[head]))
    return rows, tables


def submission(checkpoint: Path, data: BaseData, trainer: dict[str, Any], features: FeatureCache) -> pd.DataFrame:
    """A student's predictions of the samples whose labels the data set's authors keep, in the form they ask for."""
    with without_pretrained():
        module = StudentModule.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    predictions = predict(module, data, trainer, "submission", features)
    index, output = predictions["index"], predictions[module.heads[0]]
    table = data.submission(index.numpy(), output)
    return prediction_table(data, "student", "submission", index, output) if table is None else table


def predict(
    module: StageModule, data: BaseData, trainer: dict[str, Any], split: str, features: FeatureCache
) -> dict[str, torch.Tensor]:
    """Outputs of a module on a part, in order: `index` (m,) and per head (m, num_outputs), in float32."""
    runner = L.Trainer(
        accelerator=trainer["accelerator"],
        devices=1,
        precision=trainer["precision"],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    module.setup("predict")
    features.attach(module, data, False, runner.strategy.root_device)
    part: Any = split
    batches: Any = runner.predict(module, data.evaluation_loader(part))
    assert batches
    return {
        name: torch.cat([batch[name] for batch in batches]).to(torch.int64 if name == "index" else torch.float32)
        for name in ("index", *module.heads)
    }
