"""Stages of a trained tiny run, and batches of its data."""

import json
import shutil
from pathlib import Path

import pytest

from mtpkdot.cli.main import main
from mtpkdot.data import Batch, PlantedData
from mtpkdot.data.splits import Split
from mtpkdot.models.backbone import Backbone
from mtpkdot.modules import PoolModule
from mtpkdot.pipeline.stages import stage_classes


@pytest.fixture(scope="session")
def checkpoints(trained_root: Path) -> dict[str, Path]:
    """Checkpoint of every stage."""
    stages = json.loads((trained_root / "tiny" / "run.json").read_text())["stages"]
    return {name: trained_root / "stages" / name / entry["hash"] / "model.ckpt" for name, entry in stages.items()}


@pytest.fixture(scope="session")
def pooled_root(trained_root: Path, tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained folder with a student of mtpkdot_plus, and the pool that teaches it; not to be changed."""
    root = tmp_path_factory.mktemp("pooled") / "runs"
    shutil.copytree(trained_root, root)
    options = {"pipeline.root": root, "pipeline.name": "plus", "student.model.method": "mtpkdot_plus"}
    arguments = [f"--{key}={value}" for key, value in options.items()]
    assert main(["fit", "--config", str(tiny_config), *arguments]) == 0
    return root


@pytest.fixture(scope="session")
def pooled_checkpoints(pooled_root: Path) -> dict[str, Path]:
    """Checkpoint of every stage of the student of mtpkdot_plus."""
    stages = json.loads((pooled_root / "plus" / "run.json").read_text())["stages"]
    return {name: pooled_root / "stages" / name / entry["hash"] / "model.ckpt" for name, entry in stages.items()}


@pytest.fixture
def pool(pooled_checkpoints) -> PoolModule:
    """The trained pool with its networks."""
    upstream = {f"{name}_ckpt": str(pooled_checkpoints[name]) for name in ("teacher", "adapted")}
    module = PoolModule.load_from_checkpoint(pooled_checkpoints["pool"], **upstream)
    module.setup("predict")
    return module.eval()


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
