"""Findings of a reader of a data set's layout: recordings as they lie on disk, and what is wrong with them."""

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
    """One recording; nothing of it is decoded yet.

    Attributes:
        id: unique in the data set and usable as a file name.
        facts: what the index keeps of it: subject, class, part, frame range.
        files: every file, or folder of files, that it is decoded from, by any role; those that are not there are left
            out. The data sets of this package have `pictures` (a video, or a folder of JPEG frames), `sound` (a media
            file with a sound track) and `table` (signals over time, or annotations per frame).
        usable: false where a file is not there without which it cannot be used.
    """

    id: str
    facts: dict[str, Fact]
    files: Mapping[str, Path] = field(default_factory=dict)
    usable: bool = True


@dataclass(frozen=True)
class Problem:
    """Something a user should know about before training.

    Attributes:
        path: the file or folder.
        what: what is wrong, without the path.
        step: what to do, as an imperative.
        fatal: whether something of the recording, or all of it, cannot be used as it is; a note otherwise.
    """

    path: Path
    what: str
    step: str
    fatal: bool = True

    @classmethod
    def of(cls, error: DataError, *paths: Path) -> "Problem":
        """The problem that an error tells of, at the file that it names.

        Args:
            error: what was raised; its text begins with the file.
            paths: the files it may be about, and folders of frames.
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
    def told(self) -> str:
        """The file and what is wrong, in words that are the same wherever the data set lies."""
        return f"{self.path.parent.name}/{self.path.name}: {self.what}"


class Span(NamedTuple):
    """Frames of a recording whose predictions the data set's authors ask for.

    Attributes:
        id: of the recording.
        first: position of the first frame, counted from 0.
        last: of the last one, included; -1 for the whole recording.
    """

    id: str
    first: int = 0
    last: int = -1


@dataclass
class Inventory:
    """Everything found below a root.

    Attributes:
        recordings: in the order of their ids.
        problems: what is missing or cannot be read.
        counts: what is there against what the data set should have: name -> (found, expected or None).
        lost: ids of the recordings that belong to the data set and are not among `recordings`, for what `problems` say.
        asked: frames whose predictions the data set's authors ask for, in their order.
    """

    recordings: list[Recording] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    asked: list[Span] = field(default_factory=list)
