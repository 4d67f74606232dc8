"""A run that is stopped or killed within an epoch ends in the weights of one that is not, bit for bit."""

import os
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from mtpkdot.cli.main import main
from mtpkdot.pipeline.callbacks import StepSeed
from mtpkdot.pipeline.store import StoredStage
from tests.conftest import TINY
from tests.pipeline.processes import run

STAGES = ("backbone.video", "teacher", "adapted", "hallucinator", "student")


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """Several steps an epoch, with dropout, early stopping, accumulated gradients, a schedule and a queue."""
    longer = yaml.safe_load(yaml.safe_dump(TINY))
    longer["data"]["init_args"]["batch_size"] = 10
    for section in (longer["backbone"]["video"], *(longer[name] for name in STAGES[1:])):
        section["fit"] = {"max_epochs": 3, "patience": 2}
        section["model"] = {**section.get("model", {}), "schedule": "cosine"}
    longer["teacher"]["fit"]["accumulate_grad_batches"] = 2
    longer["adapted"]["fit"]["monitor"] = "train/loss"
    longer["student"]["model"] |= {"queue": 15, "weighting": "rise", "train_tnet": True}
    path = tmp_path_factory.mktemp("preemption") / "longer.yaml"
    path.write_text(yaml.safe_dump(longer, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def straight(config, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("straight")
    assert main(["fit", "--config", str(config), "--pipeline.root", str(root)]) == 0
    return root


@pytest.fixture
def interrupted(monkeypatch):
    """Have a process of a run send itself a signal at the start of a step."""
    plain, steps = StepSeed.on_train_batch_start, []

    def at(stage, epoch, step, signum, rank=0):
        def start(self, trainer, module, batch, batch_idx):
            plain(self, trainer, module, batch, batch_idx)
            here = (Path(trainer.default_root_dir).parent.name, trainer.current_epoch, batch_idx)
            steps.append(here)
            if here == (stage, epoch, step) and trainer.global_rank == rank:
                os.kill(os.getpid(), signum)

        monkeypatch.setattr(StepSeed, "on_train_batch_start", start)
        return steps

    return at


def outcome(root: Path) -> dict[str, torch.Tensor]:
    """Every tensor, and every logged value, of every stage."""
    found = {}
    for path in sorted((root / "stages").glob("*/[!.]*/model.ckpt")):
        name = f"{path.parent.parent.name}/{path.parent.name}"
        found |= {f"{name}/{k}": v for k, v in torch.load(path, weights_only=True)["state_dict"].items()}
        logged = pd.concat([pd.read_csv(file) for file in sorted(path.parent.glob("logs/*/metrics.csv"))])
        logged = logged.groupby("epoch").last().drop(columns="step")
        found |= {f"{name}/log {column}": torch.tensor(logged[column].to_numpy()) for column in logged}
    return found


def assert_same(root: Path, expected: Path) -> None:
    ours, theirs = outcome(root), outcome(expected)
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def test_every_stage_is_stopped_after_its_step_and_goes_on_from_there(config, straight, tmp_path, interrupted, capsys):
    fit = ["fit", "--config", str(config), "--pipeline.root", str(tmp_path)]
    points = [
        ("backbone.video", 1, 2, signal.SIGTERM),
        ("teacher", 0, 2, signal.SIGUSR1),  # in the middle of gradients that are being accumulated
        ("adapted", 2, 1, signal.SIGTERM),
        ("hallucinator", 0, 0, signal.SIGTERM),
        ("student", 1, 4, signal.SIGUSR1),
        ("student", 2, 7, signal.SIGTERM),  # the last step of the last epoch
    ]
    for stage, epoch, step, signum in points:
        steps = interrupted(stage, epoch, step, signum)
        steps.clear()
        assert main(fit) == 143
        assert steps[-1][:2] == (stage, epoch)
        assert steps[-1][2] - step in (0, 1)
    steps.clear()
    interrupted("", 0, 0, signal.SIGTERM)
    assert main(fit) == 0
    assert_same(tmp_path, straight)


def test_no_step_is_trained_twice_after_a_stop(config, tmp_path, interrupted):
    fit = ["fit", "--config", str(config), "--pipeline.root", str(tmp_path), "--pipeline.stages", "[backbone.video]"]
    steps = interrupted("backbone.video", 1, 3, signal.SIGTERM)
    assert main(fit) == 143
    interrupted("", 0, 0, signal.SIGTERM)
    assert main(fit) == 0
    assert len(steps) == len(set(steps)) == 3 * 6


@pytest.mark.parametrize("world", [1, 2])
def test_a_killed_run_loses_what_was_asked_for_at_most(world, config, tmp_path, interrupted):
    fit = ["fit", "--config", str(config), "--pipeline.stages", "[backbone.video, hallucinator]"]
    fit += ["--pipeline.stages", "[backbone, hallucinator]", "--pipeline.checkpoint_every", "2"]
    expected, killed = (["--pipeline.root", str(tmp_path / name)] for name in ("straight", "killed"))
    run(world, [*fit, *expected], log=tmp_path / "straight.log")
    for stage, epoch, step in (("backbone.video", 1, 5), ("hallucinator", 2, 4)):
        interrupted(stage, epoch, step, signal.SIGKILL, rank=world - 1)
        codes = (-signal.SIGKILL,) if world == 1 else (1, -signal.SIGKILL)
        run(world, [*fit, *killed], log=tmp_path / "killed.log", codes=codes)
        (last,) = (tmp_path / "killed" / "stages" / stage).glob(".*.partial/last.ckpt")
        loops = torch.load(last, weights_only=True)["loops"]["fit_loop"]
        assert step - loops["epoch_loop.batch_progress"]["current"]["processed"] <= 2
    interrupted("", 0, 0, signal.SIGTERM)
    run(world, [*fit, *killed], log=tmp_path / "killed.log")
    assert_same(tmp_path / "killed", tmp_path / "straight")


@pytest.mark.parametrize("published", [False, True])
def test_a_run_killed_between_two_stages_ends_the_same(published, config, straight, tmp_path, monkeypatch):
    fit = ["fit", "--config", str(config), "--pipeline.root", str(tmp_path)]
    plain = StoredStage.publish

    def killed(self, record):
        if published or self.name != "teacher":
            plain(self, record)
        if self.name == "teacher":
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(StoredStage, "publish", killed)
        run(1, fit, log=tmp_path.with_name("killed.log"), codes=(-signal.SIGKILL,))
    assert len(list((tmp_path / "stages" / "teacher").glob("[!.]*"))) == published
    assert main(fit) == 0
    assert_same(tmp_path, straight)


def test_several_processes_stop_together_when_one_is_asked(config, tmp_path, interrupted):
    fit = ["fit", "--config", str(config), "--pipeline.root"]
    run(2, [*fit, str(tmp_path / "straight")], log=tmp_path / "log")
    for stage in ("backbone.video", "backbone.signal", "hallucinator"):  # the others have two stops to show it in
        shutil.copytree(tmp_path / "straight/stages" / stage, tmp_path / "stopped/stages" / stage)
    for rank, (stage, epoch, step) in enumerate((("teacher", 1, 1), ("student", 1, 3))):
        interrupted(stage, epoch, step, signal.SIGTERM, rank=rank)
        run(2, [*fit, str(tmp_path / "stopped")], log=tmp_path / "log", codes=(143, 0))
    interrupted("", 0, 0, signal.SIGTERM)
    run(2, [*fit, str(tmp_path / "stopped")], log=tmp_path / "log")
    assert_same(tmp_path / "stopped", tmp_path / "straight")
