"""Clips per second of the loader on JPEG frames, against a plain dataset of PIL, resize and ToTensor.

`make bench`. Both read the same 112 x 112 frames of a generated twin in the frames layout, in as many processes.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mtpkdot.data import BioVid, Split
from mtpkdot.data.synthetic.biovid import synthesize

FRAMES, BATCH = 10, 16


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
    loader = DataLoader(data, BATCH, num_workers=workers, persistent_workers=workers > 0)
    benchmark.extra_info["clips"] = len(data)
    benchmark.pedantic(read_all, (loader,), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("workers", [0, 2])
def bench_ours(benchmark, twin, workers):
    options = {"frames": FRAMES, "batch_size": BATCH, "num_workers": workers, "prepare_workers": 2}
    signals = {"gsr": {"columns": ["gsr"]}}
    from mtpkdot.data import Signal

    data = BioVid(root=str(twin), signals={k: Signal(**v) for k, v in signals.items()}, split=Split("kfold"), **options)
    data.setup("fit")
    data.attach(["video"], {})
    loader = data._loader(list(range(len(data.samples))))
    benchmark.extra_info["clips"] = len(data.samples)
    benchmark.pedantic(read_all, (loader,), rounds=5, warmup_rounds=1)
