"""Processes of a study: each has a graphics card of its own."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mtpkdot.pipeline.crossval import cards_for
from mtpkdot.workers import visible_cards, workers


def place(folder: Path) -> tuple[int, str | None]:
    """Process and card of a task that lasts until three processes have one."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 3:
        time.sleep(0.01)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


def test_cards_go_round_among_the_processes(tmp_path, monkeypatch):
    # Forked, so that what is slow to import is imported once.
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: multiprocessing.context.ForkContext())
    with workers(3, 1, ["4", "GPU-7"]) as submit:
        found = dict(future.result() for future in [submit(place, tmp_path) for _ in range(3)])
    assert sorted(map(str, found.values())) == ["4", "4", "GPU-7"]


def test_a_process_has_its_card_before_it_imports_torch():
    line = "import sys, mtpkdot.workers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line]).returncode == 0


@pytest.mark.parametrize(
    ("named", "count", "overrides", "expected"),
    [
        (None, 3, [], ["0", "1", "2"]),
        ("5, GPU-1,9", 2, [], ["5", "GPU-1"]),  # what comes after a card that is not there cannot be used
        ("5,6", 2, ["--trainer.accelerator=gpu"], ["5", "6"]),
        ("5,6", 2, ["--trainer.accelerator=cpu"], []),
        ("5,6", 2, ["--trainer.devices=[1]"], []),
        ("", 0, [], []),
        ("3", 1, [], []),
    ],
)
def test_the_cards_are_those_that_are_visible(named, count, overrides, expected, tiny_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert len(visible_cards()) == count
    cell = SimpleNamespace(arguments=[f"--config={tiny_config}", "--trainer.accelerator=auto", *overrides])
    assert cards_for(cell) == expected
