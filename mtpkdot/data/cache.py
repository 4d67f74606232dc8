"""Features of frozen encoders, computed once and mapped into memory by every stage, epoch and process that needs them.

```
<root>/<modality>/<key>/features.npy   (n, T', dim) float32
                        mask.npy       (n, T') bool
                        record.json    sizes and checksums of both, and what the key was made of
```

A folder is published by renaming, completely or not at all, and its checksums are verified when a process opens it:
torn or changed files are computed again, never read.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from mtpkdot.data.batch import IntArray
from mtpkdot.errors import DataError, UserError
from mtpkdot.files import write_whole, writing

FORMAT = 1
_FILES = ("features.npy", "mask.npy")
_CHUNK = 1 << 24

# Positions (B,), features (B, T', dim) and mask (B, T') of some samples.
Block = tuple[IntArray, npt.NDArray[np.float32], npt.NDArray[np.bool_]]


@dataclass
class CachedFeatures:
    """Features of one modality by view, mapped from files so that only requested rows are read.

    Attributes:
        folders: folders of view 0, 1, ...
    """

    folders: list[Path]

    def __post_init__(self) -> None:
        self._open: dict[Path, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the folders alone, since a pickled map would be a full copy: loader processes map the files again."""
        return {"folders": self.folders, "_open": {}}

    def read(self, positions: IntArray, views: IntArray) -> tuple[Tensor, Tensor]:
        """Return features (B, T', dim) and mask (B, T') of the samples at `positions` in their `views`."""
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
    """Return the folder of features with these keys; compute them if they are missing or damaged.

    If several processes request the same features, one computes them and the others wait.

    Args:
        root: folder of all caches.
        modality: modality of the features.
        keys: everything that decides them, as plain data.
        size: number n of samples in the data set.
        compute: yields the features block by block; samples without a block get zeros and an empty mask.

    Raises:
        TypeError: keys are not plain data; the text of an object may differ in the next process.
    """
    folder, text = _place(root, modality, keys)
    if not _whole(folder):
        with _alone(folder) as missing:
            if missing:
                _write(_partial(folder), size, compute())
                _publish(folder, text)
    return folder


T = TypeVar("T")


class Processes(Protocol):
    """Processes that call the same functions in the same order."""

    rank: int
    size: int

    def decided(self, decide: Callable[[], T]) -> T:
        """Return the result of the first process on all of them."""

    def on_any(self, mine: bool) -> bool:
        """Return whether a value is true on any process; waits for all."""


def cached_by_all(
    root: Path,
    modality: str,
    keys: Mapping[str, Any],
    size: int,
    compute: Callable[[], Iterable[Block]],
    count: int,
    processes: Processes,
) -> Path:
    """Return the folder as `cached` does, for processes that call it together and each compute a share.

    Every process writes files of its own, which the first one merges: on a shared file system no two processes write to
    one file.

    Args:
        root: folder of all caches, the same one for all processes.
        modality: modality of the features.
        keys: see `cached`.
        size: number n of samples in the data set.
        compute: yields this process's share of the features.
        count: number of samples in all shares together.
        processes: processes that share the work.

    Raises:
        DataError: a process could not compute its share, or does not see the same folder.
    """
    folder, text = _place(root, modality, keys)
    with ExitStack() as alone:

        def begun() -> str:
            """Return a name for the shares that no earlier, killed run has used; empty if nothing is missing."""
            missing = not _whole(folder) and alone.enter_context(_alone(folder))
            return secrets.token_hex(4) if missing else ""

        if name := processes.decided(begun):
            failed = None
            try:
                _write_share(_partial(folder) / f"{name}-{processes.rank}", compute())
            except UserError as error:
                failed = error
            if processes.on_any(failed is not None):
                others = DataError("another process could not compute its share of the features", "See its message.")
                raise failed or others
            shares = [_partial(folder) / f"{name}-{rank}" for rank in range(processes.size)]
            processes.decided(lambda: _put_together(folder, text, size=size, count=count, shares=shares))
    if processes.on_any(not _whole(folder)):
        raise DataError(f"{folder} is not seen by all processes", "Give them one folder of runs with --pipeline.root.")
    return folder


def _place(root: Path, modality: str, keys: Mapping[str, Any]) -> tuple[Path, str]:
    """Return the folder of features with these keys, and the keys as text."""
    text = json.dumps({"format": FORMAT, **keys}, sort_keys=True)
    return root / modality / hashlib.sha256(text.encode()).hexdigest()[:16], text


def _partial(folder: Path) -> Path:
    """Return the folder of features while they are being computed."""
    return folder.with_name(f".{folder.name}.partial")


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Lock the folder for this process; yield whether the features are still missing, with an empty folder then."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder}: another process computes these features, waiting for them", flush=True)
        lock.acquire()
    try:
        missing = not _whole(folder)
        if missing:
            shutil.rmtree(_partial(folder), ignore_errors=True)
            _partial(folder).mkdir()
        yield missing
    finally:
        lock.release()


def _publish(folder: Path, text: str) -> None:
    """Publish the files that were written, by one rename."""
    partial = _partial(folder)
    checks = {name: _checksum(partial / name) for name in _FILES}
    write_whole(partial / "record.json", json.dumps({"checks": checks, "keys": json.loads(text)}, indent=2).encode())
    if folder.exists():
        print(f"{folder} is damaged and was computed again", flush=True)
        shutil.rmtree(folder)
    partial.rename(folder)


def _write_share(folder: Path, blocks: Iterable[Block]) -> None:
    folder.mkdir(parents=True)
    for number, (positions, features, mask) in enumerate(blocks):
        with writing(path := folder / f"{number:06d}.npz"):
            np.savez(path, positions=positions, features=features, mask=mask)


def _read_share(folder: Path) -> Iterable[Block]:
    for path in sorted(folder.iterdir()):
        with np.load(path, allow_pickle=False) as block:
            yield block["positions"], block["features"], block["mask"]


def _put_together(folder: Path, text: str, size: int, count: int, shares: Iterable[Path]) -> None:
    """Merge the shares of the processes."""
    found = sum(len(positions) for share in shares if share.is_dir() for positions, *_ in _read_share(share))
    if found != count:
        raise DataError(
            f"{folder}: the processes' shares have {found} samples of {count}",
            "Give all processes one folder of runs with --pipeline.root.",
        )
    _write(_partial(folder), size, (block for share in shares for block in _read_share(share)))
    for share in shares:
        shutil.rmtree(share)
    _publish(folder, text)


def _write(folder: Path, size: int, blocks: Iterable[Block]) -> None:
    arrays: list[npt.NDArray[Any]] = []
    for positions, features, mask in blocks:
        if not arrays:
            arrays = [
                _mapped(folder / name, block.dtype, (size, *block.shape[1:]))
                for name, block in zip(_FILES, (features, mask), strict=True)
            ]
        arrays[0][positions], arrays[1][positions] = features, mask
    for array in arrays:
        assert isinstance(array, np.memmap)
        array.flush()


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Create the file of an array with its space allocated, since a process that maps a full disk dies of SIGBUS."""
    with writing(path):
        array = np.lib.format.open_memmap(path, "w+", dtype, shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
                except OSError as error:
                    if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # file systems that cannot allocate
                        raise
    return array


_verified: set[tuple[Path, int, int]] = set()


def _whole(folder: Path) -> bool:
    """Return whether the files are complete and unchanged; each is verified once per process and state of the file."""
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
    """Return size and CRC-32 of a file."""
    size, crc = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return [size, crc]
