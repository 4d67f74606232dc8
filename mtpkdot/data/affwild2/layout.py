"""Layout of Aff-Wild2, valence-arousal track (Kollias and Zafeiriou): finds recordings and reads their text files.

`VA_Estimation_Challenge/{Train_Set,Validation_Set}/<name>.txt`, `cropped_aligned/<name>/00001.jpg`, a list of test
videos, and raw videos in `batch1/`, `batch2/`, each unpacked anywhere below one root. For a
video with two people, the raw file is called `<name>` and the other files `<name>_left` or `<name>_right`.
"""

import itertools
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mtpkdot.data.affwild2.text import (
    FRAME,
    MEDIA,
    frame_numbers,
    read_annotation,
    read_test_list,
    without_suffix,
)
from mtpkdot.data.media.files import describe, entries, is_litter, problems_by_folder
from mtpkdot.data.media.recordings import Inventory, Problem, Recording, Span
from mtpkdot.errors import DataConfigError, DataError

__all__ = ["TEST_LIST", "find", "frame_numbers", "read_annotation", "read_test_list"]

TEST_LIST = "Valence_Arousal_Estimation_Challenge_test_set_release.txt"

_ANNOTATIONS = "VA_Estimation_Challenge"
_CROPS = "cropped_aligned"
_SETS = {"train": "Train_Set", "validation": "Validation_Set"}
# Quoted from memory of the challenge's papers: a difference is no error.
_EXPECTED = {"train": 356, "validation": 76}
_RELEASED = (".mp4", ".avi")  # Suffixes of raw videos.
_SIDES = ("_left", "_right")
_DEPTH = 4
_FINE = "Ignore this if it is intended."
_RESTORE = "Take it from the data set again."


@dataclass
class _Places:
    """Places of files, each in the order of the search."""

    annotations: list[Path] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)
    crops: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)


def find(
    root: Path, annotations: Path | None = None, crops: Path | None = None, videos: Path | None = None
) -> Inventory:
    """Return the recordings below a folder; annotations are read, and no media decoded.

    Args:
        root: folder that is searched four levels deep for everything that is not given.
        annotations: the folder that holds `Train_Set` or `Validation_Set`, or a folder around it.
        crops: the folder that holds a folder of crops for each name.
        videos: the folder of the raw videos, or a folder around them.

    Returns:
        Recordings with the facts `set` (train, validation or test) and `video` (name of the raw video, which two people
        may share, present or not). The file `pictures` is a folder of crops; a recording without it is a problem and
        cannot be used. `sound` is the raw video; its absence is a note. `table` holds the annotations (not for test).
        Recordings with unreadable annotations, or in two sets, are problems and left out. `asked` is the test list.

    Raises:
        DataError: annotations are missing, or exist in several places.
    """
    places = _survey(root, annotations, crops, videos)
    problems: list[Problem] = []
    tables = _tables(_annotation_folder(annotations or root, places), problems)
    asked = _asked(root, places.lists, problems)
    sets, twice = _sets(tables, asked, problems)
    crop_folders = _crop_folders(places.crops, problems)
    empty = [path for path in places.videos if path.stat().st_size == 0]
    # Of two copies of one name, the released one comes first.
    whole = sorted((path for path in places.videos if path not in set(empty)), key=_is_other)
    raw = _first(whole, MEDIA, problems)
    # An empty video still shows which recordings it belongs to.
    known = raw.keys() | {without_suffix(path.name, MEDIA) for path in empty}
    frames, valid, unreadable = _count_frames(tables, sets, problems)
    recordings = []
    for name, group in sets.items():
        if name in unreadable:
            continue
        video, pictures = _video_of(name, known), crop_folders.get(name)
        facts: dict[str, str | int | float] = {"set": group, "video": video}
        usable = pictures is not None and _holds_frames(pictures)
        table = tables[group][name] if group in tables else None
        files = {"pictures": pictures if usable else None, "sound": raw.get(video), "table": table}
        recordings.append(Recording(name, facts, {role: path for role, path in files.items() if path}, usable))
    problems += _missing_media(root, places, recordings)
    names = [*sets, *twice]
    used = {_video_of(name, known) for name in names}
    for path in empty:
        problems.append(Problem(path, "is empty", _RESTORE, fatal=without_suffix(path.name, MEDIA) in used))
    problems += _unexpected(raw, used, [path for name, path in crop_folders.items() if name not in names])
    sizes = Counter(str(recording.facts["set"]) for recording in recordings)
    counts = {f"{group} videos": (sizes[group], _EXPECTED.get(group)) for group in (*_SETS, "test")}
    for group in (group for group in _SETS if sizes[group] and not valid[group]):
        folder = next(iter(tables[group].values())).parent
        problems.append(Problem(folder, "has no valid label: every row of it is -5", _RESTORE))
    counts |= {"annotated frames": (frames, None), "valid ones": (valid.total(), None)}
    counts["recordings with a raw video"] = sum("sound" in one.files for one in recordings), len(recordings)
    return Inventory(recordings, problems, counts=counts, lost=sorted([*twice, *unreadable]), asked=asked)


