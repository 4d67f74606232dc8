"""The number of processes changes nothing: not the losses, not the metrics, not what is written."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from tests.pipeline.processes import EPOCHS, EXACT, curves, run

pytestmark = pytest.mark.slow
WORLDS = (1, 2, 4)
STAGES = ("backbone.video", "backbone.signal", "teacher", "adapted", "hallucinator", "student")
FEW = ("mtpkdot", "sp", "selftraining")
METHODS = {1: FEW, 2: FEW, 4: ("mtpkdot",)}


def fit(folder: Path, world: int, methods: tuple[str, ...], *arguments: str) -> Path:
    """A folder of runs, one for each method, in a number of processes."""
    config, root = folder / "exact.yaml", folder / str(world)
    config.write_text(yaml.safe_dump(EXACT, sort_keys=False))
    common = ["fit", "--config", str(config), "--pipeline.root", str(root), *arguments]
    commands = [[*common, "--student.model.method", method, "--pipeline.name", method] for method in methods]
    run(world, *commands, log=folder / f"log-{world}")
    return root


class Roots(dict[int, Path]):
    """Runs in double precision by number of processes, each made when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __missing__(self, world: int) -> Path:
        self[world] = fit(self.folder, world, METHODS[world])
        return self[world]


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> Roots:
    return Roots(tmp_path_factory.mktemp("ranks"))


def stage_folder(root: Path, stage: str, method: str = "mtpkdot") -> Path:
    entry = json.loads((root / method / "run.json").read_text())["stages"][stage]
    return root / "stages" / stage / entry["hash"]


def curve(root: Path, stage: str, method: str, rank: int = 0):
    return curves(stage_folder(root, stage, method), rank)


CASES = {
    world: [(stage, methods[0]) for stage in STAGES] + [("student", method) for method in methods[1:]]
    for world, methods in METHODS.items()
}


@pytest.mark.parametrize(("world", "stage", "method"), [(world, *c) for world in WORLDS[1:] for c in CASES[world]])
def test_every_step_has_the_loss_of_one_process(world, stage, method, roots):
    expected, epochs = curve(roots[1], stage, method)
    assert len(expected) > 20
    for rank in range(world):
        steps, metrics = curve(roots[world], stage, method, rank)
        assert steps == pytest.approx(expected, rel=0, abs=1e-8)
        assert len(metrics) == len(epochs)
        for now, before in zip(metrics, epochs, strict=True):
            assert now == pytest.approx(before, abs=1e-7)


def test_over_two_hundred_steps_the_student_goes_the_way_of_one_process(roots):
    longer = ["--student.fit.max_epochs=34", "--pipeline.name=long", "--student.model.method=mtpkdot"]
    found = {}
    for world in WORLDS[:2]:
        command = ["fit", "--config", str(roots.folder / "exact.yaml"), "--pipeline.root", str(roots[world])]
        run(world, [*command, *longer], log=roots.folder / f"long-{world}")
        assert (roots.folder / f"long-{world}-0").read_text().count("taken from") == 5
        found[world], _ = curve(roots[world], "student", "long")
    assert len(found[1]) > 200
    assert found[2] == pytest.approx(found[1], rel=0, abs=1e-8)


@pytest.mark.parametrize("world", WORLDS[1:])
def test_the_weights_and_predictions_are_those_of_one_process(world, roots):
    for stage, method in CASES[world]:
        one, many = (
            torch.load(stage_folder(roots[w], stage, method) / "model.ckpt", weights_only=True)["state_dict"]
            for w in (1, world)
        )
        assert one.keys() == many.keys()
        for key, value in one.items():
            torch.testing.assert_close(many[key], value, rtol=0, atol=1e-7, msg=f"{stage} {key}")
    for method in METHODS[world]:
        one, many = (pd.read_parquet(roots[w] / method / "predictions.parquet") for w in (1, world))
        pd.testing.assert_frame_equal(one, many, atol=1e-5)


@pytest.mark.parametrize("world", WORLDS[1:])
def test_one_process_writes_and_prints(world, roots):
    folder = roots[world]
    assert not list((folder / "stages").glob("*/.*"))
    first = Path(f"{folder.parent / 'log'}-{world}-0").read_text()
    assert first.count(f"[6/6] student: {EPOCHS} epochs") == len(METHODS[world])
    assert first.count("teacher: taken from") == len(METHODS[world]) - 1
    for rank in range(1, world):
        assert Path(f"{folder.parent / 'log'}-{world}-{rank}").read_text() == ""


def test_the_first_steps_in_single_precision_differ_by_rounding(tmp_path):
    of = {world: fit(tmp_path, world, ("mtpkdot",), "--trainer.precision", "32-true") for world in WORLDS[:2]}
    for stage in STAGES:
        expected, *others = (curve(root, stage, "mtpkdot")[0][:20] for root in of.values())
        assert len(expected) == 20
        for found in others:
            assert found == pytest.approx(expected, rel=0, abs=1e-5), stage


def test_trained_parts_and_a_shuffled_control_equal_those_of_one_process(tmp_path):
    settings = ["--teacher.model.finetune_encoders=true", "--student.model.finetune_encoder=true"]
    settings += ["--student.model.train_tnet=true", "--student.model.queue=12", "--student.model.weighting=uncertainty"]
    settings += ["--adapted.model.shuffle=true", "--adapted.model.teacher=cotrained"]
    one, two = (fit(tmp_path, world, ("mtpkdot",), *settings) for world in (1, 2))
    for stage in ("teacher", "adapted", "student"):
        assert curve(two, stage, "mtpkdot")[0] == pytest.approx(curve(one, stage, "mtpkdot")[0], rel=0, abs=1e-8), stage


def test_a_weight_raised_for_few_labels_is_that_of_one_process(tmp_path):
    one, two = (fit(tmp_path, world, ("mtpkdot_plus",), "--data.labelled=0.15") for world in (1, 2))
    folders = [stage_folder(root, "student", "mtpkdot_plus") for root in (one, two)]
    logged = [pd.read_csv(next(folder.rglob("metrics.csv")))["train/weight_output"].dropna() for folder in folders]
    assert logged[0].iloc[-1] > 3.5
    assert logged[1].to_numpy() == pytest.approx(logged[0].to_numpy(), rel=1e-9)
    assert curves(folders[1])[0] == pytest.approx(curves(folders[0])[0], rel=0, abs=1e-8)


def test_the_program_starts_its_processes_itself_and_so_does_torchrun(tmp_path):
    config = tmp_path / "exact.yaml"
    config.write_text(yaml.safe_dump(EXACT, sort_keys=False))
    arguments = ["mtpkdot", "fit", "--config", str(config), "--pipeline.stages", "[backbone]", "--trainer.devices", "2"]
    starters = {"itself": [], "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]}
    losses = []
    for name, starter in starters.items():
        root = tmp_path / name
        command = [
            sys.executable,
            "-m",
            *starter,
            *(["-m"] if starter else []),
            *arguments,
            "--pipeline.root",
            str(root),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(f"backbone.video: {EPOCHS} epochs") == 1
        assert done.stdout.count("Written to") == 1
        losses += [curve(root, "backbone.video", "exact", rank)[0] for rank in range(2)]
    assert losses[0] == losses[1] == losses[2] == losses[3]
