"""Layouts of BioVid Heat Pain (Walter et al., 2013): finds clips and reads signals, in two layouts.

Official: `<part>/video/<subject>/<clip>.mp4` and `<part>/biosignals_filtered/<subject>/<clip>_bio.csv`, where a clip is
called `<subject>-<CLASS>-<NNN>`. Rearranged into frames, as for the code of the PKDOT paper:
`<level>/<clip>/img_00001.jpg`, `physio/<level>/<clip>_bio.csv`, and list files.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from mtpkdot.data.biovid.index import (
    CLASSES,
    HOLDOUT,
    LOW_REACTION,
    ClipName,
    index_path,
    parse_id,
    read_index,
    read_lists,
)
from mtpkdot.data.biovid.signals import Signals, read_signals
from mtpkdot.data.media.files import describe, entries, problems_by_folder
from mtpkdot.data.media.recordings import Inventory, Problem, Recording
from mtpkdot.errors import DataConfigError, DataError

# fmt: off
__all__ = [
    "CLASSES", "HOLDOUT", "LOW_REACTION", "ClipName", "Signals", "check_counts", "find", "parse_id", "read_signals",
]
# fmt: on

Part = Literal["PartA", "PartB"]

_PARTS: tuple[Part, ...] = ("PartA", "PartB")
_SUBJECTS = {"PartA": 87}
_CLIPS_PER_SUBJECT = 100
_LEVELS = [str(level) for level in range(len(CLASSES))]
_FRAME = re.compile(r"img_([0-9]{5,9})\.(?i:jpe?g)")
_RESTORE = "Take it from the data set again."


def find(
    root: Path,
    part: Part | None = None,
    signals: Literal["filtered", "raw"] = "filtered",
    lists: Sequence[Path] | None = None,
) -> Inventory:
    """Return the clips below a folder; no media are decoded and no signals read.

    Args:
        root: the folder of the data set, of one of its parts, or of the rearranged frames.
        part: the part, if both lie there.
        signals: `filtered` or `raw` signals of the official layout.
        lists: list files of the frames layout; None for every `*.txt` in `root`. Only listed clips are used; without
            list files, all are.

    Returns:
        Recordings with the facts `subject`, `sex`, `age`, `level` (0-4), `class`, `sample` (the number in the name) and
        `first`, `last` (numbers of frames from 1, both included; -1 without a list). The file `pictures` is a video or
        a folder of frames; `table` holds the signals; its absence is a note. Clips without pictures are problems and
        left out.

    Raises:
        DataError: neither layout exists, or more than one, or `lists` cannot be read.
    """
    folders, files = entries(root)
    official = _part_folder(root, folders, part)
    frames = any(level in folders for level in _LEVELS)
    if official and frames and part is None:
        what = f"{root} holds both {official.name}/ and folders of frames by class"
        raise DataConfigError(what, "Name the part, or move the frames into a folder of their own.")
    if official:
        if lists is not None:
            raise DataConfigError(f"{root} has the official layout, which has no lists", "Leave `lists` out.")
        inventory = _find_official(official, signals)
        name = part or official.absolute().name
        check_counts(inventory, _SUBJECTS.get(name), _CLIPS_PER_SUBJECT)
        return inventory
    if not frames:
        raise DataConfigError(
            f"{root} holds no BioVid: neither PartA/, PartB/ or video/, nor folders 0/ to 4/, but {describe(root)}",
            "Give the folder that holds one of them.",
        )
    if signals != "filtered":
        what = f"{root} holds frames by class, whose physio/ has only one set of signals"
        raise DataConfigError(what, "Leave `signals` out, or give the official layout.")
    # A folder of that name is reported when it is read.
    names = [name for name in (*files, *folders) if name.lower().endswith(".txt")]
    texts = [root / name for name in names] if lists is None else list(lists)
    inventory = _find_frames(root, folders, texts, given=lists is not None)
    check_counts(inventory, None, None)
    return inventory


def check_counts(inventory: Inventory, subjects: int | None, per_subject: int | None) -> None:
    """Compare the found numbers of subjects and recordings with the expected ones, in `inventory.counts` and notes.

    Args:
        inventory: updated with `subjects` and `recordings`, and a note for each subject with fewer than `per_subject`.
        subjects: expected number of subjects, or None.
        per_subject: expected number of recordings per subject, or None.
    """
    found = Counter(str(recording.facts["subject"]) for recording in inventory.recordings)
    expected = None if subjects is None or per_subject is None else subjects * per_subject
    inventory.counts |= {
        "subjects": (len(found), subjects),
        "recordings": (len(inventory.recordings), expected),
    }
    if per_subject is None:
        return
    for recording in inventory.recordings:
        number = found.pop(str(recording.facts["subject"]), per_subject)
        if number < per_subject and recording.usable:
            what = f"the subject has {number} of {per_subject} recordings"
            inventory.problems.append(
                Problem(recording.files["pictures"].parent, what, "Ignore this if it is intended.", fatal=False)
            )


def _part_folder(root: Path, folders: Sequence[str], part: Part | None) -> Path | None:
    """Return the folder of the part in the official layout, or None if there is no such layout."""
    name = root.absolute().name
    present = [name for name in _PARTS if name in folders]
    itself = "video" in folders or any(name.startswith("biosignals_") for name in folders)
    if part in present:
        return root / str(part)
    if itself and (part in (None, name) or name not in _PARTS):
        return root
    if part is not None and (present or itself):
        raise DataConfigError(
            f"{root} has no {part} but {present[0] if present else name}", "Name that, or another folder."
        )
    if len(present) > 1:
        raise DataConfigError(f"{root} holds {' and '.join(present)}", "Choose one with `part`.")
    return root / present[0] if present else None


def _find_official(part: Path, signals: str) -> Inventory:
    video, tables = part / "video", part / f"biosignals_{signals}"
    if not video.is_dir():
        raise DataError(f"{part} has no folder video/ but {describe(part)}", "Unpack the videos there.")
    index, unread = None, []
    if (path := index_path(part)) is not None:
        try:
            index = read_index(path)
        except DataError as error:
            unread.append(Problem.of(error, path))
    videos, problems, unusable = _clips(video, entries(video)[0], ".mp4", lambda clip: clip.subject, fatal=True)
    signal_files, wrong, more = _signal_files(tables, lambda clip: clip.subject)
    problems = [*unread, *problems, *wrong]
    expected = videos.keys() | signal_files.keys() | unusable | more
    listed = sorted(videos.keys() | signal_files.keys() if index is None else index.clips)
    counts: dict[str, tuple[int, int | None]] = {}
    if index is not None:
        problems += index.problems
        expected = set(index.clips) | index.dropped
        if any(problem.fatal for problem in index.problems):
            expected |= videos.keys() | signal_files.keys()  # The clip that a damaged line refers to cannot be known.
        known = set(index.clips)
        extra = [path for name, path in (signal_files | videos).items() if name not in known]
        step = "Correct the index, or ignore this if it is intended."
        problems += problems_by_folder(sorted(extra), f"is not in the index {index.path} and left out", step, False)
        nothing = [name for name in listed if name not in videos and name not in signal_files]
        paths = [video / parse_id(name).subject / f"{name}.mp4" for name in nothing]
        problems += problems_by_folder(paths, "is in the index but has no files", _RESTORE, True)
        counts["index rows without files"] = len(nothing), 0
    lonely = [signal_files[name] for name in listed if name in signal_files and name not in videos]
    problems += problems_by_folder(lonely, "has no usable video", _RESTORE, True)
    counts["signals without video"] = len(lonely), 0
    names = [name for name in listed if name in videos]
    return _inventory(
        names, videos, tables=signal_files, ranges={}, problems=problems, counts=counts, expected=expected
    )


def _find_frames(root: Path, folders: Sequence[str], texts: Sequence[Path], given: bool) -> Inventory:
    lists = read_lists(texts, given)
    levels = [level for level in _LEVELS if level in folders]
    clips, problems, expected = _clips(root, levels, "", lambda clip: str(clip.level), fatal=True)
    expected |= clips.keys()
    problems += lists.problems
    signal_files, wrong, _ = _signal_files(root / "physio", lambda clip: str(clip.level))
    problems += wrong
    ranges: dict[str, tuple[int, int]] = {}
    if lists.ranges is not None:
        present = {folder for folder in lists.ranges if clips.get(Path(folder).name) == root / folder}
        ranges = {Path(folder).name: lists.ranges[folder] for folder in present}
        absent = [root / folder for folder in sorted(lists.ranges.keys() - present)]
        problems += problems_by_folder(absent, "is listed but is not a folder of frames", _RESTORE, True)
        clips = {name: path for name, path in clips.items() if name in ranges}
        expected = {Path(folder).name for folder in lists.ranges.keys() | lists.dropped}
    names, bare, short = [], [], []
    for name, path in sorted(clips.items()):
        last = _last_frame(path)
        if last == 0:
            bare.append(path)
        elif name in ranges and ranges[name][1] > last:
            short.append(path)
        else:
            names.append(name)
    problems += problems_by_folder(bare, "holds no frames with names like img_00001.jpg", _RESTORE, True)
    problems += problems_by_folder(
        short, "ends before its last listed frame", "Restore the frames or list fewer.", True
    )
    return _inventory(names, clips, tables=signal_files, ranges=ranges, problems=problems, counts={}, expected=expected)


def _signal_files(folder: Path, group: Callable[[ClipName], str]) -> tuple[dict[str, Path], list[Problem], set[str]]:
    """Return the signal files below a folder; see `_clips`."""
    if folder.is_dir():
        return _clips(folder, entries(folder)[0], "_bio.csv", group, fatal=False)
    other = folder.with_name({"biosignals_filtered": "biosignals_raw"}.get(folder.name, "biosignals_filtered"))
    if folder.name.startswith("biosignals_") and other.is_dir():
        raise DataConfigError(f"{folder} does not exist, but {other.name}/ does", "Choose it with `signals`.")
    what = "does not exist, so there are no signals"
    return {}, [Problem(folder, what, "Unpack the signals there.", fatal=False)], set()


def _clips(
    folder: Path, inner: Iterable[str], tail: str, group: Callable[[ClipName], str], fatal: bool
) -> tuple[dict[str, Path], list[Problem], set[str]]:
    """Return files of clips, or folders of clips, two levels below a folder.

    Args:
        folder: folder that contains the folders `inner`.
        inner: names of the folders that contain clips.
        tail: rest of the file names after the name of the clip; empty for folders.
        group: function that returns the inner folder of a clip.
        fatal: True if an unexpected place or name is a fatal problem and not a note. An empty file is always fatal.

    Returns:
        Paths by clip name, the problems of the others, and those of their names that are names of clips.
    """
    found: dict[str, Path] = {}
    nameless, astray, empty, double, folded = [], [], [], [], []
    for place in inner:
        folders, files = entries(folder / place)
        folded += [folder / place / member for member in folders if tail and member.lower().endswith(tail)]
        for member in files if tail else folders:
            if not member.lower().endswith(tail):
                continue
            name, path = member[: len(member) - len(tail)], folder / place / member
            try:
                clip = parse_id(name)
            except ValueError:
                nameless.append(path)
                continue
            if group(clip) != place:
                astray.append(path)
            elif tail and path.stat().st_size == 0:
                empty.append(path)
            elif name in found:
                double.append(path)
            else:
                found[name] = path
    named = "is not named like '071309_w_21-BL1-081' and is left out"
    problems = problems_by_folder(nameless, named, "Rename it as the data set does.", fatal)
    problems += problems_by_folder(astray, "lies in a folder that contradicts its name", "Move it.", fatal)
    problems += problems_by_folder(empty, "is empty", _RESTORE, fatal=True)
    problems += problems_by_folder(folded, "is a folder where a file belongs", _RESTORE, fatal=True)
    problems += problems_by_folder(double, "exists twice, with different suffixes", "Delete one of them.", False)
    unusable = {path.name[: len(path.name) - len(tail)] for path in (*astray, *empty, *folded)}
    return found, problems, unusable - found.keys()


def _last_frame(folder: Path) -> int:
    """Return the highest frame number in a folder, or 0."""
    with os.scandir(folder) as scan:
        return max((int(match[1]) for entry in scan if (match := _FRAME.fullmatch(entry.name))), default=0)


def _inventory(
    names: Sequence[str],
    pictures: Mapping[str, Path],
    tables: Mapping[str, Path],
    ranges: Mapping[str, tuple[int, int]],
    problems: list[Problem],
    counts: dict[str, tuple[int, int | None]],
    expected: set[str],
) -> Inventory:
    """Return recordings with these names, notes for those without signals, and the `expected` names that are lost."""
    recordings = []
    for name in names:
        clip = parse_id(name)
        first, last = ranges.get(name, (-1, -1))
        facts: dict[str, str | int | float] = {
            "subject": clip.subject,
            "sex": clip.sex,
            "age": clip.age,
            "level": clip.level,
            "class": clip.class_name,
            "sample": clip.number,
            "first": first,
            "last": last,
        }
        table = {"table": tables[name]} if name in tables else {}
        recordings.append(Recording(name, facts, {"pictures": pictures[name], **table}))
    without = [pictures[name] for name in names if name not in tables]
    counts["videos without signals"] = len(without), 0
    if tables:
        problems = [*problems, *problems_by_folder(without, "has no usable signals", _RESTORE, False)]
    return Inventory(recordings, problems, counts, sorted(expected - set(names)))
