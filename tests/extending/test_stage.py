"""Stages of the user's own, through the real entry point."""

import json

import pandas as pd
import pytest
import torch
import yaml

import mtpkdot
from mtpkdot.cli.main import main
from mtpkdot.pipeline.planning import Plan
from mtpkdot.pipeline.store import StoredStage
from tests.conftest import TINY
from tests.extending.own_stage import Mixture
from tests.plugs import hourglass

OWN = "tests.extending.own_stage"
MIXTURE = {"class_path": f"{OWN}.Mixture", "init_args": {"temperature": 2.0}, "fit": {"max_epochs": 2}}
CORRECTED = {"class_path": f"{OWN}.Corrected", "fit": {"max_epochs": 1}, "before": None}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "own.yaml"
    extra = {"mixture": MIXTURE, "corrected": CORRECTED}
    path.write_text(yaml.safe_dump({**TINY, "pipeline": {"name": "own", "extra_stages": extra}}, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def root(config, tmp_path_factory):
    """A folder of runs with a finished one; not to be changed."""
    root = tmp_path_factory.mktemp("runs")
    assert main(["fit", "--config", str(config), "--pipeline.root", str(root)]) == 0
    return root


def record(root, run="own"):
    return json.loads((root / run / "run.json").read_text())["stages"]


def stored(root, name, run="own"):
    return StoredStage(root, name, record(root, run)[name]["hash"])


def test_own_stages_are_trained_in_their_place_and_evaluated(root):
    assert list(record(root))[-3:] == ["mixture", "student", "corrected"]
    rows = json.loads((root / "own" / "results.json").read_text())
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    assert stages == ["backbone", "teacher", "adapted", "mixture", "student", "corrected"]
    predicted = pd.read_parquet(root / "own" / "predictions.parquet")
    assert {"mixture", "corrected"} <= set(predicted["stage"])


def test_own_stages_are_known_by_their_settings_their_sources_and_what_they_stand_on(root):
    of_run = record(root)
    keys, sources = of_run["mixture"]["keys"], of_run["mixture"]["sources"]
    assert (keys["mixture.model.temperature"], keys["mixture.fit.max_epochs"]) == (2.0, 2)
    assert keys["upstream.adapted_ckpt"] == of_run["adapted"]["hash"]
    assert of_run["corrected"]["keys"]["upstream.student_ckpt"] == of_run["student"]["hash"]
    assert of_run["corrected"]["keys"]["upstream.mixture_ckpt"] == of_run["mixture"]["hash"]
    assert "tests/extending/own_stage.py" in sources
    assert [name for name, job in of_run.items() if not job["shared"]] == ["student", "corrected"]


def test_a_stored_own_stage_is_taken_again_and_its_section_overrides_what_it_begins_with(root, config, capsys):
    call = ["--config", str(config), "--pipeline.root", str(root), "--pipeline.name", "wider"]
    assert main(["stage", "mixture", *call]) == 0
    assert "mixture: taken from" in capsys.readouterr().out
    assert main(["stage", "mixture", *call, "--mixture.model.temperature", "3", "--pipeline.name", "other"]) == 0
    assert record(root, "other")["mixture"]["keys"]["mixture.model.temperature"] == 3.0
    assert record(root, "other")["mixture"]["keys"]["mixture.fit.max_epochs"] == 2


def test_own_stages_are_evaluated_again_wherever_the_runs_have_moved(root, tmp_path):
    moved = root.rename(tmp_path / "moved")
    try:
        before = pd.read_parquet(moved / "own" / "predictions.parquet")
        assert main(["test", str(moved / "own"), "--trainer.accelerator", "cpu"]) == 0
        after = pd.read_parquet(moved / "own" / "predictions.parquet")
        key = ["split", "stage", "id"]
        pd.testing.assert_frame_equal(
            before.sort_values(key, ignore_index=True), after.sort_values(key, ignore_index=True)
        )
    finally:
        moved.rename(root)


def test_an_own_stage_loads_by_its_folder(root):
    loaded = mtpkdot.load(stored(root, "mixture").folder)
    assert isinstance(loaded, Mixture)
    assert loaded.temperature == 2.0


def test_the_student_starts_from_an_own_stage_that_its_section_names(root, config):
    """A second hallucinator in the place of the first."""
    extra = {"hallucinator2": {"class_path": "mtpkdot.modules.HallucinatorModule", "init_args": hourglass(hidden=[8])}}
    call = ["fit", "--config", str(config), "--pipeline.root", str(root), "--pipeline.name", "second"]
    call += [f"--pipeline.extra_stages={json.dumps(extra)}", "--hallucinator2.fit.max_epochs=1"]
    assert main([*call, "--student.model.hallucinator_ckpt=hallucinator2"]) == 0
    keys = record(root, "second")["student"]["keys"]
    assert keys["upstream.hallucinator_ckpt"] == record(root, "second")["hallucinator2"]["hash"]
    weights = torch.load(stored(root, "student", "second").checkpoint, weights_only=True)["state_dict"]
    assert weights["model.tnets.0.layers.0.weight"].shape[0] == 8


def test_an_own_student_takes_the_checkpoint_of_an_own_stage(root, config):
    extra = {"mixture": MIXTURE, "warm": {"class_path": f"{OWN}.Warm", "init_args": {"method": "none"}, "before": None}}
    call = ["fit", "--config", str(config), "--pipeline.root", str(root), "--pipeline.name", "warm"]
    options = ["--warm.fit.max_epochs=1", "--warm.model.fusion.dim=16", "--warm.model.fusion.feedforward=16"]
    assert main([*call, f"--pipeline.extra_stages={json.dumps(extra)}", *options]) == 0
    keys = record(root, "warm")["warm"]["keys"]
    of_mixture = record(root, "warm")["mixture"]["hash"]
    assert keys["upstream.mixture_ckpt"] == of_mixture
    assert keys["warm.method.weights.task"] == 1.0
    assert "upstream.teacher_ckpt" not in keys
    shares, begun = (
        torch.load(stored(root, name, "warm").checkpoint, weights_only=True)["state_dict"][of]
        for name, of in (("mixture", "shares"), ("warm", "begun"))
    )
    assert shares.abs().sum() > 0
    assert torch.equal(shares, begun)


def test_a_study_and_its_report_have_own_stages(config, tmp_path):
    call = ["crossval", "--config", str(config), "--folds", "2", "--jobs", "1", "--name", "study"]
    assert main([*call, "--methods", "none,pkdot", "--pipeline.root", str(tmp_path)]) == 0
    of_upstream = record(tmp_path, "study/all/upstream/fold0-seed0")
    of_student = record(tmp_path, "study/all/pkdot/fold0-seed0")
    assert "mixture" in of_upstream
    assert "corrected" not in of_upstream
    assert of_student["mixture"]["hash"] == of_upstream["mixture"]["hash"]
    found = pd.read_parquet(tmp_path / "study" / "predictions.parquet")
    assert {"mixture", "none.corrected", "pkdot.corrected"} <= set(found["method"])
    assert main(["report", str(tmp_path / "study"), "--out", str(tmp_path / "page")]) == 0
    assert "mixture" in (tmp_path / "page" / "report.md").read_text()


def test_the_stages_of_a_study_that_follow_from_its_students_are_known(config):
    plan = Plan(config, None, ("none",), folds="2", seeds=None, labelled=(), protocols=(), name=None, overrides=())
    assert plan.study().downstream == ("pool", "student", "corrected")


def test_a_single_run_is_reported_with_own_stages(root, tmp_path):
    assert main(["report", str(root / "own"), "--out", str(tmp_path / "page")]) == 0
    table = pd.read_csv(tmp_path / "page" / "results.csv")
    assert {"mixture", "mtpkdot.corrected"} <= set(table["method"])


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ({"class_path": "nowhere.Mine"}, "nowhere.Mine cannot be imported"),
        ({"class_path": f"{OWN}.Mine"}, "Mine cannot be imported"),
        (
            {"class_path": "torch.nn.Linear"},
            "torch.nn.Linear is not a stage. Write a subclass of mtpkdot.modules.Stage",
        ),
        ({"class_path": f"{OWN}.Narrow"}, "takes no argument task, targets, modalities, prevalent, rates, per_step"),
        ({"class_path": f"{OWN}.Idle"}, "Idle has no losses. Write a subclass"),
        ({"class_path": f"{OWN}.Forgetful"}, "Call `self.save_hyperparameters()` in its __init__"),
        ({"class_path": f"{OWN}.Misshapen"}, "Misshapen.losses returns the terms task. It returns scalar terms"),
        (
            {"class_path": f"{OWN}.Misshapen", "init_args": {"wrong": "outputs"}},
            "Misshapen.outputs returns (24, 3) for the head video+signal. It returns (N, num_outputs)",
        ),
        ({**MIXTURE, "init_args": {"temprature": 2.0}}, "temprature"),
        ({**MIXTURE, "befor": "student"}, "has a key 'befor', which is not known. Did you mean before?"),
        ({**MIXTURE, "before": "studnt"}, "before is 'studnt'. Did you mean student?"),
        ({**MIXTURE, "before": "teacher"}, "needs the stage adapted, which is trained after own. Set pipeline.extra"),
        ({"class_path": f"{OWN}.Corrected", "before": None}, "needs a stage 'mixture', which does not exist"),
        ({"init_args": {}}, "needs a class_path"),
    ],
)
def test_a_wrong_stage_is_reported_in_one_line(stage, told, root, tiny_config, tmp_path, complaint):
    call = ["fit", "--config", str(tiny_config), "--pipeline.root", str(root), "--pipeline.name", tmp_path.name]
    line = complaint([*call, "--pipeline.stages=[own]", f"--pipeline.extra_stages={json.dumps({'own': stage})}"])
    assert told in line


@pytest.mark.parametrize("name", ["student", "data", "upstream", "a.b"])
def test_a_name_that_is_taken_or_cannot_be_a_section_is_reported(name, tiny_config, complaint):
    extra = json.dumps({name: MIXTURE})
    assert f"the name {name!r} is taken or not valid" in complaint(
        ["fit", "--config", str(tiny_config), f"--pipeline.extra_stages={extra}"]
    )
