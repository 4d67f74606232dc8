"""Check of a raw data set before training: files, their contents, and the intended split."""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm import tqdm

from mtpkdot.data.media.prepare import Convert, Examine, check_decoders, killed
from mtpkdot.data.media.recordings import Inventory, Problem, Recording
from mtpkdot.data.media.store import Store
from mtpkdot.errors import DataConfigError, DataError
from mtpkdot.workers import completed

if TYPE_CHECKING:  # Processes that decode need no Lightning.
    from mtpkdot.data.media.base import MediaData


@dataclass(frozen=True)
class Report:
    """Result of a check.

    Attributes:
        inventory: counts and all problems, including files that cannot be decoded.
        decoded: number of recordings whose decoding was tried.
        usable: number of recordings that can be used, some of them without a damaged file.
        lost: number of recordings that cannot be used.
        summary: samples by part, with their labels; empty if they were not made.
        error: error of training that no single recording causes, such as a split into more folds than people; None if
            there is none, or if samples were not made.
    """

    inventory: Inventory
    decoded: int
    usable: int
    lost: int
    summary: str = ""
    error: DataError | None = None

    @property
    def fatal(self) -> list[Problem]:
        """Problems that keep recordings from being used."""
        return [problem for problem in self.inventory.problems if problem.fatal]

    def lines(self, most: int = 40) -> Iterator[str]:
        """Yield the lines of the report, with at most `most` problems and as many notes."""
        width = max((len(name) for name in self.inventory.counts), default=0)
        for name, (found, expected) in self.inventory.counts.items():
            of = "" if expected is None else f" of {expected}" + ("" if found == expected else "  <- differs")
            yield f"  {name.ljust(width)}  {found}{of}"
        if self.decoded:
            yield f"  {'decoded'.ljust(width)}  {self.decoded}"
        if self.summary:
            yield f"  {self.summary}"
        notes = [problem for problem in self.inventory.problems if not problem.fatal]
        for kind, problems in (("note", notes), ("problem", self.fatal)):
            for problem in problems[:most]:
                end = "" if problem.what.endswith(".") else "."
                yield f"  {kind}: {problem.path}: {problem.what}{end} {problem.step}"
            if len(problems) > most:
                yield f"  ... and {len(problems) - most} more of this kind (--all shows them)"


def check(data: "MediaData", decode: bool = True) -> Report:
    """Decode everything in a data set, as its preparation would, and report the problems.

    Args:
        data: the data set.
        decode: False checks only names, counts and text files.

    Returns:
        The report. A recording that cannot be used is reported with the first file that causes it. Samples and parts
        are made from the recordings that training would use.

    Raises:
        DataConfigError: no recording can be converted with these settings.
    """
    inventory = data.inventory()
    usable = [recording for recording in inventory.recordings if recording.usable]
    lost = len(inventory.lost) + len(inventory.recordings) - len(usable)
    if not decode:
        return Report(inventory, 0, len(usable), lost)
    check_decoders(inventory)
    results = _decoded(usable, data)
    rows = [result.row for result in results if result.row is not None]
    problems = [problem for result in results for problem in result.problems]
    # Two people share a raw video.
    unique = list(dict.fromkeys([*inventory.problems, *problems]))
    failed = len(results) - len(rows)
    report = Report(replace(inventory, problems=unique), len(usable), len(rows), lost + failed)
    if not rows or (report.fatal and data.on_error == "raise"):
        return report
    trial = copy(data)
    trial.prepared = Store.without_arrays(rows, inventory.asked)
    try:
        trial.check()
    except DataError as error:
        return replace(report, error=error)
    return replace(report, summary=trial.summary())


class _Result(NamedTuple):
    """Row of the index of a usable recording, else None, and its problems."""

    row: dict[str, Any] | None
    problems: list[Problem]


def _decoded(recordings: list[Recording], data: "MediaData") -> list[_Result]:
    """Return the results of decoding each recording, in their order."""
    preparation = data.preparation
    work = partial(_try, preparation.convert, data.examiner())
    results: dict[int, _Result] = {}
    with tqdm(total=len(recordings), desc="checking", unit="recording", disable=None) as bar:
        for position, result in completed(work, recordings, preparation.workers, killed()):
            results[position] = result
            bar.update()
    return [results[position] for position in range(len(recordings))]


def _try(convert: Convert, examine: Examine | None, recording: Recording) -> _Result:
    try:
        content = convert(recording)
    except DataConfigError:  # caused by no file of the recording
        raise
    except DataError as error:
        return _Result(None, [Problem.of(error, *recording.files.values())])
    lacks = [] if examine is None else examine(recording, content)
    return _Result(None if lacks else content.row(recording.id), [*content.problems, *lacks])