def _sets(
    tables: dict[str, dict[str, Path]], asked: list[Span], problems: list[Problem]
) -> tuple[dict[str, str], list[str]]:
    """Return the set of every recording, by name, and the names that are in several sets, which are problems."""
    members = [(name, group) for group, files in tables.items() for name in files]
    members += [(name, "test") for name in dict.fromkeys(span.id for span in asked)]
    times = Counter(name for name, _ in members)
    twice = [name for name, number in times.items() if number > 1]
    for name in sorted(twice):
        groups = " and ".join(group for other, group in members if other == name)
        path = next(files[name] for files in tables.values() if name in files)
        problems.append(Problem(path, f"{name!r} is in {groups}", "Keep it in one set."))
    return {name: group for name, group in sorted(members) if times[name] == 1}, twice


def _count_frames(
    tables: dict[str, dict[str, Path]], sets: dict[str, str], problems: list[Problem]
) -> tuple[int, Counter[str], list[str]]:
    """Return the annotated frames, the valid ones of each set, and the recordings with unreadable annotations."""
    frames, valid, unreadable = 0, Counter[str](), []
    for name, group in sets.items():
        if group not in tables:
            continue
        try:
            values = read_annotation(tables[group][name])
        except DataError as error:
            problems.append(Problem.of(error, tables[group][name]))
            unreadable.append(name)
            continue
        frames += len(values)
        valid[group] += int(np.isfinite(values).all(axis=1).sum())
    return frames, valid, unreadable


def _unexpected(raw: dict[str, Path], used: set[str], spare: list[Path]) -> list[Problem]:
    """Return notes on raw videos of another format than the released one, and on unused crops and videos."""
    other = sorted(path for name, path in raw.items() if name in used and _is_other(path))
    what = f"is not {' or '.join(_RELEASED)}, the formats of the data set; another copy may have other frames"
    spare = [*spare, *(path for name, path in raw.items() if name not in used)]
    unlisted = "has neither annotations nor a place on the test list"
    return [
        *problems_by_folder(other, what, _FINE, fatal=False),
        *problems_by_folder(spare, unlisted, _FINE, fatal=False),
    ]


def _survey(root: Path, annotations: Path | None, crops: Path | None, videos: Path | None) -> _Places:
    """Search the root for everything that is not given, and the given folders for the rest."""
    found = _search(root)
    if annotations is not None:
        given = _search(annotations)
        found.annotations = given.annotations
        beside = annotations.parent / TEST_LIST
        found.lists = given.lists + ([beside] if beside.is_file() else []) + found.lists
    if crops is not None:
        inner = crops / _CROPS
        entries(crops)  # raises the error for a missing folder
        found.crops = [inner if inner.is_dir() else crops]
    if videos is not None:
        found.videos = _search(videos).videos
    return found


