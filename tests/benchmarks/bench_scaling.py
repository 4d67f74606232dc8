"""What a second process gains on this machine: an epoch of an R3D-18 backbone, one thread for each process.

`make bench`. A generated twin with the networks of configs/biovid.yaml on 10 x 64 x 64 clips. The time of an epoch is a
third of the difference between trainings of four epochs and of one: start-up is not in it.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtpkdot.cli.main import main

PICTURES = ["--data.pictures.size=64", "--data.pictures.crop=centre"]
CONFIG = Path(__file__).parents[2] / "configs" / "biovid.yaml"


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scaling") / "biovid"
    options = ["--subjects", "8", "--clips", "2", "--classes", "BL1", "PA4", "--size", "64"]
    assert main(["data", "synthesize", "biovid", str(folder), *options]) == 0
    assert main(["data", "prepare", "--config", str(CONFIG), "--data.root", str(folder), *PICTURES]) == 0
    return folder


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.benchmark(group="an epoch of a video backbone")
def bench_epoch(benchmark, twin, tmp_path, processes):
    def train(epochs: int) -> float:
        line = [sys.executable, "-m", "mtpkdot", "fit", "--config", str(CONFIG), "--data.root", str(twin)]
        line += ["--pipeline.root", str(tmp_path / str(epochs)), "--pipeline.stages=[backbone.video]"]
        line += [*PICTURES, "--data.num_workers=0", "--data.batch_size=16", "--trainer.precision=32-true"]
        line += [f"--trainer.devices={processes}", f"--backbone.video.fit.max_epochs={epochs}"]
        start = time.perf_counter()
        done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
        return time.perf_counter() - start

    one = train(1)
    four = benchmark.pedantic(train, (4,), rounds=1)
    benchmark.extra_info["epoch (s)"] = round((four - one) / 3, 1)
    print(f"\n{processes}: {benchmark.extra_info}")
