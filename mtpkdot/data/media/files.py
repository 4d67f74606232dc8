"""Helpers for readers of layouts: folders without litter, and text files of numbers with an error per line."""

import io
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtpkdot.data.media.recordings import Problem
from mtpkdot.errors import DataError

# Files that macOS and Windows leave behind; every name that starts with a dot counts as well.
_LITTER = frozenset({"__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", "$RECYCLE.BIN"})
_SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", " ": "spaces"}
_AGAIN = "Take the file from the data set again."
_MOST_LINES = 3  # Damaged lines in an error.


@dataclass(frozen=True)
class LineFault:
    """Additional fault of lines of numbers.

    Attributes:
        damaged: function of numbers (n, columns) that returns the damaged lines (n,) as bool.
        what: function of the numbers (columns,) of a damaged line that returns a description of the fault.
        step: advice for the user.
    """

    damaged: Callable[[NDArray[np.float64]], NDArray[np.bool_]]
    what: Callable[[NDArray[np.float64]], str]
    step: str


def is_litter(name: str) -> bool:
    """Return whether a file or folder belongs to the operating system, not to the data set."""
    return name.startswith(".") or name in _LITTER


def entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the contents of a folder without litter.

    Returns:
        The names of its sub-folders and of its files, each sorted.

    Raises:
        DataError: the folder does not exist or may not be listed.
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                if is_litter(entry.name):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file():
                    files.append(entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror})", "Correct the path of the data set.") from error
    return sorted(folders), sorted(files)


def describe(folder: Path, most: int = 6) -> str:
    """Return the first names in a folder, for an error about its expected contents."""
    folders, files = entries(folder)
    names = [f"{name}/" for name in folders] + files
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "nothing"


