"""A straight run and an interrupted one end in the same weights, bit for bit."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml

from mtpkdot.cli.main import main
from tests.conftest import TINY
from tests.pipeline.processes import begin

EPOCHS = 16


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """The tiny experiment with stages long enough to be interrupted, and with dropout, shuffling and early stopping."""
    longer = yaml.safe_load(yaml.safe_dump(TINY))
    for section in ("teacher", "student"):
        longer[section]["fit"] = {"max_epochs": EPOCHS, "patience": EPOCHS - 5}
    path = tmp_path_factory.mktemp("resume") / "longer.yaml"
    path.write_text(yaml.safe_dump(longer, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def straight(config, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("straight")
    assert main(["fit", "--config", str(config), "--pipeline.root", str(root)]) == 0
    return root


def weights(root: Path) -> dict[str, torch.Tensor]:
    """Every tensor of every stage."""
    found = {}
    for path in sorted((root / "stages").glob("*/*/model.ckpt")):
        state = torch.load(path, weights_only=True)["state_dict"]
        found |= {f"{path.parent.parent.name}/{path.parent.name}/{key}": value for key, value in state.items()}
    return found


def interrupt(config: Path, root: Path, stage: str, how: signal.Signals, after_epochs: int) -> int:
    """Start a run and send a signal some checkpoints into a stage; the exit code."""
    log = root.with_name(f"{root.name}.log")
    (process,) = begin(1, ["fit", "--config", str(config), "--pipeline.root", str(root)], log=log)
    seen, last = 0, 0
    while process.is_alive() and seen < after_epochs:
        for path in (root / "stages" / stage).glob(".*.partial/last.ckpt"):
            try:
                changed = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
            seen, last = seen + (changed != last), changed
        time.sleep(0.002)
    time.sleep(random.random() * 0.05)
    os.kill(process.pid, how)
    process.join(60)
    told = Path(f"{log}-0").read_text()
    assert "Traceback" not in told, told
    return process.exitcode


def test_a_terminated_and_then_killed_run_ends_in_the_same_weights(config, straight, tmp_path, capsys):
    assert interrupt(config, tmp_path, "teacher", signal.SIGTERM, 3) == 143
    (last,) = (tmp_path / "stages" / "teacher").glob(".*.partial/last.ckpt")
    state = torch.load(last, weights_only=False)
    state["callbacks"]["Stopwatch"]["seconds"] += 1000.0
    torch.save(state, last)
    assert interrupt(config, tmp_path, "teacher", signal.SIGKILL, 2) == -signal.SIGKILL
    assert interrupt(config, tmp_path, "student", signal.SIGKILL, random.randint(1, 8)) == -signal.SIGKILL
    assert not list((tmp_path / "stages" / "student").glob("[!.]*"))
    assert main(["fit", "--config", str(config), "--pipeline.root", str(tmp_path)]) == 0
    assert "resumed" in capsys.readouterr().out
    resumed, expected = weights(tmp_path), weights(straight)
    assert resumed.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(resumed[name], expected[name])] == []
    (record,) = (tmp_path / "stages" / "teacher").glob("[!.]*/stage.json")
    assert 1000.0 < json.loads(record.read_text())["trained"]["seconds"] < 1300.0


def test_the_same_seed_gives_the_same_student_and_another_does_not(config, straight, tmp_path):
    arguments = ["fit", "--config", str(config)]
    assert main([*arguments, "--pipeline.root", str(tmp_path / "same")]) == 0
    again, expected = weights(tmp_path / "same"), weights(straight)
    assert again.keys() == expected.keys()
    assert all(torch.equal(again[name], expected[name]) for name in expected)
    short = ["--student.fit.max_epochs", "2", "--teacher.fit.max_epochs", "2"]
    assert main([*arguments, *short, "--seed_everything", "1", "--pipeline.root", str(tmp_path / "other")]) == 0
    other = weights(tmp_path / "other")
    assert not set(other) & set(expected)
