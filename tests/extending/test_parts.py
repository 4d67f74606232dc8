"""Own parts of every kind, named in a config, go all the way without a change to the package."""

import json

import pytest
import torch
import yaml

import mtpkdot
from mtpkdot.cli.main import main
from tests.conftest import TINY
from tests.extending import parts

OWN = "tests.extending.parts"
ENCODER = {"class_path": f"{OWN}.Differences", "init_args": {"dim": 12}}
FUSION = {"class_path": f"{OWN}.Concatenation", "init_args": {"dim": 10}}
CONFIG = {
    **{key: TINY[key] for key in ("seed_everything", "data", "trainer", "adapted")},
    "backbone": {name: {"model": {"encoder": ENCODER}, "fit": {"max_epochs": 1}} for name in TINY["backbone"]},
    "teacher": {"model": {"fusion": FUSION}, "fit": {"max_epochs": 2}},
    "pool": {"model": {"members": {"centroids": f"{OWN}.Centroids", "linear": "LinearTeacher"}}},
    "hallucinator": {"model": {"tnet": f"{OWN}.Affine"}, "fit": {"max_epochs": 1}},
    "student": {
        "model": {
            "fusion": f"{OWN}.Concatenation",
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
    assert isinstance(student.model.fusion, parts.Concatenation)
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
    }
    study.write_text(yaml.safe_dump({"config": str(config), "variants": variants}))
    assert main(["crossval", "--ablation", str(study), "--folds", "2", f"--pipeline.root={root}", "--jobs", "1"]) == 0
    cells = [path.relative_to(root / "study").parts[1] for path in (root / "study").rglob("cell.json")]
    assert {name: cells.count(name) for name in variants} == dict.fromkeys(variants, 2)
    (taught,) = (root / "study").glob("*/plus/fold0-seed0/run.json")
    run = json.loads(taught.read_text())
    assert run["stages"]["pool"]["keys"]["pool.model.members.centroids.class_path"] == f"{OWN}.Centroids"
    assert main(["report", str(root / "study"), str(root / "own"), "--out", str(root / "report")]) == 0


@pytest.mark.parametrize(
    ("key", "name", "says"),
    [
        ("teacher.model.fusion", "WithoutSettings", ["WithoutSettings", "(dims, per_step)"]),
        ("student.model.fusion", "Narrow", ["Narrow returns", "(2, 15)", "joint feature (N, dim)"]),
        ("hallucinator.model.tnet", "Pooling", ["Pooling turns (2, 5, 4)", "(in_dim, out_dim)"]),
        ("hallucinator.model.tnet", "Concatenation", ["Concatenation is not a TNet", "in_dim, out_dim"]),
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
