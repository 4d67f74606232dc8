"""Checkpoints on a disk that is full, and where a process is killed while it writes one."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from mtpkdot.cli.main import main
from mtpkdot.pipeline.checkpoints import AtomicCheckpointIO


@pytest.fixture
def backbones(tiny_config, tmp_path):
    """Arguments that train the backbones alone."""
    return ["fit", "--config", str(tiny_config), "--pipeline.root", str(tmp_path), "--pipeline.stages=[backbone]"]


def test_checkpoints_equal_those_of_lightning(tmp_path):
    state = {"state_dict": {"a": torch.arange(5.0)}, "epoch": 3, "text": "x"}
    for name, plugin in (("ours", AtomicCheckpointIO()), ("theirs", TorchCheckpointIO())):
        plugin.save_checkpoint(state, tmp_path / "new" / name)
    ours, theirs = (torch.load(tmp_path / "new" / name, weights_only=True) for name in ("ours", "theirs"))
    assert torch.equal(ours["state_dict"]["a"], theirs["state_dict"]["a"])
    assert {**ours, "state_dict": 0} == {**theirs, "state_dict": 0}
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["ours", "theirs"]


def test_files_of_a_killed_process_are_removed_before_training_continues(backbones, tmp_path, monkeypatch):
    save = AtomicCheckpointIO.save_checkpoint
    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(backbones)
    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save)
    (partial,) = (tmp_path / "stages" / "backbone.video").glob(".*.partial")

    def killed():
        Path.replace = lambda *_: os._exit(9)
        AtomicCheckpointIO().save_checkpoint({"step": 1}, partial / "user.ckpt")

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == 9
    assert len(list(partial.glob(".user.ckpt.*"))) == 1
    assert main(backbones) == 0
    (folder,) = (tmp_path / "stages" / "backbone.video").glob("[!.]*")
    assert (folder / "model.ckpt").is_file()
    assert not list(folder.glob(".*"))


def test_a_plugin_of_the_users_own_stays(backbones, monkeypatch):
    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", lambda *_, **__: pytest.fail("the user's plugin writes"))
    assert main([*backbones, "--trainer.plugins=[lightning.pytorch.plugins.AsyncCheckpointIO]"]) == 0


def test_a_fit_on_a_full_disk_says_so_and_continues_when_there_is_space(tiny_config, trained_root, tmp_path):
    arguments = ["fit", "--config", str(tiny_config), "--pipeline.root", str(tmp_path / "runs")]
    # No file of more than 48 kB: checkpoints of the backbones have 9 (31 with the optimiser's state), the teacher's 72.
    line = ["bash", "-c", 'ulimit -f 48; exec "$@"', "bash", sys.executable, "-m", "mtpkdot", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    (told,) = done.stderr.strip().splitlines()
    assert ".ckpt cannot be written (File too large). Raise the limit on the size of files" in told
    assert "[2/6] backbone.signal" in done.stdout
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("stages/backbone.*/[!.]*/model.ckpt")}
    assert len(before) == 2
    assert main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not [path for path in (tmp_path / "runs").rglob(".*") if path.is_file() and path.suffix != ".lock"]
    for path in (trained_root / "stages").glob("*/[!.]*/model.ckpt"):
        expected, found = (
            torch.load(root / path.relative_to(trained_root), weights_only=True)["state_dict"]
            for root in (trained_root, tmp_path / "runs")
        )
        assert all(torch.equal(found[key], value) for key, value in expected.items())
