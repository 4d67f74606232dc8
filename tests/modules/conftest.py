"""Stages of a trained tiny run, and batches of its data."""

import json
from pathlib import Path

import pytest

from mtpkdot.data import Batch, PlantedData
from mtpkdot.data.splits import Split
from mtpkdot.models.backbone import Backbone
from mtpkdot.pipeline.stages import stage_classes


@pytest.fixture(scope="session")
def checkpoints(trained_root: Path) -> dict[str, Path]:
    """Checkpoint of every stage."""
    stages = json.loads((trained_root / "tiny" / "run.json").read_text())["stages"]
    return {name: trained_root / "stages" / name / entry["hash"] / "model.ckpt" for name, entry in stages.items()}


@pytest.fixture
def load(checkpoints):
    """A stage's module, as trained."""
    return lambda name: stage_classes()[name.split(".")[0]].load_from_checkpoint(checkpoints[name])


@pytest.fixture(scope="session")
def data() -> PlantedData:
    """The data of the tiny run."""
    data = PlantedData(
        subjects=10, samples_per_subject=12, steps=2, batch_size=32, labelled=0.7, split=Split("kfold", folds=5)
    )
    data.setup("fit")
    return data


@pytest.fixture
def batch(data) -> Batch:
    """32 samples, some without label."""
    return data.dataset.__getitems__(range(32))


@pytest.fixture
def backbone(load) -> Backbone:
    """The prevalent backbone, trained."""
    return load("backbone.video").backbone.eval()


def batches(data: PlantedData, part: str) -> list[Batch]:
    """A part, in order."""
    rows = data.positions(part).tolist()
    return [data.dataset.__getitems__(rows[start : start + 20]) for start in range(0, len(rows), 20)]
