"""Checkpoints on a disk that is full, and where a process is killed while it writes one."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from mtpkdot.cli.main import main
from mtpkdot.pipeline.checkpoints import WholeCheckpoints, remove_torn


class Stopped(BaseException):
    """In the middle of a write."""


def half(error):
    """A write that stops in its middle."""

    def write(path, data):
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise error

    return write


def test_what_is_saved_is_what_lightning_would_save(tmp_path):
    state = {"state_dict": {"a": torch.arange(5.0)}, "epoch": 3, "text": "x"}
    for name, plugin in (("ours", WholeCheckpoints()), ("theirs", TorchCheckpointIO())):
        plugin.save_checkpoint(state, tmp_path / "new" / name)
    ours, theirs = (torch.load(tmp_path / "new" / name, weights_only=True) for name in ("ours", "theirs"))
    assert torch.equal(ours["state_dict"]["a"], theirs["state_dict"]["a"])
    assert {**ours, "state_dict": 0} == {**theirs, "state_dict": 0}
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["ours", "theirs"]


@pytest.mark.parametrize("error", [Stopped(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_write_that_stops_leaves_the_checkpoint_before(monkeypatch, tmp_path, error):
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"step": 1}, path)
    monkeypatch.setattr(Path, "write_bytes", half(error))
    with pytest.raises(type(error)) as raised:
        WholeCheckpoints().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert isinstance(error, Stopped) or raised.value.filename == str(path)
    assert len(list(tmp_path.iterdir())) == 2
    remove_torn(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_fit_that_finds_no_room_says_so_and_goes_on_when_there_is(tiny_config, trained_root, tmp_path):
    arguments = ["fit", "--config", str(tiny_config), "--pipeline.root", str(tmp_path / "runs")]
    # No file of more than 48 kB: the backbones are smaller, the teacher is not.
    line = ["bash", "-c", 'ulimit -f 48; exec "$@"', "bash", sys.executable, "-m", "mtpkdot", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    (told,) = done.stderr.strip().splitlines()
    assert ".ckpt: File too large. Make room; the same command then goes on where it was." in told
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