def problems_by_folder(paths: Sequence[Path], what: str, step: str, fatal: bool) -> list[Problem]:
    """Return one problem for each folder with such files, instead of one for each of thousands of files.

    Args:
        paths: the files in question.
        what: fault of each file.
        step: advice for the user.
        fatal: True if their recordings cannot be used.
    """
    groups: dict[Path, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.parent, []).append(path)
    found = []
    for folder, members in groups.items():
        if len(members) == 1:
            found.append(Problem(members[0], what, step, fatal))
        else:
            found.append(Problem(folder, f"{what} ({len(members)} times, first {members[0].name})", step, fatal))
    return found


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file in UTF-8, with or without byte order mark, with any line ends.

    Raises:
        DataError: the file is missing or not text.
    """
    try:
        # Bytes are split at line ends alone; text also at form feeds and the like, which would shift the line numbers.
        return [line.decode() for line in _read_bytes(path).splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8", _AGAIN) from error


def read_numbers(
    path: Path, separator: str, first_columns: Sequence[str], other: LineFault | None = None
) -> pd.DataFrame:
    """Read a text file of finite numbers below a header.

    Args:
        path: the file; CRLF, a byte order mark and trailing blank lines are accepted.
        separator: separator between the cells of a line.
        first_columns: names that the header must start with, in lower case.
        other: additional fault of a line.

    Returns:
        (n, columns) float64, n >= 1, with column names in lower case and without spaces around them. Row i stands in
        line i + 2 of the file.

    Raises:
        DataError: the file is missing, empty, without that header, separated otherwise, or has damaged lines. The
            message has their number and names the first.
    """
    data = _read_bytes(path).rstrip(b" \r\n")
    names = _header(path, data, separator, first_columns)
    try:
        with warnings.catch_warnings():
            # A row with more cells than the header would lose them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                io.BytesIO(data),
                sep=separator,
                names=names,
                header=0,
                index_col=False,
                dtype=np.float64,
                encoding="utf-8-sig",
                skip_blank_lines=False,
                quoting=3,  # csv.QUOTE_NONE: a stray quote must not swallow the following lines.
            )
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:
        _point_at_damage(path, data, separator=separator, names=names, other=other)
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as numbers ({reason})", _AGAIN) from error
    if table.empty:
        raise DataError(f"{path}: holds a header and no rows", _AGAIN)
    numbers = table.to_numpy()
    if not np.isfinite(numbers).all() or (other is not None and other.damaged(numbers).any()):
        _point_at_damage(path, data, separator=separator, names=names, other=other)
        raise DataError(f"{path}: holds values that are not finite", _AGAIN)
    return table


def damaged(path: Path, faults: Sequence[tuple[int, str]], step: str) -> DataError:
    """Return the error of a text file with damaged lines: their number, and the faults of the first three.

    Args:
        path: the file.
        faults: number of each line, and its fault as the continuation of `line 7`.
        step: advice for the user.
    """
    listed = "; ".join(f"line {number}{'' if what[:1] == ':' else ' '}{what}" for number, what in faults[:_MOST_LINES])
    if len(faults) == 1:
        return DataError(f"{path}: {listed}", step)
    more = f"; and {len(faults) - _MOST_LINES} more" if len(faults) > _MOST_LINES else ""
    return DataError(f"{path}: {len(faults)} lines are damaged: {listed}{more}", step)


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})", "Correct the path or its permissions.") from error
    if not data.strip():
        raise DataError(f"{path}: is empty", _AGAIN)
    if b"\0" in data:
        raise DataError(f"{path}: holds zero bytes, as after a broken copy or in UTF-16", _AGAIN)
    return data.removeprefix(b"\xef\xbb\xbf")


def _header(path: Path, data: bytes, separator: str, first_columns: Sequence[str]) -> list[str]:
    try:
        # Not data.splitlines(): it would split the whole file for its first line.
        text = re.split(rb"\r|\n", data, maxsplit=1)[0].decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8", _AGAIN) from error
    wanted = separator.join(first_columns)
    names = [name.strip().lower() for name in text.split(separator)]
    if _numeric(text.replace(",", " ").replace(";", " ").split()):
        raise DataError(f"{path}: line 1 holds numbers where the header {wanted!r} belongs", "Add the header.")
    if names[: len(first_columns)] == list(first_columns):
        if len(set(names)) < len(names) or "" in names:
            raise DataError(f"{path}: line 1 names a column twice or not at all: {text!r}", "Correct the header.")
        return names
    for other, called in _SEPARATORS.items():
        if other != separator and other in text.strip() and separator not in text:
            what = f"{path}: is separated by {called}, not by {_SEPARATORS[separator]}"
            raise DataError(what, f"Write it with {_SEPARATORS[separator]}, as the data set comes.")
    raise DataError(f"{path}: line 1 is {text[:80]!r} where the header {wanted!r} belongs", "Correct the header.")


def _numeric(cells: Sequence[str]) -> bool:
    try:
        return bool(cells) and all(float(cell) is not None for cell in cells)
    except ValueError:
        return False


def _point_at_damage(path: Path, data: bytes, separator: str, names: Sequence[str], other: LineFault | None) -> None:
    """Raise a DataError if a line is not as many finite numbers as the header has columns, or has another fault."""
    faults: list[tuple[int, str]] = []
    steps: dict[str, None] = {}
    for number, raw in enumerate(data.splitlines()[1:], start=2):
        what, step = _fault(raw.decode(errors="replace"), separator, names, other)
        if what:
            faults.append((number, what))
            steps[step] = None
    if faults:
        raise damaged(path, faults, " ".join(steps))


def _fault(line: str, separator: str, names: Sequence[str], other: LineFault | None) -> tuple[str, str]:
    """Return the fault of a line and the advice; empty if there is none."""
    cells = line.split(separator)
    if not line.strip():
        return "is empty", _AGAIN
    if len(cells) != len(names):
        return f"has {len(cells)} cells where the header has {len(names)}", _AGAIN
    for name, cell in zip(names, cells, strict=True):
        held = f"holds {cell.strip()[:40]!r} in the column {name!r}"
        if not cell.strip():
            return f"has an empty cell in the column {name!r}", _AGAIN
        if _numeric([cell.replace(",", ".", 1)]) and not _numeric([cell]):
            return f"{held}: a decimal comma", "Write it with decimal points, as the data set comes."
        if not _numeric([cell]):
            return f"{held}, which is not a number", _AGAIN
        if not np.isfinite(float(cell)):
            return held, _AGAIN
    row = np.array([[float(cell) for cell in cells]])
    if other is not None and other.damaged(row).any():
        return other.what(row[0]), other.step
    return "", ""
