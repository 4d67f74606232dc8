"""Cross-validation: runs the cells of a study in parallel processes and skips finished ones."""

import contextlib
import hashlib
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mtpkdot.errors import ConfigError, DivergedError, OtherRunError, RunError, UserError
from mtpkdot.files import writing
from mtpkdot.pipeline.notices import start_cells
from mtpkdot.pipeline.records import RUN, read_record
from mtpkdot.pipeline.results import discard_torn
from mtpkdot.pipeline.store import StoredStage, write_json, write_text
from mtpkdot.pipeline.study import CELL, FAILED, Cell, Study
from mtpkdot.progress import progress
from mtpkdot.workers import visible_cards, workers

if TYPE_CHECKING:
    from mtpkdot.data.base import BaseData

_read: "list[BaseData]" = []  # The data set that this process has read last.


@dataclass(frozen=True)
class Failure:
    """A cell that failed.

    Attributes:
        place: place of the cell.
        reason: reason of the failure, in one line.
    """

    place: str
    reason: str


def run(study: Study, jobs: int, threads: int, part: tuple[int, int] = (1, 1)) -> list[Failure]:
    """Run every cell that is not finished.

    Args:
        study: the study.
        jobs: number of processes.
        threads: threads of each.
        part: (i, n), the i-th of n parts of the study, from 1 on, see `Study.cells`.

    Returns:
        The cells that failed, and those that could not be run because of them. All others are finished.

    Raises:
        RunError: a process was killed. Calling again continues.
    """
    study.write()
    cells = list(study.cells(part))
    done = {cell.place for cell in cells if study.is_finished(cell)}
    needed = {_key(cell) for cell in cells if cell.place not in done}
    # Cells that were moved without their stages, or whose stages are damaged.
    done -= {c.place for c in cells if c.first and c.place in done and _key(c) in needed and not _has_stages(study, c)}
    failures: list[Failure] = []
    waiting: dict[tuple[str, str, int, int], list[Cell]] = {}
    ready: list[Cell] = []
    for cell in (cell for cell in cells if cell.place not in done):
        if cell.first:
            ready.append(cell)
            waiting[_key(cell)] = []
        else:
            waiting.get(_key(cell), ready).append(cell)
    cards = cards_for(ready[0]) if ready else []
    killed = RunError(
        "a process of the study was killed, perhaps for lack of memory",
        "Call the same command again to go on, with fewer --jobs if memory was short.",
    )
    pool = workers(jobs, threads, killed=killed, cards=cards, start=partial(start_cells, threads))
    with progress(len(cells), len(done), study.name, "cell") as bar, pool as hand_out:

        def submit(cell: Cell) -> "Future[str | None]":
            return hand_out(run_cell, study.folder / cell.place, cell, study.basis_of(cell))

        running = {submit(cell): cell for cell in ready}
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                cell = running.pop(future)
                bar.update()
                followers = waiting.pop(_key(cell), []) if cell.first else []
                reason = future.result()
                if reason is None:
                    running |= {submit(follower): follower for follower in followers}
                    continue
                failures.append(Failure(cell.place, reason))
                failures += [Failure(f.place, "its upstream stages failed") for f in followers]
                bar.update(len(followers))
    return failures


def _key(cell: Cell) -> tuple[str, str, int, int]:
    """Return the key that a cell shares with all cells that wait for the same one."""
    return cell.setting, cell.upstream, cell.fold, cell.seed


def _has_stages(study: Study, cell: Cell) -> bool:
    stages = read_record(study.folder / cell.place / "run.json", RUN, "Remove that folder.")["stages"]
    return all(StoredStage(Path(study.root), name, job["hash"]).exists() for name, job in stages.items())


