"""Damaged data and the user's own classes, through the real entry point."""

import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import yaml

import mtpkdot
from mtpkdot.cli.main import main
from mtpkdot.errors import RunError
from tests.plugs import transport

N = 60


@pytest.fixture
def project(tmp_path):
    """A user's folder: manifest, two feature files of other names and kinds, and a config for them."""
    random = np.random.default_rng(0)
    ids = np.array([f"clip{i:02d}" for i in range(N)])
    subjects = [f"p{i // 6}" for i in range(N)]
    frame = pd.DataFrame({"id": ids, "subject": subjects, "grade": np.arange(N) % 3})
    frame["split"] = ["train"] * 36 + ["validation"] * 12 + ["test"] * 12
    frame.to_csv(tmp_path / "manifest.csv", index=False)
    thermal = pd.DataFrame(random.normal(size=(N, 5)), columns=[f"t{i}" for i in range(5)])
    thermal.insert(0, "id", ids)
    thermal.to_csv(tmp_path / "thermal.csv", index=False)
    np.savez(tmp_path / "lidar.npz", features=random.normal(size=(N, 3, 4)), ids=ids)
    config = {
        "data": {
            "class_path": "FeatureData",
            "init_args": {
                "manifest": str(tmp_path / "manifest.csv"),
                "features": {"thermal": str(tmp_path / "thermal.csv"), "lidar": str(tmp_path / "lidar.npz")},
                "prevalent": "thermal",
                "target": "grade",
                "batch_size": 16,
            },
        },
        "trainer": {"accelerator": "cpu"},
        "student": {"model": transport(top_k=5)},
        "pipeline": {"root": str(tmp_path / "runs"), "name": "mine"},
    }
    for section in ("teacher", "adapted", "hallucinator", "student"):
        config.setdefault(section, {})["fit"] = {"max_epochs": 1}
    config["backbone"] = {name: {"fit": {"max_epochs": 1}} for name in ("thermal", "lidar")}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return tmp_path


def fit(project, *overrides):
    return ["fit", "--config", str(project / "mine.yaml"), *overrides]


def rewrite(path, change):
    table = pd.read_csv(path)
    table = change(table)
    table.to_csv(path, index=False)


def put(column, row, value):
    def change(table):
        table[column] = table[column].astype(object)
        table.loc[row, column] = value
        return table

    return change


DAMAGE = {
    "missing modality file": (lambda p: (p / "thermal.csv").unlink(), ["thermal.csv"]),
    "missing manifest": (lambda p: (p / "manifest.csv").unlink(), ["manifest.csv"]),
    "sample without features": (lambda p: rewrite(p / "thermal.csv", lambda t: t.drop(index=7)), ["thermal", "clip07"]),
    "duplicate id in manifest": (lambda p: rewrite(p / "manifest.csv", put("id", 8, "clip03")), ["line 10", "clip03"]),
    "duplicate id in features": (lambda p: rewrite(p / "thermal.csv", put("id", 8, "clip03")), ["thermal", "clip03"]),
    "NaN": (lambda p: rewrite(p / "thermal.csv", put("t2", 9, None)), ["thermal", "clip09", "t2"]),
    "infinite": (lambda p: rewrite(p / "thermal.csv", put("t2", 9, np.inf)), ["thermal", "clip09", "t2"]),
    "text": (lambda p: rewrite(p / "thermal.csv", put("t2", 9, "high")), ["thermal", "t2"]),
    "class absent from training": (lambda p: rewrite(p / "manifest.csv", put("grade", 59, 7)), ["7"]),
    "subject in two splits": (lambda p: rewrite(p / "manifest.csv", put("subject", 59, "p0")), ["p0", "train", "test"]),
    "empty split": (
        lambda p: rewrite(p / "manifest.csv", lambda t: t.replace({"split": {"test": "train"}})),
        ["test part is empty"],
    ),
    "unknown part": (lambda p: rewrite(p / "manifest.csv", put("split", 5, "later")), ["clip05", "later"]),
    "wrong shape": (lambda p: np.savez(p / "lidar.npz", features=np.zeros(N)), ["lidar.npz", "(60,)"]),
    "too few rows": (lambda p: np.savez(p / "lidar.npz", features=np.zeros((N - 1, 3))), ["lidar.npz", "59"]),
    "truncated file": (
        lambda p: (p / "lidar.npz").write_bytes((p / "lidar.npz").read_bytes()[:400]),
        ["lidar.npz"],
    ),
    "no such column": (lambda p: rewrite(p / "manifest.csv", lambda t: t.drop(columns="grade")), ["grade"]),
    "mask of other values": (
        lambda p: np.savez(p / "lidar.npz", features=np.ones((N, 3, 4)), mask=np.full((N, 3), -np.inf)),
        ["lidar.npz", "mask == 0"],
    ),
    "target among features": (
        lambda p: rewrite(p / "thermal.csv", lambda t: t.assign(Grade=0.5)),
        ["thermal.csv", "'Grade'", "not a feature"],
    ),
    "features without ids": (
        lambda p: rewrite(p / "thermal.csv", lambda t: t.rename(columns={"id": "ID"})),
        ["thermal.csv has no column 'id'", "upper and lower case"],
    ),
    "empty manifest": (lambda p: (p / "manifest.csv").write_text(""), ["manifest.csv"]),
}


# Of the call or the config, which name what is not there; all else is in the data.
MISTAKES = {"missing manifest", "no such column"}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_data_stop_with_one_line_before_any_training(name, project, complaint):
    damage, words = DAMAGE[name]
    damage(project)
    line = complaint(fit(project), 2 if name in MISTAKES else 1)
    assert all(word in line for word in words), line
    assert not (project / "runs").exists()


