"""Text files of Aff-Wild2, and the frames that a folder of crops contains."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtpkdot.data.media.files import LineFault, damaged, read_lines, read_numbers
from mtpkdot.data.media.recordings import Span
from mtpkdot.errors import DataError

MEDIA = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp")
"""Suffixes of raw videos, in lower case."""
FRAME = re.compile(r"([0-9]{5,9})\.(?i:jpe?g)")
"""Names of crops; the group is the number of the frame, from 1."""

_LIST_HEADER = re.compile(r"(?i:images?|image_location|videos?|names?)")
_INVALID = -5.0
_RESTORE = "Take it from the data set again."
_OUT_OF_RANGE = LineFault(
    lambda numbers: _outside(numbers[:, :2].astype(np.float32)),
    lambda row: f"holds {', '.join(f'{value:g}' for value in row)}, not values in [-1, 1]",
    "Correct the row, or mark it as invalid with -5,-5.",
)


def read_annotation(path: Path) -> NDArray[np.float32]:
    """Read the annotations of a recording.

    Args:
        path: text file with the header `valence,arousal` and a row for each frame of the raw video.

    Returns:
        (n, 2) valence and arousal in [-1, 1]; both NaN where either is -5, the sign of an invalid frame.

    Raises:
        DataError: the file is damaged, or a value is out of range. The message has the number of such lines and names
            the first.
    """
    table = read_numbers(path, ",", ["valence", "arousal"], _OUT_OF_RANGE)
    if len(table.columns) != 2:
        what = f"{path}: line 1 has {len(table.columns)} columns where 'valence,arousal' belongs"
        raise DataError(what, "Correct the header.")
    values = table.to_numpy(dtype=np.float32)
    values[(values == _INVALID).any(axis=1)] = np.nan
    return values


def _outside(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the rows (n,) with a value out of range that are not marked as invalid."""
    return np.asarray((np.abs(values) > 1).any(axis=1) & ~(values == _INVALID).any(axis=1))


def read_test_list(path: Path) -> list[Span]:
    """Read the recordings, or their frames, that are to be predicted.

    Args:
        path: text file with a name (`video59_right`) or a frame (`video59_right/00001.jpg`) in each line. A header
            as in submissions, and further cells after a comma, are accepted.

    Returns:
        The spans in the order of the file: whole recordings, or frames, with consecutive frames merged.

    Raises:
        DataError: the file is empty, or names something twice, or a recording as a whole and by frames. The message has
            the number of such lines and names the first.
    """
    found: list[Span] = []
    by_frames: dict[str, bool] = {}
    seen: set[tuple[str, int]] = set()
    faults: list[tuple[int, str]] = []
    for number, line in enumerate(read_lines(path), start=1):
        cell = line.split(",")[0].strip().replace("\\", "/").rstrip("/")
        if not cell or (not found and _LIST_HEADER.fullmatch(cell)):
            continue
        *folders, last = cell.split("/")
        match = FRAME.fullmatch(last)
        name = folders[-1] if match and folders else without_suffix(last, MEDIA)
        position = int(match[1]) - 1 if match and folders else None
        key = (name, -1 if position is None else position)
        if by_frames.setdefault(name, position is not None) != (position is not None):
            faults.append((number, f"lists {name!r} both as a whole and by frames"))
        elif position is not None and position < 0:
            faults.append((number, f"lists {cell!r}, but frames count from 00001.jpg"))
        elif key in seen:
            faults.append((number, f"lists {cell!r} for the second time"))
        elif position is None:
            found.append(Span(name))
        elif found and found[-1].id == name and found[-1].last == position - 1:
            found[-1] = found[-1]._replace(last=position)
        else:
            found.append(Span(name, position, position))
        seen.add(key)
    if faults:
        raise damaged(path, faults, "Delete or correct such lines: each recording or frame is listed once.")
    if not found:
        raise DataError(f"{path}: lists nothing", _RESTORE)
    return found


def frame_numbers(folder: Path) -> NDArray[np.int64]:
    """Return the frames that have a crop.

    Args:
        folder: folder of `00001.jpg` and so on; other files are ignored, and frames without a face are absent.

    Returns:
        (n,) positions counted from 0 (`00001.jpg` is 0), ascending.

    Raises:
        DataError: the folder does not exist, or has a frame 00000.jpg.
    """
    try:
        with os.scandir(folder) as scan:
            numbers = [int(match[1]) for entry in scan if (match := FRAME.fullmatch(entry.name))]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror})", "Correct the path of the crops.") from error
    positions = np.unique(np.array(numbers, dtype=np.int64)) - 1
    if len(positions) and positions[0] < 0:
        raise DataError(f"{folder} holds a frame 0, but frames count from 00001.jpg", _RESTORE)
    return positions


def without_suffix(name: str, suffixes: Sequence[str]) -> str:
    """Return a file name without its suffix, if it is one of these (in lower case); names may contain dots."""
    suffix = next((suffix for suffix in suffixes if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]