def run_cell(folder: Path, cell: Cell, basis: str) -> str | None:
    """Run a cell in this process, with its output written to `log.txt`.

    Args:
        folder: folder of the cell.
        cell: the cell.
        basis: basis of the cell, see `Study.basis_of`.

    Returns:
        None, or the reason of its failure in one line; the traceback is in `failed.txt`.
    """
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except UserError as error:
        return str(error)
    record = {"arguments": cell.arguments, "basis": basis}
    for name in (CELL, FAILED):  # Left by an earlier study, and out of date from now on.
        (folder / name).unlink(missing_ok=True)
    discard_torn(folder)
    started = time.monotonic()
    with (folder / "log.txt").open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            _fit(cell)
        except UserError as error:
            line = f"diverged: {error}" if isinstance(error, DivergedError) else str(error)
            write_text(folder / FAILED, f"{line}\n")
            return line
        except Exception:  # noqa: BLE001 - one cell of a thousand must not take the others down; the traceback is kept
            account = traceback.format_exc()
            write_text(folder / FAILED, account)
            return f"{account.strip().splitlines()[-1]} (see {folder / FAILED})"
    write_json(folder / CELL, {**record, "finished": True, "seconds": round(time.monotonic() - started, 3)})
    return None


def check(study: Study) -> None:
    """Check a study before anything is run: each variant once, and each setting once.

    Args:
        study: the study, whose finished cells are skipped.

    Raises:
        UserError: the first mistake.
    """
    from mtpkdot.pipeline.config import parse
    from mtpkdot.pipeline.runner import Run

    settings, variants = list(study.settings), list(study.variants)
    predicted: dict[str, tuple[str, list[str], str]] = {}
    of_settings: dict[str, str] = {}
    checked: set[str] = set()
    for cell in study.cells():
        once = cell.setting == settings[0] or cell.first or cell.variant == variants[0]
        if cell.fold or cell.seed != study.seeds[0] or not once or study.is_finished(cell):
            continue
        try:
            run = Run(parse("crossval", cell.arguments), read=_read[0] if _read else None)
            if run.ranks.size > 1:
                raise ConfigError("each cell of a study runs on one device", "Set --trainer.devices 1.")
            run.check(checked)
            predicted[cell.setting] = run.data.task, run.data.targets, run.data.prevalent
            tested = run.data.positions("test")
            tested_data = hashlib.sha256("\n".join(run.data.samples.ids[tested]).encode())
            tested_data.update(run.data.samples.target[tested].tobytes())
            if of_settings.setdefault(cell.setting, tested_data.hexdigest()) != tested_data.hexdigest():
                raise ConfigError(
                    "variants of one setting are tested on different samples or targets",
                    "Put what changes the data into settings.",
                )
            if len({str(value) for value in predicted.values()}) > 1:
                raise ConfigError(
                    "settings of one study predict different things, or from different modalities",
                    "Make a study of each.",
                )
        except OtherRunError as error:
            again = f"Name another study with --name, or remove {study.folder} to run it anew."
            raise OtherRunError(f"{cell.setting}/{cell.variant}: {error.what}", again) from error
        except UserError as error:
            raise type(error)(f"{cell.setting}/{cell.variant}: {error.what}", error.step) from error
        _read[:] = [run.data]


def _fit(cell: Cell) -> None:
    from mtpkdot.pipeline.config import parse
    from mtpkdot.pipeline.runner import Run

    run = Run(parse("crossval", cell.arguments), read=_read[0] if _read else None)
    run.fit(everything=False)
    _read[:] = [run.data]


def cards_for(cell: Cell) -> list[str]:
    """Return the graphics cards to distribute among processes: none if the Trainer uses no card or names its own."""
    from mtpkdot.pipeline.config import parse

    cards = visible_cards()
    if len(cards) < 2:
        return []
    trainer = parse("crossval", cell.arguments).config["trainer"]
    free = trainer["accelerator"] in ("auto", "gpu", "cuda") and str(trainer["devices"]) == "1"
    return cards if free else []


def by_reason(failures: Iterable[Failure]) -> dict[str, list[str]]:
    """Return failed cells by the reason of their failure."""
    found: dict[str, list[str]] = {}
    for failure in failures:
        found.setdefault(failure.reason, []).append(failure.place)
    return found
