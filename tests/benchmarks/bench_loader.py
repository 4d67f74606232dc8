"""What the loader costs: clips per second, waiting beside an encoder, and memory of a worker.

`make bench`. Clips per second are compared with a plain dataset of PIL, resize and ToTensor: both read the same
112 x 112 frames of a generated twin in the frames layout, in as many processes.
"""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mtpkdot.data import AffWild2, BioVid, Signal, Split
from mtpkdot.data.affwild2 import twin as affwild2
from mtpkdot.data.biovid.twin import synthesize
from mtpkdot.models import Steps, VideoEncoder

FRAMES, BATCH = 10, 16
REPEATS = 5  # of the 96 clips in an epoch: starting the processes is not what is measured


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Path:
    """Frames of 96 clips."""
    root = tmp_path_factory.mktemp("twin") / "biovid"
    synthesize(root, subjects=12, clips=4, classes=("BL1", "PA4"), size=112, layout="frames", workers=2)
    return root


class Plain(Dataset):
    """What one would write down first."""

    def __init__(self, root: Path) -> None:
        from torchvision.transforms import Compose, Resize, ToTensor

        self.clips = sorted(path for level in "04" for path in (root / level).iterdir())
        self.transform = Compose([Resize((112, 112)), ToTensor()])

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> torch.Tensor:
        frames = np.linspace(50, 70, FRAMES).round().astype(int)
        paths = (self.clips[index] / f"img_{frame:05d}.jpg" for frame in frames)
        return torch.stack([self.transform(Image.open(path).convert("RGB")) for path in paths])


def read_all(loader) -> None:
    for _ in loader:
        pass


@pytest.mark.parametrize("workers", [0, 2])
def bench_plain(benchmark, twin, workers):
    data = Plain(twin)
    order = list(range(len(data))) * REPEATS
    loader = DataLoader(data, BATCH, sampler=order, num_workers=workers, persistent_workers=workers > 0)
    benchmark.extra_info["clips"] = len(order)
    benchmark.pedantic(read_all, (loader,), rounds=5, warmup_rounds=1)


def ours(twin: Path, workers: int, repeats: int = 1) -> DataLoader:
    """The loader of all clips' raw frames, so many times."""
    data = BioVid(
        root=str(twin),
        signals={"gsr": Signal(columns=["gsr"])},
        split=Split("kfold"),
        frames=FRAMES,
        batch_size=BATCH,
        num_workers=workers,
        prepare_workers=2,
    )
    data.setup("fit")
    data.attach(["video"], {})
    return data._loader(batch_size=data.batch_size, sampler=list(range(len(data.samples))) * repeats)


@pytest.mark.parametrize("workers", [0, 2])
def bench_ours(benchmark, twin, workers):
    loader = ours(twin, workers, REPEATS)
    benchmark.extra_info["clips"] = len(loader.dataset) * REPEATS
    benchmark.pedantic(read_all, (loader,), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("workers", [0, 1])
def bench_waiting_beside_an_encoder(benchmark, twin, workers):
    """Share of an epoch in which an R3D-18 on the processor waits for its next batch."""
    encoder = VideoEncoder(Steps((3, 112, 112))).eval()
    loader = ours(twin, workers)
    waited = 0.0

    def epoch() -> None:
        nonlocal waited
        waited, before = 0.0, time.perf_counter()
        with torch.inference_mode():
            for batch in loader:
                waited += time.perf_counter() - before
                encoder(batch.inputs["video"], batch.masks["video"])
                before = time.perf_counter()

    benchmark.pedantic(epoch, rounds=1, warmup_rounds=0)
    benchmark.extra_info["share of waiting"] = round(waited / benchmark.stats.stats.total, 4)
    print("\n" + str(dict(benchmark.extra_info)))


@pytest.mark.parametrize("frames", [300, 3000])
def bench_memory_of_a_worker(benchmark, tmp_path, frames):
    """Private memory that reading an epoch of windows adds to a process, for short and for ten times longer videos."""
    root = tmp_path / "affwild2"
    affwild2.synthesize(root, videos=5, frames=(frames, frames + 1), workers=2)
    data = AffWild2(root=str(root), batch_size=2, prepare_workers=2)
    data.setup("fit")
    data.attach(["video"], {})

    def grown() -> float:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            return pool.apply(
                growth, (data._loader(batch_size=data.batch_size, sampler=list(range(len(data.samples)))),)
            )

    benchmark.extra_info["added MiB"] = round(benchmark.pedantic(grown, rounds=1), 1)
    print("\n" + str(dict(benchmark.extra_info)))


def growth(loader: DataLoader) -> float:
    """MiB of private memory added while one reads all."""
    torch.set_num_threads(1)  # as a loader's worker does: a forked process has no thread pool

    def private() -> float:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")) / 1024

    start, most = private(), 0.0
    for _ in loader:
        most = max(most, private())
    return most - start
