"""What of a raw data set is there, missing or broken, before anything is trained on it."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

from tqdm import tqdm

from mtpkdot.data.prepare import Convert, killed, start_worker
from mtpkdot.data.recordings import Inventory, Problem, Recording
from mtpkdot.errors import DataError

if TYPE_CHECKING:  # processes that decode need no Lightning
    from mtpkdot.data.media import MediaData

_CHUNK = 4


@dataclass(frozen=True)
class Report:
    """The result of a check.

    Attributes:
        inventory: counts and everything that was found wrong, files that cannot be decoded included.
        decoded: recordings that were decoded, or tried.
        usable: recordings without a problem of their own.
    """

    inventory: Inventory
    decoded: int
    usable: int

    @property
    def fatal(self) -> list[Problem]:
        """Problems that keep recordings from being used."""
        return [problem for problem in self.inventory.problems if problem.fatal]

    def lines(self, most: int = 40) -> Iterator[str]:
        """The report, as text; at most so many problems and so many notes."""
        width = max((len(name) for name in self.inventory.counts), default=0)
        for name, (found, expected) in self.inventory.counts.items():
            of = "" if expected is None else f" of {expected}" + ("" if found == expected else "  <- differs")
            yield f"  {name.ljust(width)}  {found}{of}"
        if self.decoded:
            yield f"  {'decoded'.ljust(width)}  {self.decoded}"
        notes = [problem for problem in self.inventory.problems if not problem.fatal]
        for kind, problems in (("note", notes), ("problem", self.fatal)):
            for problem in problems[:most]:
                yield f"  {kind}: {problem.path}: {problem.what.rstrip('.')}. {problem.step}"
            if len(problems) > most:
                yield f"  ... and {len(problems) - most} more of this kind (--all shows them)"


def check(data: "MediaData", decode: bool = True) -> Report:
    """Walk a data set and decode everything in it, as preparing it would.

    Args:
        data: the data set.
        decode: false only looks at names, counts and text files.

    Returns:
        The report. A recording with several damaged files is reported with the first of them.
    """
    inventory = data.inventory()
    usable = [recording for recording in inventory.recordings if recording.pictures is not None]
    if not decode:
        return Report(inventory, 0, len(usable))
    problems = [problem for problem in _decoded(usable, data) if problem is not None]
    found = Inventory(inventory.recordings, [*inventory.problems, *problems], inventory.counts)
    return Report(found, len(usable), len(usable) - len(problems))


def _decoded(recordings: list[Recording], data: "MediaData") -> Iterator[Problem | None]:
    preparation = data.preparation
    jobs = [(preparation.convert, recording) for recording in recordings]
    with tqdm(total=len(jobs), desc="checking", unit="recording", disable=None) as bar:
        if preparation.workers <= 1:
            for job in jobs:
                bar.update()
                yield _try(job)
            return
        # Spawned: a forked copy of a process with threads (torch, OpenCV) may hang.
        with ProcessPoolExecutor(preparation.workers, get_context("spawn"), initializer=start_worker) as pool:
            try:
                for problem in pool.map(_try, jobs, chunksize=_CHUNK):
                    bar.update()
                    yield problem
            except BrokenProcessPool as error:
                raise killed() from error


def _try(job: tuple[Convert, Recording]) -> Problem | None:
    convert, recording = job
    try:
        convert(recording)
    except DataError as error:
        paths = [path for path in (recording.pictures, recording.sound, recording.table) if path is not None]
        path = next((path for path in paths if error.what.startswith(str(path))), paths[0])
        return Problem(path, error.what.removeprefix(str(path)).lstrip(": "), error.step)
    return None
