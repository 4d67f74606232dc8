"""Recordings as they lie on disk, and their problems, found by the readers of layouts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mtpkdot.errors import DataError

_FRAME = re.compile(r"/([^/]+?\.jpe?g)(?=[ :,])", re.IGNORECASE)

Fact = str | int | float


@dataclass(frozen=True)
class Recording:
    """One recording, not decoded yet.

    Attributes:
        id: unique in the data set and usable as a file name.
        facts: values for the index: subject, class, part, frame range.
        files: every file, or folder of files, that it is decoded from, by role; missing ones are left out. The data
            sets of this package have `pictures` (a video, or a folder of JPEG frames), `sound` (a media file with a
            sound track) and `table` (signals over time, or annotations per frame).
        usable: False if a necessary file is missing.
    """

    id: str
    facts: dict[str, Fact]
    files: Mapping[str, Path] = field(default_factory=dict)
    usable: bool = True


@dataclass(frozen=True)
class Problem:
    """Problem that a user should know before training.

    Attributes:
        path: the file or folder.
        what: the fault, without the path.
        step: advice as an imperative.
        fatal: True if the recording, or a part of it, cannot be used; False for a note.
    """

    path: Path
    what: str
    step: str
    fatal: bool = True

    @classmethod
    def of(cls, error: DataError, *paths: Path) -> "Problem":
        """Return the problem of an error, at the file that it names.

        Args:
            error: the error, whose text begins with the file.
            paths: possible files, and folders of frames.
        """
        for path in paths:
            rest = error.what.removeprefix(str(path))
            frame = _FRAME.match(rest)
            if frame:
                return cls(path / frame[1], rest[frame.end() :].lstrip(" ,:"), error.step)
            if rest != error.what and rest[:1] in (" ", ",", ":"):
                return cls(path, rest.lstrip(" ,:"), error.step)
        return cls(paths[0], error.what, error.step)

    @property
    def line(self) -> str:
        """File and fault, in words that do not depend on the place of the data set."""
        return f"{self.path.parent.name}/{self.path.name}: {self.what}"


class Span(NamedTuple):
    """Frames of a recording whose predictions the authors of the data set ask for.

    Attributes:
        id: id of the recording.
        first: position of the first frame, counted from 0.
        last: position of the last frame, included; -1 for the whole recording.
    """

    id: str
    first: int = 0
    last: int = -1


@dataclass
class Inventory:
    """Recordings, problems and counts found below a root.

    Attributes:
        recordings: recordings in the order of their ids.
        problems: missing and unreadable files.
        counts: found and expected numbers (or None) by name.
        lost: ids of recordings of the data set that are missing from `recordings` because of `problems`.
        asked: frames whose predictions the authors of the data set ask for, in their order.
    """

    recordings: list[Recording] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    asked: list[Span] = field(default_factory=list)
