"""Text files of BioVid about its clips: their names, the index `samples.csv`, and list files of frame ranges."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mtpkdot.data.media.files import read_lines
from mtpkdot.data.media.recordings import Problem
from mtpkdot.errors import DataError

CLASSES = ("BL1", "PA1", "PA2", "PA3", "PA4")
"""Baseline and four levels of heat pain; the place in this tuple is the level."""

# fmt: off
LOW_REACTION = (
    "082315_w_60", "082414_m_64", "082909_m_47", "083009_w_42", "083013_w_47", "083109_m_60", "083114_w_55",
    "091914_m_46", "092009_m_54", "092014_m_56", "092509_w_51", "092714_m_64", "100514_w_51", "100914_m_39",
    "101114_w_37", "101209_w_61", "101809_m_59", "101916_m_40", "111313_m_64", "120614_w_61",
)
"""20 subjects who hardly react, left out by the protocol with 67 subjects. Second-hand list, not from the database."""

HOLDOUT = (
    "100914_m_39", "101114_w_37", "082315_w_60", "083114_w_55", "083109_m_60", "072514_m_27", "080309_m_29",
    "112016_m_25", "112310_m_20", "092813_w_24", "112809_w_23", "112909_w_20", "071313_m_41", "101309_m_48",
    "101609_m_36", "091809_w_43", "102214_w_36", "102316_w_50", "112009_w_43", "101814_m_58", "101908_m_61",
    "102309_m_61", "112209_m_51", "112610_w_60", "112914_w_51", "120514_w_56",
)
"""26 validation subjects of the database's authors. Second-hand list, not from the database."""
# fmt: on

_CLIP = re.compile(r"([0-9]{6}_([mw])_([1-9][0-9]{0,2}))-([A-Z0-9]+)-([0-9]{3})")
_LISTED = re.compile(r"(?P<folder>\S.*?)\s+(?P<first>[0-9]{1,9})\s+(?P<last>[0-9]{1,9})\s+(?P<label>[0-9]+)")
_LINE = "<level>/<clip> <first> <last> <label>"
_INDEX = Path("starting_point") / "samples.csv"
_INDEX_CELLS = 6


class ClipName(NamedTuple):
    """Parts of the name of a clip."""

    subject: str
    sex: str
    age: int
    class_name: str
    number: int

    @property
    def level(self) -> int:
        """Level of pain: 0 for the baseline, 1 to 4 for pain."""
        return CLASSES.index(self.class_name)


class Index(NamedTuple):
    """Index of a part.

    Attributes:
        path: the file.
        clips: listed names in their order, without repetition.
        problems: malformed or contradictory rows; their clips are left out.
        dropped: the names of these clips.
    """

    path: Path
    clips: list[str]
    problems: list[Problem]
    dropped: set[str]


class Lists(NamedTuple):
    """Contents of list files.

    Attributes:
        ranges: numbers of the first and last frame of each `<level>/<clip>`, counted from 1, both included; None
            without list files.
        problems: malformed or contradictory lines (their clips are left out), and files that are no lists.
        dropped: `<level>/<clip>` of the clips that are left out.
    """

    ranges: dict[str, tuple[int, int]] | None
    problems: list[Problem]
    dropped: set[str]


def parse_id(text: str) -> ClipName:
    """Parse the name of a clip, `<MMDDhh>_<m|w>_<age>-<CLASS>-<NNN>`.

    Raises:
        ValueError: the text has another form.
    """
    match = _CLIP.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a clip name like '071309_w_21-BL1-081'")
    subject, sex, age, class_name, number = match.groups()
    if class_name not in CLASSES:
        raise ValueError(f"{text!r} names the class {class_name!r}, which is not one of {', '.join(CLASSES)}")
    return ClipName(subject, sex, age=int(age), class_name=class_name, number=int(number))


def index_path(part: Path) -> Path | None:
    """Return the path of the index of a part: below its folder, or beside it; None if there is none."""
    return next((folder / _INDEX for folder in (part, part.parent) if (folder / _INDEX).exists()), None)