def test_default_encoders_run_through_every_stage_without_a_warning(project):
    command = [sys.executable, "-m", "mtpkdot"]
    done = subprocess.run([*command, *fit(project)], capture_output=True, text=True, cwd=project)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("policy", ["zero", "drop"])
def test_broken_values_can_be_zeroed_or_dropped(policy, project):
    rewrite(project / "thermal.csv", put("t2", 9, None))
    assert main(fit(project, "--data.init_args.nan", policy)) == 0


def test_missing_samples_can_be_masked_in_every_stage(project):
    rewrite(project / "thermal.csv", lambda t: t.drop(index=[7, 40, 50]))
    lidar = np.load(project / "lidar.npz")
    np.savez(project / "lidar.npz", features=lidar["features"][10:], ids=lidar["ids"][10:])
    assert main(fit(project, "--data.init_args.missing", "mask")) == 0
    table = pd.read_parquet(project / "runs" / "mine" / "predictions.parquet")
    absent = table[table["id"].isin(["clip40", "clip50"]) & (table["stage"] == "student")]
    assert sorted(absent["id"]) == ["clip40", "clip50"]
    assert np.isfinite(absent[["p_0", "p_1", "p_2"]].to_numpy()).all()


def test_a_damaged_run_leaves_what_was_trained(project, complaint):
    assert main(fit(project)) == 0
    before = {path: path.read_bytes() for path in (project / "runs").rglob("*") if path.is_file()}
    rewrite(project / "thermal.csv", put("t2", 9, None))
    complaint(fit(project), 1)
    assert {path: path.read_bytes() for path in (project / "runs").rglob("*") if path.is_file()} == before


def test_encoder_and_data_set_come_from_the_users_own_file(project, monkeypatch, complaint):
    (project / "my_project.py").write_text(
        textwrap.dedent(
            """
            import torch
            from mtpkdot.data import FeatureData
            from mtpkdot.models import Encoder


            class Squares(Encoder):
                def __init__(self, steps, dim: int = 8, power: float = 2.0):
                    super().__init__(steps, dim)
                    self.power = power
                    self.linear = torch.nn.Linear(steps.shape[0], dim)

                def forward(self, x, mask):
                    return self.linear(x.abs() ** self.power), mask


            class MyData(FeatureData):
                pass
            """
        )
    )
    monkeypatch.syspath_prepend(str(project))
    own = ["--backbone.thermal.model.encoder", "my_project.Squares", "--backbone.thermal.model.encoder.power", "1.5"]
    assert main(fit(project, *own, "--data.class_path", "my_project.MyData")) == 0
    # The user's own run is his to evaluate and to load; without the note that he made it, it is a stranger's.
    run = project / "runs" / "mine"
    assert main(["test", str(run)]) == 0
    backbone = next((project / "runs" / "stages" / "backbone.thermal").iterdir())
    assert type(mtpkdot.load(backbone).backbone.encoder).__name__ == "Squares"
    monkeypatch.setenv("XDG_STATE_HOME", str(project / "state of another user"))
    assert "--trust my_project" in complaint(["test", str(run)])
    with pytest.raises(RunError, match="--trust my_project"):
        mtpkdot.load(backbone)
    assert main(["test", str(run), "--trust", "my_project"]) == 0
    sys.modules.pop("my_project")


def test_near_constant_low_rank_features_of_a_regression_are_finite(project):
    random = np.random.default_rng(1)
    values = random.normal(size=(N, 2)) @ random.normal(size=(2, 40))
    values[:, 3], values[:, 4], values[:, 5] = 5.0, 0.0, 1e6 + 1e-3 * random.normal(size=N)
    values[50, 4] = 100.0
    np.savez(project / "lidar.npz", features=values, ids=[f"clip{i:02d}" for i in range(N)])
    rewrite(project / "manifest.csv", lambda t: t.assign(load=values[:, 0], speed=values[:, 1]))
    own = ["--data.init_args.task", "regression", "--data.init_args.target", "[load, speed]"]
    assert main(fit(project, *own)) == 0
    table = pd.read_parquet(project / "runs" / "mine" / "predictions.parquet")
    assert np.isfinite(table["prediction"]).all()


def test_exit_codes_are_those_of_the_table_in_the_readme(project):
    """0 done, 1 in the data, 2 in the call or the config, 143 terminated; test_diverged has the others of 1."""
    check = ["data", "check", "--config", str(project / "mine.yaml")]
    backbone = "--pipeline.stages=[backbone.thermal]"
    assert main(check) == 0
    assert main(fit(project, backbone)) == 0
    assert main(fit(project, "--student.model.method", "no_such")) == 2
    assert main(["data", "check", "no_such", "."]) == 2
    rewrite(project / "thermal.csv", put("t2", 9, None))
    assert main(check) == 1
    assert main(fit(project, backbone)) == 1
    rewrite(project / "thermal.csv", put("t2", 9, 0.5))
    absent = (project / "thermal.csv").rename(project / "aside.csv")
    assert main(check) == 1
    absent.rename(project / "thermal.csv")
    assert main([*check, "--data.init_args.target", "no_such"]) == 2
    own = "import os, signal\nfrom lightning.pytorch.callbacks import Callback\n\n\nclass Stop(Callback):\n"
    own += "    def on_train_epoch_start(self, trainer, module):\n        os.kill(os.getpid(), signal.SIGTERM)\n"
    (project / "stopping.py").write_text(own)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(project))
        more = ["--trainer.callbacks=stopping.Stop", "--pipeline.name=stopped", "--backbone.thermal.fit.max_epochs=2"]
        assert main(fit(project, backbone, *more)) == 143
