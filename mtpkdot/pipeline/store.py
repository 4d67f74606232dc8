"""Store of trained stages, addressed by content: `<root>/stages/<stage>/<hash>/`, see `mtpkdot.pipeline.identity`.

A stage trains in the sibling `.<hash>.partial` and is published by one rename, so that a folder without a leading dot
is always whole. A lock (released by the system when its process dies) keeps two runs from training the same stage; the
second waits and shares the result.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from filelock import FileLock, Timeout

from mtpkdot.errors import RunError
from mtpkdot.files import write_whole

CHECKPOINT = "model.ckpt"
RECORD = "stage.json"
# Folders beside the runs, whose names no run can have -> their content.
SHARED = {"stages": "all trained stages", "features": "features of frozen encoders"}


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one with dotted keys; a list counts as one value."""
    if isinstance(value, Mapping) and value:
        flat: dict[str, Any] = {}
        for key, item in value.items():
            flat |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
        return flat
    return {prefix: value}


def digest(keys: Mapping[str, Any]) -> str:
    """Return the hash of some keys and their values: 16 hexadecimal digits."""
    text = json.dumps(keys, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def root_of(folder: Path) -> Path:
    """Return the folder of runs that a run belongs to: the nearest one above with trained stages."""
    return next((above for above in folder.parents if (above / "stages").is_dir()), folder.parent)


@dataclass(frozen=True)
class StoredStage:
    """A place in the store, filled or not.

    Attributes:
        root: folder of all runs.
        name: name of the stage.
        hash: digest of everything that decides it.
    """

    root: Path
    name: str
    hash: str

    @property
    def folder(self) -> Path:
        """Folder of the finished stage."""
        return self.root / "stages" / self.name / self.hash

    @property
    def partial(self) -> Path:
        """Folder in which the stage is being trained."""
        return self.folder.with_name(f".{self.hash}.partial")

    @property
    def checkpoint(self) -> Path:
        """Weights of the finished stage."""
        return self.folder / CHECKPOINT

    def exists(self) -> bool:
        """Return whether the stage has been trained and its weights are complete."""
        return (self.folder / RECORD).is_file() and self.checkpoint.is_file() and is_zipfile(self.checkpoint)

    def record(self) -> dict[str, Any]:
        """Return the `stage.json` of the finished stage."""
        found: dict[str, Any] = read_json(self.folder / RECORD, f"Remove {self.folder} to train it again.")
        return found

    def notes(self) -> list[str]:
        """Return remarks on the finished stage; empty if it is not finished."""
        found: list[str] = self.record().get("notes", []) if self.exists() else []
        return found

    @contextmanager
    def exclusively(self, announce: str) -> Iterator[None]:
        """Lock the stage so that only this process trains it; waits for another process and calls `announce` then."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder.with_name(f".{self.hash}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(announce, flush=True)
            lock.acquire()
        try:
            yield
            # A process that still waits for this lock finds the stage trained, so a second lock file does no harm.
            if self.exists():
                Path(lock.lock_file).unlink(missing_ok=True)
        finally:
            lock.release()

    def publish(self, record: Mapping[str, Any]) -> None:
        """Publish the trained stage by one rename."""
        write_json(self.partial / RECORD, record)
        if self.folder.exists():
            # Left by a store that was damaged by hand: `exists` found it incomplete.
            shutil.rmtree(self.folder)
        self.partial.rename(self.folder)


def read_json(path: Path, step: str) -> Any:
    """Return the content of a file that `write_json` has written.

    Raises:
        RunError: the file is missing or damaged; the message ends with the advice `step`.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error})", step) from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is either complete or absent."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file that is either complete or absent."""
    write_whole(path, text.encode())
