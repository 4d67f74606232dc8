"""Store of prepared recordings: one safetensors file per recording, and an index.

```
<folder>/store.json            sources and settings; written last: without it the store is not ready
         index.parquet         one row per recording: its facts and small arrays (times, annotations)
         recordings/<id>.safetensors   large arrays: JPEG frames, sound, signals
```

Files are published by renaming, complete or not at all. They are mapped into memory, so that only requested parts are
read.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mtpkdot.data.media.recordings import Fact, Problem, Span
from mtpkdot.errors import DataError
from mtpkdot.files import write_whole

FORMAT = 3  # Version of the file format: raise it when the layout changes.
_OPEN_FILES = 256
_METADATA = "mtpkdot"  # Key of the metadata in a file.

Array = npt.NDArray[Any]


@dataclass
class Content:
    """Decoded recording, ready to be stored.

    Attributes:
        facts: values for the index.
        small: arrays kept in the index, such as the time of every frame.
        large: arrays read piece by piece: `pictures` (concatenated JPEG files, uint8) with `offsets` (F + 1) in
            `small`, `sound` (int16, mono), `signal.<column>` (float32).
        problems: damaged files without which it can be used, and notes.
    """

    facts: dict[str, Fact]
    small: dict[str, Array] = field(default_factory=dict)
    large: dict[str, Array] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def row(self, id: str) -> dict[str, Any]:
        """Return the row of the index that this recording will have, without the digests of its file."""
        lengths = {f"length.{name}": len(values) for name, values in self.large.items()}
        return {"id": id, **self.facts, **self.small, **lengths}


def write_recording(folder: Path, id: str, content: Content, source: str) -> None:
    """Store a recording, completely or not at all.

    Args:
        folder: folder of the store.
        id: id of the recording.
        content: content of the recording.
        source: fingerprint of the raw files and settings it was made from.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    arrays = {f"small.{k}": np.ascontiguousarray(v) for k, v in content.small.items()}
    arrays |= {k: np.ascontiguousarray(v) for k, v in content.large.items()}
    # One entry: safetensors writes several in random order, which would make the digest of a recording random.
    problems = [problem.line for problem in content.problems if problem.fatal]
    metadata = {"format": FORMAT, "facts": content.facts, "problems": problems}
    # A recording that is made again from other files or by other code may be the same.
    metadata |= {"content": _digest(metadata, arrays), "source": source}
    data = save(arrays, {_METADATA: json.dumps(metadata, sort_keys=True)})
    path = recording_path(folder, id)
    write_whole(path, data, synced=True)