def _search(root: Path) -> _Places:
    found = _Places()
    for folder, folders, files in _walk(root):
        found.videos += [folder / name for name in files if name.lower().endswith(MEDIA)]
        found.lists += [folder / name for name in files if name == TEST_LIST]
        # The other tracks of the challenge have sets as well.
        if any(name in folders for name in _SETS.values()) and (folder == root or folder.name == _ANNOTATIONS):
            found.annotations.append(folder)
        if folder.name == _CROPS:
            found.crops.append(folder)
    return found


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield folders with their sub-folders and files, the nearest first; annotations and frames are not entered."""
    level = [root]
    for _ in range(_DEPTH + 1):
        below = []
        for folder in level:
            if folder.name == _CROPS and (folder / _CROPS).is_dir():
                folders = [_CROPS]  # Unpacked into a folder of its own name.
            elif folder.name == _CROPS:
                folders = []
                yield folder, [], []
            elif _holds_frames(folder, look_at=1):
                continue
            else:
                folders, files = entries(folder)
                yield folder, folders, files
            below += [folder / name for name in folders if name not in _SETS.values()]
        level = below


def _holds_frames(folder: Path, look_at: int | None = None) -> bool:
    """Return whether one of the first files of a folder (it may have 100,000) is a frame; None searches all files."""
    try:
        with os.scandir(folder) as scan:
            names = (entry.name for entry in scan if not is_litter(entry.name))
            return any(FRAME.fullmatch(name) for name in itertools.islice(names, look_at))
    except OSError:
        return False


def _annotation_folder(start: Path, places: _Places) -> Path:
    if not places.annotations:
        what = f"{start} holds no folder {_ANNOTATIONS}/ with {' or '.join(_SETS.values())}, but {describe(start)}"
        raise DataConfigError(what, "Name it with `annotations`.")
    if len(places.annotations) > 1:
        names = " and ".join(str(path) for path in places.annotations)
        raise DataConfigError(f"{start} holds annotations more than once: {names}", "Choose one with `annotations`.")
    return places.annotations[0]


def _tables(folder: Path, problems: list[Problem]) -> dict[str, dict[str, Path]]:
    """Return the annotations by set and name."""
    tables: dict[str, dict[str, Path]] = {}
    for group, name in _SETS.items():
        if not (folder / name).is_dir():
            problems.append(Problem(folder / name, "does not exist", "Unpack it there."))
            tables[group] = {}
            continue
        folders, files = ([one for one in them if one.lower().endswith(".txt")] for them in entries(folder / name))
        wrong = [folder / name / file for file in folders]
        problems += problems_by_folder(wrong, "is a folder where a file belongs", _RESTORE, fatal=True)
        tables[group] = {file[: -len(".txt")]: folder / name / file for file in files}
    return tables


def _asked(root: Path, lists: Sequence[Path], problems: list[Problem]) -> list[Span]:
    """Return the test list."""
    if not lists:
        problems.append(
            Problem(root, f"holds no test list {TEST_LIST}", "Ignore this if there is no test.", fatal=False)
        )
        return []
    for other in lists[1:]:
        if other.read_bytes() != lists[0].read_bytes():
            what = f"is another test list than {lists[0]}, which is used"
            problems.append(Problem(other, what, "Delete the wrong one.", fatal=False))
    try:
        return read_test_list(lists[0])
    except DataError as error:
        problems.append(Problem.of(error, lists[0]))
        return []


def _crop_folders(places: Sequence[Path], problems: list[Problem]) -> dict[str, Path]:
    """Return the folder of crops of each name."""
    return _first([folder / name for folder in places for name in entries(folder)[0]], ("",), problems)


def _first(paths: Sequence[Path], suffixes: Sequence[str], problems: list[Problem]) -> dict[str, Path]:
    """Return paths by name without suffix; a second path of a name is noted."""
    found: dict[str, Path] = {}
    for path in paths:
        kept = found.setdefault(without_suffix(path.name, suffixes), path)
        if kept is not path:
            problems.append(Problem(path, f"is there twice; {kept} is used", "Delete one of them.", fatal=False))
    return found


def _is_other(video: Path) -> bool:
    return video.suffix.lower() not in _RELEASED


def _video_of(name: str, raw: Collection[str]) -> str:
    """Return the raw video that a recording is part of: its name without the side, unless a raw video has that name.

    The same holds without raw videos: both people of one video must stay together in every split.
    """
    if name in raw:
        return name
    return next((name.removesuffix(side) for side in _SIDES if name.endswith(side)), name)


def _missing_media(root: Path, places: _Places, recordings: Sequence[Recording]) -> list[Problem]:
    if places.crops:
        step = "Take the crops from the data set again."
        what = "does not exist or holds no frames with names like 00001.jpg"
        problems = [Problem(places.crops[0] / one.id, what, step) for one in recordings if not one.usable]
    else:
        problems = [Problem(root, f"holds no folder {_CROPS}/", "Unpack the crops there, or name them with `crops`.")]
    if places.videos:
        what, step = "has no raw video, so it has no sound", "Unpack the raw videos."
        problems += [
            Problem(
                one.files.get("table") or one.files.get("pictures") or root, f"{one.id!r} {what}", step, fatal=False
            )
            for one in recordings
            if "sound" not in one.files
        ]
    else:
        problems.append(Problem(root, "holds no raw videos, so there is no sound", "Unpack them there.", fatal=False))
    return problems