def read_index(path: Path) -> Index:
    """Read the index of a part.

    Raises:
        DataError: the file is empty, or no line has six cells separated by tabs.
    """
    clips: dict[str, int] = {}
    dropped: set[str] = set()
    problems = []
    rows = [(number, line.split("\t")) for number, line in enumerate(read_lines(path), start=1) if line.strip()]
    if all(len(row) != _INDEX_CELLS for _, row in rows):
        what = f"{path}: line {rows[0][0]} has {len(rows[0][1])} cells separated by tabs where {_INDEX_CELLS} belong"
        raise DataError(what, "Take the file from the data set again.")
    for number, row in rows:
        cells = [cell.strip() for cell in row]
        if len(cells) != _INDEX_CELLS:
            reason = f"line {number} has {len(cells)} cells separated by tabs where {_INDEX_CELLS} belong"
            problems.append(Problem(path, reason, "Take the file from the data set again."))
            continue
        if number == 1 and not cells[2].isdecimal():
            continue
        reason = _contradiction(cells) or ("the clip is listed before" if cells[5] in clips else "")
        if not reason:
            clips[cells[5]] = number
        else:
            # A clip that is listed twice is kept once, and can be used.
            if _is_clip(cells[5]):
                dropped.add(cells[5])
            step = "Correct the line, or take the file from the data set again."
            problems.append(Problem(path, f"line {number}: {reason}", step, fatal=cells[5] not in clips))
    return Index(path, list(clips), problems, dropped - clips.keys())


def read_lists(paths: Sequence[Path], given: bool) -> Lists:
    """Read list files with lines `<level>/<clip> <first frame> <last frame> <label>`.

    Args:
        paths: paths of the files.
        given: True if the user named them; otherwise a text file without such lines is noted and ignored.

    Raises:
        DataError: a file that the user named cannot be read or has no such line.
    """
    ranges: dict[str, tuple[int, int]] = {}
    dropped: set[str] = set()
    problems = []
    read = 0
    for path in paths:
        try:
            text = read_lines(path)
        except DataError as error:
            if given:
                raise
            problems.append(Problem.of(error, path))
            continue
        lines = [(number, line.strip()) for number, line in enumerate(text, start=1) if line.strip()]
        matches = [(number, line, _LISTED.fullmatch(line)) for number, line in lines]
        if not any(match for _, _, match in matches):
            if given:
                raise DataError(f"{path}: has no line '{_LINE}'", "Name a list of clips.")
            problems.append(
                Problem(path, "is not a list of clips and is ignored", "Ignore this if it is intended.", fatal=False)
            )
            continue
        read += 1
        wrong = []
        for number, line, match in matches:
            if not match:
                wrong.append(f"line {number} is {line[:80]!r} where '{_LINE}' belongs")
                continue
            folder = "/".join(match["folder"].replace("\\", "/").split("/")[-2:])
            span = int(match["first"]), int(match["last"])
            if match["label"] != folder.split("/")[0]:
                reason = f"label {match['label']} in the folder {folder!r}"
            elif not 1 <= span[0] <= span[1]:
                reason = f"frames {span[0]} to {span[1]} are not a range"
            elif ranges.setdefault(folder, span) != span:
                reason = f"{folder!r} has frames {span[0]} to {span[1]} here and {ranges[folder]} before"
            else:
                continue
            dropped.add(folder)
            wrong.append(f"line {number}: {reason}")
        if wrong:
            more = f" (and {len(wrong) - 1} more lines)" if len(wrong) > 1 else ""
            problems.append(Problem(path, wrong[0] + more, "Correct the list, or name other lists."))
    kept = {folder: span for folder, span in ranges.items() if folder not in dropped}
    return Lists(kept if read else None, problems, dropped)


def _is_clip(name: str) -> bool:
    try:
        parse_id(name)
    except ValueError:
        return False
    return True


def _contradiction(cells: Sequence[str]) -> str | None:
    """Return the error in a row of the index, or None."""
    _, subject, level, class_name, _, name = cells
    try:
        clip = parse_id(name)
    except ValueError as error:
        return str(error)
    if clip.subject != subject:
        return f"subject {subject!r} with the clip {name!r}"
    if clip.class_name != class_name or str(clip.level) != level:
        return f"class {level} {class_name!r} with the clip {name!r}"
    return None
