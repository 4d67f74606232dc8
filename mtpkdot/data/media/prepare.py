"""Preparation of a store from raw recordings: parallel, resumable, and atomic per recording."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import current_process
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from mtpkdot.data.media.recordings import Inventory, Problem, Recording
from mtpkdot.data.media.store import (
    FORMAT,
    Content,
    Store,
    index_entry,
    stored_problems,
    stored_source,
    write_index,
    write_recording,
)
from mtpkdot.errors import DataConfigError, DataError, UnwritableError
from mtpkdot.extras import require
from mtpkdot.files import remove_torn
from mtpkdot.progress import progress
from mtpkdot.sources import sources
from mtpkdot.workers import completed

OnError = Literal["raise", "skip"]
Convert = Callable[[Recording], Content]
Examine = Callable[[Recording, Content], list[Problem]]


@dataclass(frozen=True)
class Preparation:
    """Plan of a store.

    Attributes:
        root: folder of the raw files, for messages.
        folder: folder of the store.
        settings: everything that decides the content of the store, as plain data.
        convert: function that decodes one recording; must be picklable.
        on_error: handling of unreadable files: `raise`, or `skip` to leave them (if necessary their recordings) out and
            count them.
        workers: number of processes.
    """

    root: Path
    folder: Path
    settings: dict[str, Any]
    convert: Convert
    on_error: OnError = "raise"
    workers: int = 1

    @property
    def code(self) -> dict[str, str]:
        """Digest of each source file that `convert` depends on."""
        return sources([self.convert]).files


def prepare(inventory: Inventory, preparation: Preparation) -> Store:
    """Bring a store up to date with the raw files, and return it.

    Recordings that are stored already, from the same files, settings and code, are not read again, so a killed run
    continues. A process waits for another one that prepares the same store. A finished store is not written to.

    Raises:
        DataError: a file cannot be read, under `on_error: raise`; the other recordings stay stored.
        DataConfigError: no recording can be converted with the settings, or a script without
            `if __name__ == '__main__':` starts processes.
    """
    _check(inventory, preparation)
    folder = preparation.folder
    unusable = [problem for problem in inventory.problems if problem.fatal]
    sources = dict(zip((r.id for r in inventory.recordings), fingerprints(inventory, preparation), strict=True))
    problems = sorted(f"{problem.path.name} {problem.what}" for problem in unusable)
    text = json.dumps([sources, preparation.on_error, problems, inventory.lost, inventory.asked])
    listing = hashlib.sha256(text.encode()).hexdigest()
    if (store := _finished(folder, sources, listing)) is not None:
        return store
    check_decoders(inventory)
    with _locked(folder):
        return _finished(folder, sources, listing) or _prepare(inventory, preparation, sources, listing)


def prepare_part(inventory: Inventory, preparation: Preparation, which: int, count: int) -> tuple[int, int]:
    """Store every `count`-th recording, from the `which`-th on; other processes or machines store the rest.

    `prepare` then collects them, waits for parts that are still running, and writes the index; a part that starts
    meanwhile waits for it. Locks must work between the machines.

    Returns:
        The number of recordings of the part, and of unreadable ones among them, under `on_error: skip`.

    Raises:
        DataError: see `prepare`.
    """
    _check(inventory, preparation)
    folder, skip = preparation.folder, preparation.on_error == "skip"
    usable = [r for r in inventory.recordings if r.usable][which - 1 :: count]
    share = replace(inventory, recordings=usable)
    check_decoders(share)
    sources = dict(zip((r.id for r in usable), fingerprints(share, preparation), strict=True))
    failed = 0
    with ExitStack() as own:
        with _locked(folder):
            own.enter_context(_locked(folder, f".part-{which}-{count}.lock"))
            wanted = _wanted(folder, usable, sources, skip)
        for _, problem in _converted(wanted, sources, preparation, len(usable)):
            if problem is None:
                (folder / "store.json").unlink(missing_ok=True)
            elif not skip:
                raise problem
            failed += problem is not None
    return len(usable), failed


def _check(inventory: Inventory, preparation: Preparation) -> None:
    """Raise an error if nothing can be prepared."""
    if getattr(current_process(), "_inheriting", False):
        # A starting worker process runs the user's script once more, and would wait here for its own parent.
        what = "the script that prepares the data is run again by every process that it starts"
        raise DataConfigError(what, "Put what it does below `if __name__ == '__main__':`.")
    unusable = [problem for problem in inventory.problems if problem.fatal]
    if unusable and preparation.on_error == "raise":
        raise _refused(unusable[0], len(unusable) - 1)


def check_decoders(inventory: Inventory) -> None:
    """Raise an error if a package for decoding the recordings is not installed.

    Raises:
        MissingExtraError: a package is missing; the message names it.
    """
    files = [recording.files for recording in inventory.recordings if recording.usable]
    if any("pictures" in roles for roles in files):
        require("cv2")
    if any(roles["pictures"].is_dir() for roles in files if "pictures" in roles):
        require("simplejpeg")
    media = (path for roles in files for role, path in roles.items() if role in ("pictures", "sound"))
    if any(path.is_file() for path in media):
        require("av")


def _wanted(folder: Path, usable: list[Recording], sources: dict[str, str], skip: bool) -> list[Recording]:
    """Return recordings that are not stored, or are stored from other sources."""
    # With `raise`, recordings that were stored without their damaged files are converted again to report them.
    return [
        r
        for r in usable
        if stored_source(folder, r.id) != sources[r.id] or (not skip and stored_problems(folder, r.id))
    ]


@contextmanager
def _locked(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Hold a lock of a store, which is created if it does not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"{folder}: another process prepares it, waiting for the result", flush=True)
            lock.acquire()
    except OSError as error:
        raise UnwritableError(
            f"{folder} cannot be written ({error.strerror})",
            "Name a folder that can be written with data.init_args.store.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _finished(folder: Path, sources: dict[str, str], listing: str) -> Store | None:
    """Return the store if it is complete and up to date."""
    store = Store.open(folder)
    if store is None or store.record.get("listing") != listing:
        return None
    whole = all(stored_source(folder, id) == sources[id] for id in store.index["id"])
    return store if whole else None


def _prepare(inventory: Inventory, preparation: Preparation, sources: dict[str, str], listing: str) -> Store:
    folder = preparation.folder
    skip = preparation.on_error == "skip"
    (folder / "store.json").unlink(missing_ok=True)
    for part in folder.glob(".part-*.lock"):
        with _locked(folder, part.name):
            part.unlink(missing_ok=True)
    # The lock belongs to this process.
    remove_torn(folder / "recordings", "*.safetensors")
    for name in ("index.parquet", "store.json"):
        remove_torn(folder, name)
    usable = [r for r in inventory.recordings if r.usable]
    wanted = _wanted(folder, usable, sources, skip)
    failed: dict[str, str] = {}
    for recording, problem in _converted(wanted, sources, preparation, len(usable)):
        if problem is not None and not skip:
            raise problem
        if problem is not None:
            failed[recording.id] = problem.what
    kept = [r.id for r in usable if r.id not in failed]
    entries = [index_entry(folder, id) for id in kept]
    if not entries:
        raise DataError(
            f"{preparation.root}: not one of {len(inventory.recordings)} recordings can be used",
            "Run `mtpkdot data check`.",
        )
    left_out = sorted({*inventory.lost, *(r.id for r in inventory.recordings if not r.usable), *failed})
    lines = [f"{problem.path}: {problem.what}" for problem in inventory.problems if problem.fatal]
    lines += [text for id in kept for text in stored_problems(folder, id)]
    # Two people share a raw video.
    problems = list(dict.fromkeys([*lines, *(failed[r.id] for r in usable if r.id in failed)]))
    record = {
        "settings": preparation.settings,
        "code": preparation.code,
        "listing": listing,
        "left_out": left_out,
        "problems": problems,
    }
    write_index(folder, entries, {**record, "asked": inventory.asked})
    made = Store.open(folder)
    assert made is not None
    if problems:
        print(f"{made.losses}, listed in {folder / 'store.json'}; first {problems[0]}")
    return made


def _refused(problem: Problem, others: int = 0) -> DataError:
    """Return the error that stops a preparation under `on_error: raise`."""
    more = f" ({others} more; see `mtpkdot data check`)" if others else ""
    step = f"{problem.step.rstrip('.')}, or set data.init_args.on_error to skip."
    return DataError(f"{problem.path}: {problem.what.rstrip('.')}{more}", step)


def fingerprints(inventory: Inventory, preparation: Preparation) -> Iterator[str]:
    """Yield a digest of every recording: names, sizes and modification times of its files, settings, and code.

    An image that was edited in place counts as changed; one that was copied with its times does not.
    """
    settings = json.dumps([FORMAT, preparation.settings, preparation.code], sort_keys=True)
    for recording in inventory.recordings:
        digest = hashlib.sha256(settings.encode())
        digest.update(json.dumps(recording.facts, sort_keys=True).encode())
        for role, path in sorted(recording.files.items()):
            for line in _stats(path):
                digest.update(f"{role} {line}\n".encode())
        yield digest.hexdigest()[:32]


def _stats(path: Path) -> Iterable[str]:
    """Yield name, size and modification time of a file, or of all files below a folder."""
    if not path.is_dir():
        return [_stat(path.name, path.stat())] if path.exists() else [f"{path.name} absent"]
    lines, folders = [], [path]
    while folders:
        with os.scandir(folder := folders.pop()) as entries:
            for entry in entries:
                if entry.is_file():
                    lines.append(_stat(Path(entry.path).relative_to(path).as_posix(), entry.stat()))
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(folder / entry.name)
    return [f"{path.name}/{line}" for line in sorted(lines)]


def _stat(name: str, status: os.stat_result) -> str:
    return f"{name} {status.st_size} {status.st_mtime_ns}"


def _converted(
    wanted: list[Recording], sources: dict[str, str], preparation: Preparation, total: int
) -> Iterator[tuple[Recording, DataError | None]]:
    """Convert recordings in parallel and store them; yield each with its problem, or None."""
    if not wanted:
        return
    jobs = [(recording, sources[recording.id]) for recording in wanted]
    work = partial(_convert_one, preparation)
    with progress(total, total - len(wanted), "preparing", "recording") as bar:
        for position, problem in completed(work, jobs, preparation.workers, killed()):
            bar.update()
            yield wanted[position], problem


def _convert_one(preparation: Preparation, job: tuple[Recording, str]) -> DataError | None:
    """Convert and store a recording; problems of its files are returned, since they may be skipped."""
    recording, source = job
    try:
        content = preparation.convert(recording)
    except DataConfigError:  # not caused by a file of the recording, and no other one could be converted
        raise
    except DataError as error:
        return error
    damage = next((problem for problem in content.problems if problem.fatal), None)
    if damage is not None and preparation.on_error == "raise":
        return _refused(damage)
    write_recording(preparation.folder, recording.id, content, source)
    return None


def killed() -> DataError:
    """Return the error for a worker process that has died."""
    return DataError(
        "a process was killed while it decoded a recording, perhaps for lack of memory",
        "Run it again with fewer workers (data.init_args.prepare_workers).",
    )
