import os
import shutil
import warnings
from pathlib import Path

import pandas as pd
import pytest

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
