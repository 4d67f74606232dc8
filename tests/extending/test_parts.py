"""Own parts of every kind, named in a config, go all the way without a change to the package."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

import mtpkdot
from mtpkdot import trust
from mtpkdot.cli.main import main
from mtpkdot.errors import RunError
from tests.conftest import TINY
from tests.extending import parts

OWN = "tests.extending.parts"
ENCODER = {"class_path": f"{OWN}.Differences", "init_args": {"dim": 12}}
FUSION = {"class_path": f"{OWN}.Beside", "init_args": {"dim": 10}}
CONFIG = {
    **{key: TINY[key] for key in ("seed_everything", "data", "trainer", "adapted")},
    "backbone": {name: {"model": {"encoder": ENCODER}, "fit": {"max_epochs": 1}} for name in TINY["backbone"]},
    "teacher": {"model": {"fusion": FUSION}, "fit": {"max_epochs": 2}},
    "pool": {"model": {"members": {"centroids": f"{OWN}.Centroids", "linear": "LinearTeacher"}}},
    "hallucinator": {"model": {"tnet": f"{OWN}.Affine"}, "fit": {"max_epochs": 1}},
    "student": {
        "model": {
            "fusion": f"{OWN}.Beside",
            "structure": {"class_path": f"{OWN}.Gram", "init_args": {"factor": 2.0}},
            "selection": f"{OWN}.Even",
        },
        "fit": {"max_epochs": 2},
    },
    "pipeline": {"name": "own"},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "own.yaml"
    path.write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def root(config, tmp_path_factory):
    """A folder of runs with a finished one."""
    root = tmp_path_factory.mktemp("runs")
    assert main(["data", "check", "--config", str(config)]) == 0
    assert main(["fit", "--config", str(config), "--pipeline.root", str(root)]) == 0
    return root


def test_a_run_of_own_parts_is_trained_evaluated_and_loaded(root):
    assert main(["test", str(root / "own"), "--trust", "tests"]) == 0
    student = mtpkdot.load(root / "own")
    assert isinstance(student.model.backbone.encoder, parts.Differences)
    assert isinstance(student.model.fusion, parts.Beside)
    assert all(isinstance(tnet, parts.Affine) for tnet in student.model.tnets)
    keys = json.loads((root / "own" / "run.json").read_text())["stages"]["student"]["keys"]
    assert keys["student.model.structure.init_args.factor"] == 2.0
    assert keys["student.model.tnet.class_path"] == f"{OWN}.Affine"
    dim = TINY["data"]["init_args"].get("video_dim", 32)
    feature, output = student(torch.zeros(2, 3, dim), torch.ones(2, 3, dtype=torch.bool))
    assert (feature.shape, output.shape) == ((2, 16), (2, 4))


def test_own_parts_are_compared_in_a_study_with_an_own_rival(config, root):
    study = root / "study.yaml"
    variants = {
        "none": {"student.model.method": "none"},
        "mtpkdot": {"student.model.method": "mtpkdot"},
        "plus": {"student.model.method": "mtpkdot_plus"},
        "own": {"student.model.method": "rival", "student.model.rival": f"{OWN}.Distance"},
        "blend": {"student.model.method": f"{OWN}.BLEND"},
    }
    study.write_text(yaml.safe_dump({"config": str(config), "variants": variants}))
    assert main(["crossval", "--ablation", str(study), "--folds", "2", f"--pipeline.root={root}", "--jobs", "1"]) == 0
    cells = [path.relative_to(root / "study").parts[1] for path in (root / "study").rglob("cell.json")]
    assert {name: cells.count(name) for name in variants} == dict.fromkeys(variants, 2)
    (taught,) = (root / "study").glob("*/plus/fold0-seed0/run.json")
    run = json.loads(taught.read_text())
    assert run["stages"]["pool"]["keys"]["pool.model.members.centroids.class_path"] == f"{OWN}.Centroids"
    assert main(["report", str(root / "study"), str(root / "own"), "--out", str(root / "report")]) == 0


@pytest.fixture(scope="module")
def blended(config, root):
    """The same run with an own method."""
    own = [f"--student.model.method={OWN}.BLEND", "--pipeline.name=blended"]
    assert main(["fit", "--config", str(config), "--pipeline.root", str(root), *own]) == 0
    return root / "blended"


def test_an_own_method_trains_a_student_with_its_own_terms_and_teachers(blended, root):
    jobs = json.loads((blended / "run.json").read_text())["stages"]
    keys = jobs["student"]["keys"]
    assert keys["student.model.method"] == f"{OWN}.BLEND"
    assert (keys["student.method.teachers"], keys["student.method.weights.output"]) == ("Blend", 0.5)
    assert keys["upstream.teacher_ckpt"] == jobs["teacher"]["hash"]
    assert "upstream.adapted_ckpt" not in keys
    assert "tests/extending/parts.py" in jobs["student"]["sources"]
    (log,) = (root / "stages" / "student" / jobs["student"]["hash"]).rglob("metrics.csv")
    terms = [name for name in pd.read_csv(log) if name.startswith("train/loss_")]
    assert sorted(terms) == ["train/loss_output", "train/loss_task", "train/loss_transport"]


def test_a_run_of_an_own_method_is_imported_only_if_it_is_trusted(blended, root, tmp_path, monkeypatch, complaint):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # another user's
    monkeypatch.setattr(trust, "_granted", set())
    jobs = json.loads((blended / "run.json").read_text())["stages"]
    assert "which is not part of mtpkdot" in complaint(["test", str(blended)])
    assert main(["test", str(blended), "--trust", "tests"]) == 0
    stored = torch.load(root / "stages" / "student" / jobs["student"]["hash"] / "model.ckpt", weights_only=True)
    plain = {key: value for key, value in stored["hyper_parameters"].items() if key == "method"}
    with pytest.raises(RunError, match=rf"names {OWN}\.BLEND"):
        trust.check(plain, "model.ckpt")


def test_an_own_method_is_a_method_of_a_study_and_its_report(config, root):
    methods = ["--methods", f"none,{OWN}.BLEND", "--name", "methods"]
    call = ["crossval", "--config", str(config), "--folds", "2", "--jobs", "1", f"--pipeline.root={root}"]
    assert main([*call, *methods]) == 0
    assert {"none", "BLEND"} <= set(pd.read_parquet(root / "methods" / "predictions.parquet")["method"])
    assert main(["report", str(root / "methods"), "--out", str(root / "page")]) == 0
    assert "BLEND" in (root / "page" / "report.md").read_text()


def test_a_change_of_an_own_method_trains_the_student_anew(config, root, monkeypatch, tmp_path, capsys):
    code = (Path(parts.__file__).read_text(), tmp_path / "my_parts.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    call = ["stage", "student", "--config", str(config), f"--pipeline.root={root}"]
    call += ["--student.model.method=my_parts.BLEND"]
    for text, anew in ((code[0], True), (f"# A comment.\n{code[0]}", False), (code[0].replace("0.25", "0.5"), True)):
        code[1].write_text(text)
        assert main([*call, f"--pipeline.name=changing{len(text)}"]) == 0
        assert ("student: taken from" not in capsys.readouterr().out) == anew


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (f"{OWN}.FLAT", ["Flat.spaces returns", "(4,)", "as 'joint' for 32 rows", "output (N, num_outputs)"]),
        (f"{OWN}.RENAMED", ["Renamed has the spaces both, and none named joint"]),
        (f"{OWN}.UNFINISHED", [f"student.model.method {OWN}.UNFINISHED", "Unfinished, which lacks load, spaces"]),
        (f"{OWN}.ELSEWHERE", ["needs the stage 'mixture': teachers are loaded from teacher, adapted"]),
        (f"{OWN}.MISSPELT", ["weighs a term 'outptu', which is none of task, transport"]),
        (f"{OWN}.CLASSLESS", ["has the teachers 'Blend', which is no subclass of Teachers"]),
        (f"{OWN}.Blend", ["is no Method. Write `MY_METHOD = Method("]),
        (f"{OWN}.BLAND", ["cannot be imported", "BLAND"]),
        ("nowhere.BLEND", ["cannot be imported", "nowhere"]),
        ("blend", ["student.model.method is 'blend', which is no method", "Choose from none, pkdot"]),
    ],
)
def test_a_wrong_method_is_one_line(method, says, config, root, complaint):
    call = ["fit", "--config", str(config), f"--pipeline.root={root}", f"--pipeline.name={method}"]
    line = complaint([*call, f"--student.model.method={method}"])
    assert all(word in line for word in says), line


@pytest.mark.parametrize(
    ("key", "name", "says"),
    [
        ("teacher.model.fusion", "WithoutSettings", ["WithoutSettings", "(dims, per_step)"]),
        ("student.model.fusion", "Narrow", ["Narrow returns", "(2, 15)", "joint feature (N, dim)"]),
        ("hallucinator.model.tnet", "Pooling", ["Pooling turns (2, 5, 4)", "(in_dim, out_dim)"]),
        ("hallucinator.model.tnet", "Beside", ["Beside is not a TNet", "in_dim, out_dim"]),
        ("student.model.selection", "Gram", ["Gram is not a Selection"]),
        ("student.model.selection", "PerTeacher", ["PerTeacher returns (2,), (4,)", "Shares of weights (N, T)"]),
        ("pool.model.members.mine", "Lopsided", ["Lopsided returns (8, 1) and (8, 1)", "fit(task, training,"]),
        ("pool.model.members.mine", "Even", ["Even is not a Member"]),
        ("student.model.structure", "Even", ["Even is not a StructuralLoss"]),
    ],
)
def test_a_wrong_class_is_one_line_with_what_is_expected(key, name, says, config, tmp_path, complaint):
    words = [f"--{key}={OWN}.{name}", *(["--student.model.method=mtpkdot_plus"] if key.startswith("pool") else [])]
    line = complaint(["fit", "--config", str(config), "--pipeline.root", str(tmp_path), *words])
    assert all(word in line for word in [key.split(".")[0], *says]), line
    assert not list(tmp_path.rglob("model.ckpt"))
