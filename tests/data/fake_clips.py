"""A data set that is read clip by clip, without media: values come from (position, view), reads are written down."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from mtpkdot.data import BaseData, Samples
from mtpkdot.data.batch import Clips
from mtpkdot.data.splits import Split
from mtpkdot.losses.task import Task

DIMS = {"video": 4, "signal": 3}


class FakeClips(Clips):
    """Steps (T, D) of n samples; views differ by noise of their own. Every read is a line of `log`."""

    def __init__(self, name: str, values: np.ndarray, log: str = "") -> None:
        self.name, self.values, self.log = name, values, log
        self.shape = values.shape

    def view(self, position: int, view: int) -> np.ndarray:
        """What one read gives."""
        noise = np.random.default_rng([position, view, len(self.name)]).normal(size=self.shape[1:])
        return (self.values[position] + 0.5 * bool(view) * noise).astype(np.float32)

    def read(self, positions, views):
        pairs = [(int(p), int(v)) for p, v in zip(positions, views, strict=True)]
        if self.log:
            with Path(self.log).open("a") as file:
                file.writelines(f"{self.name} {position} {view}\n" for position, view in pairs)
        return torch.from_numpy(np.stack([self.view(*pair) for pair in pairs]))

    def keep(self, rows):
        return FakeClips(self.name, self.values[rows], self.log)


class FakeData(BaseData):
    """Two modalities that carry a state of two numbers, the targets, plainly and less so.

    Args:
        log: file of the reads.
        n: samples, of `n // 6` people.
        steps: of each sample.
        steps_have_targets: a target per step; equal for all steps of a sample.
        absent: share of the samples without the signal, and of steps without the video.
        noise: of the video. Stands for any setting that decides what is read.
        version: of the data's contents.
        asked: samples of the test part whose predictions are to be submitted.
        prevalent: see BaseData.
        task: see BaseData.
        split: see BaseData.
        options: see BaseData.
    """

    unhashed: ClassVar[frozenset[str]] = BaseData.unhashed | {"log"}

    def __init__(
        self,
        log: str = "",
        n: int = 60,
        steps: int = 3,
        steps_have_targets: bool = False,
        absent: float = 0.0,
        noise: float = 1.0,
        version: str = "1",
        asked: int = 0,
        prevalent: str = "video",
        task: Task = "regression",
        split: Split | None = None,
        **options: Any,
    ) -> None:
        super().__init__(prevalent=prevalent, task=task, split=split or Split("kfold", folds=5), **options)
        self.log, self.n, self.steps, self.steps_have_targets = log, n, steps, steps_have_targets
        self.absent, self.noise, self.version, self.asked = absent, noise, version, asked

    modality_names = property(lambda self: list(DIMS))
    augments = property(lambda self: True)
    submitted = property(lambda self: self.positions("test")[: self.asked])

    def contents(self):
        return {"made": self.version}

    def load(self):
        random = np.random.default_rng(0)
        state = random.uniform(-1, 1, size=(self.n, 2))
        values = {}
        for name, dim in DIMS.items():
            noise = random.normal(size=(self.n, self.steps, dim)) * (self.noise if name == "video" else 0.1)
            values[name] = (state @ random.normal(size=(2, dim)))[:, None] + noise
        target = state.astype(np.float32)
        if self.steps_have_targets:
            target = np.repeat(target[:, None], self.steps, axis=1)
        masks = {
            "video": random.random((self.n, self.steps)) >= self.absent,
            "signal": np.repeat(random.random((self.n, 1)) >= self.absent, self.steps, axis=1),
        }
        return Samples(
            ids=np.array([f"clip{i:03d}" for i in range(self.n)]),
            subjects=np.array([f"p{i // 6:02d}" for i in range(self.n)]),
            target=target,
            labelled=np.ones(target.shape[:-1], dtype=np.bool_),
            target_names=["valence", "arousal"],
            class_names=[],
            features={name: FakeClips(name, array, self.log) for name, array in values.items()},
            masks=masks,
        )


def reads(log: Path) -> dict[str, list[tuple[int, int]]]:
    """Pairs (position, view) that were read, by modality, in order; the log is emptied."""
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in DIMS}
    for line in log.read_text().splitlines() if log.exists() else ():
        name, position, view = line.split()
        found[name].append((int(position), int(view)))
    log.write_text("")
    return found
