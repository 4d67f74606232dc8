"""Features of frozen encoders, computed once and mapped into memory by every stage, epoch and process that needs them.

```
<root>/<modality>/<key>/features.npy   (n, T', dim) float32
                        mask.npy       (n, T') bool
                        record.json    sizes and checksums of both, and what the key was made of
```

A folder appears by renaming, whole or not at all, and its checksums are verified when a process opens it: what is torn
or was changed is computed again, never read.
"""

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from mtpkdot.data.batch import IntArray

FORMAT = 1
_FILES = ("features.npy", "mask.npy")
_CHUNK = 1 << 24

# Positions (B,), features (B, T', dim) and mask (B, T') of some samples.
Block = tuple[IntArray, npt.NDArray[np.float32], npt.NDArray[np.bool_]]


@dataclass
class CachedFeatures:
    """Features of one modality, by view; reads what is asked for and no more.

    Attributes:
        folders: of view 0, 1, ...
    """

    folders: list[Path]

    def __post_init__(self) -> None:
        self._open: dict[Path, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Loader processes map the files themselves: a pickled map would be a copy of all of it."""
        return {"folders": self.folders, "_open": {}}

    def read(self, positions: IntArray, views: IntArray) -> tuple[Tensor, Tensor]:
        """Features (B, T', dim) and mask (B, T') of the samples at `positions` in their `views`."""
        if len(views) and (views == views[0]).all():
            features, mask = self._map(int(views[0]))
            return torch.from_numpy(features[positions]), torch.from_numpy(mask[positions])
        read = [self._map(int(view)) for view in views]
        features = np.stack([arrays[0][p] for arrays, p in zip(read, positions, strict=True)])
        mask = np.stack([arrays[1][p] for arrays, p in zip(read, positions, strict=True)])
        return torch.from_numpy(features), torch.from_numpy(mask)

    def _map(self, view: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        folder = self.folders[view]
        if folder not in self._open:
            features, mask = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in _FILES)
            self._open[folder] = features, mask
        return self._open[folder]


def cached(
    root: Path, modality: str, keys: Mapping[str, Any], size: int, compute: Callable[[], Iterable[Block]]
) -> Path:
    """The folder of features with these keys, computed if it is not there or damaged.

    Several processes may ask for the same: one computes, the others wait for it.

    Args:
        root: folder of all caches.
        modality: of the features.
        keys: everything that decides them, as plain data.
        size: samples n of the data set.
        compute: yields the features block by block; samples without a block get zeros and an empty mask.

    Raises:
        TypeError: keys that are no plain data; text made of an object need not be the same in the next process.
    """
    text = json.dumps({"format": FORMAT, **keys}, sort_keys=True)
    folder = root / modality / hashlib.sha256(text.encode()).hexdigest()[:16]
    if _whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder}: another process computes these features, waiting for them", flush=True)
        lock.acquire()
    try:
        if not _whole(folder):
            partial = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _write(partial, size, compute())
            checks = {name: _checksum(partial / name) for name in _FILES}
            (partial / "record.json").write_text(json.dumps({"checks": checks, "keys": json.loads(text)}, indent=2))
            if folder.exists():
                print(f"{folder} is damaged and was computed again", flush=True)
                shutil.rmtree(folder)
            partial.rename(folder)
    finally:
        lock.release()
    return folder


def _write(folder: Path, size: int, blocks: Iterable[Block]) -> None:
    arrays: list[npt.NDArray[Any]] = []
    for positions, features, mask in blocks:
        if not arrays:
            arrays = [
                np.lib.format.open_memmap(folder / name, "w+", block.dtype, (size, *block.shape[1:]))
                for name, block in zip(_FILES, (features, mask), strict=True)
            ]
        arrays[0][positions], arrays[1][positions] = features, mask
    for array in arrays:
        assert isinstance(array, np.memmap)
        array.flush()


_verified: set[tuple[Path, int, int]] = set()


def _whole(folder: Path) -> bool:
    """Whether the files are those that were written; each is verified once per process and state of the file."""
    record = folder / "record.json"
    if not record.is_file():
        return False
    try:
        checks: dict[str, list[int]] = json.loads(record.read_text())["checks"]
        for name in _FILES:
            status = (folder / name).stat()
            state = (folder / name, status.st_size, status.st_mtime_ns)
            if state not in _verified:
                if status.st_size != checks[name][0] or _checksum(folder / name) != checks[name]:
                    return False
                _verified.add(state)
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return True


def _checksum(path: Path) -> list[int]:
    """Size and CRC-32 of a file."""
    size, crc = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return [size, crc]
