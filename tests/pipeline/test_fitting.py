import json
import os
import shutil
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch

import mtpkdot
from mtpkdot.errors import ConfigError, UserError
from tests.conftest import TINY


@pytest.fixture
def root(trained_root, tmp_path):
    """A copy of the trained experiment."""
    shutil.copytree(trained_root, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.mark.parametrize("form", ["path", "text", "mapping"])
def test_the_run_is_that_of_the_command(form, root, tiny_config):
    before = pd.read_parquet(root / "tiny" / "predictions.parquet")
    trained = {path: path.stat().st_mtime_ns for path in root.glob("stages/*/*/model.ckpt")}
    config = {"path": Path(tiny_config), "text": str(tiny_config), "mapping": TINY}[form]
    filters, trusted = list(warnings.filters), os.environ.get("MTPKDOT_TRUST")
    run = mtpkdot.fit(config, "--pipeline.root", str(root), "--trust", "nobody")
    assert run == root / "tiny"
    assert {path: path.stat().st_mtime_ns for path in root.glob("stages/*/*/model.ckpt")} == trained
    pd.testing.assert_frame_equal(pd.read_parquet(run / "predictions.parquet"), before)
    assert type(mtpkdot.load(run)).__name__ == "StudentModule"
    assert (warnings.filters, os.environ.get("MTPKDOT_TRUST")) == (filters, trusted)


def test_options_hold_over_the_config(root):
    run = mtpkdot.fit(TINY, f"--pipeline.root={root}", "--pipeline.name=other", "--student.fit.max_epochs=1")
    assert run == root / "other"
    assert len(list(root.glob("stages/student/*/model.ckpt"))) == 2
    assert len(list(root.glob("stages/teacher/*/model.ckpt"))) == 1


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("nowhere.yaml", "nowhere.yaml"),
        ({**TINY, "studnet": {}}, "studnet"),
        ({**TINY, "student": {"model": {"learning": 1}}}, "learning"),
        ({**TINY, "seed_everything": "often"}, "seed_everything"),
        ({**TINY, "seed_everything": Path("0")}, "the config holds a value that YAML cannot"),
        ({"student": {}}, "data"),
    ],
)
def test_a_mistake_is_an_error_of_one_line(config, told, tmp_path):
    with pytest.raises(UserError, match=told) as error:
        mtpkdot.fit(config, f"--pipeline.root={tmp_path}")
    assert "\n" not in str(error.value)
    assert isinstance(error.value, ConfigError)
    assert not list(tmp_path.iterdir())


def test_without_people_to_select_by_the_last_epoch_is_kept(root):
    options = [f"--pipeline.root={root}", "--student.model.method=none", "--data.validation_labels=train"]
    run = mtpkdot.fit(TINY, *options, "--pipeline.name=fuller", "--student.fit.max_epochs=4")
    stages = json.loads((run / "run.json").read_text())["stages"]
    for name, job in stages.items():
        folder = root / "stages" / name / job["hash"]
        trained = json.loads((folder / "stage.json").read_text())["trained"]
        assert (trained["monitor"], trained["score"]) == ("last epoch", None)
        assert trained["kept"] == trained["epochs"] == (4 if name == "student" else 2)
        assert torch.load(folder / "model.ckpt", weights_only=True)["epoch"] == trained["kept"] - 1
    kept = [json.loads(path.read_text())["trained"] for path in root.glob("stages/student/*/stage.json")]
    assert any(1 <= one["kept"] <= one["epochs"] and one["monitor"].startswith("val/") for one in kept)
    assert json.loads((run / "run.json").read_text())["samples"] == {"train": 96, "validation": 24, "test": 24}
    for wrong, words in (
        ("--student.fit.patience=3", "student.fit.patience is 3"),
        ("--backbone.video.fit.monitor=val/accuracy", "backbone.video.fit.monitor is 'val/accuracy'"),
        ("--student.model.method=mtpkdot_plus", "mtpkdot_plus needs held-out people"),
        ("--student.model.method=selftraining", "selftraining needs held-out people"),
    ):
        with pytest.raises(ConfigError, match=words):
            mtpkdot.fit(TINY, *options, "--pipeline.name=wrong", wrong)