def _digest(metadata: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """Return the digest of the content of a recording."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.data)
    return digest.hexdigest()


def recording_path(folder: Path, id: str) -> Path:
    """Return the path of a recording."""
    return folder / "recordings" / f"{id}.safetensors"


def stored_source(folder: Path, id: str) -> str | None:
    """Return the fingerprint of a recording in the store; None if it is absent, torn or of another format."""
    metadata = _stored(folder, id)
    return None if metadata is None else metadata["source"]


def stored_problems(folder: Path, id: str) -> list[str]:
    """Return the damaged files of a recording that are missing from the store."""
    metadata = _stored(folder, id)
    return [] if metadata is None else metadata["problems"]


def _stored(folder: Path, id: str) -> Any:
    """Return the metadata of a recording in the store; None if it is absent, torn or of another format."""
    path = recording_path(folder, id)
    if not path.is_file():
        return None
    try:
        with safe_open(path, "numpy") as file:
            metadata = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    except (SafetensorError, OSError, ValueError):
        return None
    return metadata if metadata.get("format") == FORMAT else None


def index_entry(folder: Path, id: str) -> dict[str, Any]:
    """Return the row of a stored recording in the index."""
    path = recording_path(folder, id)
    with safe_open(path, "numpy") as file:
        metadata = json.loads(file.metadata()[_METADATA])
        small = {key[6:]: file.get_tensor(key) for key in file.keys() if key.startswith("small.")}  # noqa: SIM118
        lengths = {f"length.{k}": file.get_slice(k).get_shape()[0] for k in file.keys() if not k.startswith("small.")}  # noqa: SIM118
    with path.open("rb") as raw:
        digest = hashlib.file_digest(raw, "sha256").hexdigest()
    facts: dict[str, Fact] = metadata["facts"]
    return {"id": id, **facts, **small, **lengths, "content": metadata["content"], "sha256": digest}


def write_index(folder: Path, entries: list[dict[str, Any]], record: Mapping[str, Any]) -> None:
    """Write the index and mark the store as ready."""
    frame = pd.DataFrame(entries)
    table = io.BytesIO()
    frame.to_parquet(table, index=False)
    write_whole(folder / "index.parquet", table.getvalue(), synced=True)
    digest = hashlib.sha256("".join(f"{entry['id']} {entry['content']}\n" for entry in entries).encode()).hexdigest()
    text = json.dumps({"format": FORMAT, "contents": digest, **record}, indent=2) + "\n"
    write_whole(folder / "store.json", text.encode(), synced=True)


@dataclass(frozen=True)
class Store:
    """A prepared data set.

    Attributes:
        folder: folder of the store.
        record: content of `store.json`.
    """

    folder: Path
    record: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Store | None":
        """Return the store in a folder, or None if there is none that is ready and of this format."""
        path = folder / "store.json"
        if not path.is_file() or not (folder / "index.parquet").is_file():
            return None
        try:
            record: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} cannot be read ({error})", "Remove this file and run `mtpkdot data prepare` again."
            ) from error
        return cls(folder, record) if isinstance(record, dict) and record.get("format") == FORMAT else None

    @classmethod
    def without_arrays(cls, entries: list[dict[str, Any]], asked: list[Span]) -> "Store":
        """Return a store in memory that has an index, from which samples are made, and no arrays.

        Args:
            entries: rows of the index, one per recording.
            asked: frames whose predictions the authors of the data set ask for.
        """
        store = cls(Path(), {"contents": "", "left_out": [], "problems": [], "asked": asked})
        store.__dict__["index"] = pd.DataFrame(entries)
        return store

    @property
    def contents(self) -> str:
        """Digest of the contents of every recording."""
        return str(self.record["contents"])

    @property
    def losses(self) -> str:
        """Number of recordings that are missing from the store, and of their problems; empty if none is."""
        recordings, problems = len(self.record["left_out"]), len(self.record["problems"])
        return f"{recordings} recordings left out, {problems} problems" if recordings or problems else ""

    @cached_property
    def index(self) -> pd.DataFrame:
        """Index with one row per recording, in the order of the ids."""
        path = self.folder / "index.parquet"
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:  # errors of pyarrow are ValueErrors
            raise DataError(
                f"{path} cannot be read ({_one_line(error)})", "Remove this file and run `mtpkdot data prepare` again."
            ) from error

    def read(self, id: str, name: str, start: int, stop: int) -> Array:
        """Return the elements `start` to `stop` of one of a recording's large arrays.

        A torn or absent file is detected. A byte that was changed in place is not, since this would require reading the
        whole file; the index keeps the `sha256` of every file for such a comparison.

        Raises:
            DataError: the file cannot be opened.
        """
        try:
            # Files that were converted again meanwhile belong to another store, whose other contents open them anew.
            piece: Array = _slice(str(recording_path(self.folder, id)), name, self.contents)[start:stop]
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"{recording_path(self.folder, id)} cannot be read ({_one_line(error)})",
                "Run `mtpkdot data prepare` again: it makes torn and missing files anew.",
            ) from error
        return piece


@dataclass(frozen=True)
class MemoryStore(Store):
    """A single recording in memory, read like one of a store.

    Attributes:
        content: the decoded recording.
    """

    content: Content

    @classmethod
    def of(cls, content: Content) -> "MemoryStore":
        """Return the store of a decoded recording."""
        return cls(Path(), {"contents": "", "left_out": [], "problems": []}, content)

    def read(self, id: str, name: str, start: int, stop: int) -> Array:
        """Return the elements `start` to `stop` of one of the recording's large arrays; `id` is not used."""
        return self.content.large[name][start:stop]


@lru_cache(maxsize=_OPEN_FILES)
def _slice(path: str, name: str, contents: str) -> Any:
    return safe_open(path, "numpy").get_slice(name)  # type: ignore[no-untyped-call]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
