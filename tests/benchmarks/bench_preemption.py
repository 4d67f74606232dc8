"""Runs that are killed ten times at random end in the weights of one that is not; what a checkpoint a step costs.

MTPKDOT_DEVICES=2 shares it between two processes.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from tests.conftest import TINY

KILLS, DEVICES = 10, os.environ.get("MTPKDOT_DEVICES", "1")


def command(folder: Path, root: Path, *arguments: str) -> list[str]:
    longer = yaml.safe_load(yaml.safe_dump(TINY))
    longer["data"]["init_args"]["batch_size"] = 10
    for section in (*longer["backbone"].values(), *(longer[s] for s in ("teacher", "adapted", "hallucinator"))):
        section["fit"]["max_epochs"] = 8
    longer["student"]["fit"]["max_epochs"] = 8
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(longer, sort_keys=False))
    line = [sys.executable, "-m", "mtpkdot", "fit", "--config", str(config), "--pipeline.root", str(root)]
    return [*line, "--trainer.devices", DEVICES, *arguments]


def weights(root: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted((root / "stages").glob("*/[!.]*/model.ckpt")):
        state = torch.load(path, weights_only=True)["state_dict"]
        found |= {f"{path.relative_to(root)} {key}": value for key, value in state.items()}
    return found


@pytest.mark.benchmark(group="whole runs")
def bench_killed_at_random(benchmark, tmp_path):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start = time.monotonic()
    subprocess.run(command(tmp_path, tmp_path / "straight"), check=True, **quiet)
    whole = time.monotonic() - start
    roots = [tmp_path / "killed-0"]
    kills = 0

    def line() -> list[str]:
        return command(tmp_path, roots[-1], "--pipeline.checkpoint_every", "1")

    def killed() -> None:
        nonlocal kills
        while kills < KILLS:
            process = subprocess.Popen(line(), start_new_session=True, **quiet)
            try:
                process.wait(random.uniform(0.2, 0.8) * whole)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
            else:
                assert process.returncode == 0
                roots.append(tmp_path / f"killed-{len(roots)}")  # it was done before it was killed: the next one
        subprocess.run(line(), check=True, **quiet)

    benchmark.pedantic(killed, rounds=1)
    theirs = weights(tmp_path / "straight")
    for root in roots:
        ours = weights(root)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    benchmark.extra_info |= {"kills": kills, "runs": len(roots)}
