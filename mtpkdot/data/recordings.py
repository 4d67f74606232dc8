"""What a reader of a data set's layout finds: recordings as they lie on disk, and what is wrong with them."""

from dataclasses import dataclass, field
from pathlib import Path

Fact = str | int | float


@dataclass(frozen=True)
class Recording:
    """One recording; nothing of it is decoded yet.

    Attributes:
        id: unique in the data set and usable as a file name.
        facts: what the index keeps of it: subject, class, part, frame range.
        pictures: a video file, or a folder of JPEG frames.
        sound: a media file with a sound track.
        table: a text file beside it: signals over time, or annotations per frame.
    """

    id: str
    facts: dict[str, Fact]
    pictures: Path | None = None
    sound: Path | None = None
    table: Path | None = None


@dataclass(frozen=True)
class Problem:
    """Something a user should know about before training.

    Attributes:
        path: the file or folder.
        what: what is wrong, without the path.
        step: what to do, as an imperative.
        fatal: whether the recording cannot be used as it is; a note otherwise.
    """

    path: Path
    what: str
    step: str
    fatal: bool = True


@dataclass
class Inventory:
    """Everything found below a root.

    Attributes:
        recordings: in the order of their ids.
        problems: what is missing or cannot be read.
        counts: what is there against what the data set should have: name -> (found, expected or None).
    """

    recordings: list[Recording] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, tuple[int, int | None]] = field(default_factory=dict)
