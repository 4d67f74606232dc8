"""What the readers of layouts share: folders without litter, and text files of numbers with an error per line."""

import io
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mtpkdot.data.recordings import Problem
from mtpkdot.errors import DataError

# What macOS and Windows leave behind; every name that starts with a dot belongs to them as well.
_LITTER = frozenset({"__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", "$RECYCLE.BIN"})
_SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", " ": "spaces"}
_AGAIN = "Take the file from the data set again."


def is_litter(name: str) -> bool:
    """Whether a file or folder belongs to the operating system, not to the data set."""
    return name.startswith(".") or name in _LITTER


def entries(folder: Path) -> tuple[list[str], list[str]]:
    """What lies in a folder, litter left out.

    Returns:
        The names of its sub-folders and of its files, each sorted.

    Raises:
        DataError: no such folder, or one that may not be listed.
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
    """The first names in a folder, for an error about what was expected there."""
    folders, files = entries(folder)
    names = [f"{name}/" for name in folders] + files
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "nothing"


def problems_by_folder(paths: Sequence[Path], what: str, step: str, fatal: bool) -> list[Problem]:
    """One problem for each folder that holds such files, not one for each of thousands of files.

    Args:
        paths: the files in question.
        what: what is wrong with each.
        step: what to do.
        fatal: whether their recordings cannot be used.
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
    """The lines of a text file in UTF-8, with or without byte order mark, with any line ends.

    Raises:
        DataError: no such file, or no text.
    """
    try:
        # Only bytes are split at line ends alone; text also at form feeds and the like, which would shift the numbers.
        return [line.decode() for line in _read_bytes(path).splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8", _AGAIN) from error


def read_numbers(path: Path, separator: str, first_columns: Sequence[str]) -> pd.DataFrame:
    """Read a text file of finite numbers below a header.

    Args:
        path: the file; CRLF, a byte order mark and trailing blank lines are accepted.
        separator: between the cells of a line.
        first_columns: the names that the header must start with, in lower case.

    Returns:
        (n, columns) float64, n >= 1, with column names in lower case and without spaces around them. Row i stands in
        line i + 2 of the file.

    Raises:
        DataError: the file is missing, empty, without that header, separated otherwise, or a line of it is damaged.
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
                quoting=3,  # csv.QUOTE_NONE: a stray quote must not swallow the lines below it
            )
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:
        _point_at_damage(path, data, separator, names)
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as numbers ({reason})", _AGAIN) from error
    if table.empty:
        raise DataError(f"{path}: holds a header and no rows", _AGAIN)
    if not np.isfinite(table.to_numpy()).all():
        _point_at_damage(path, data, separator, names)
        raise DataError(f"{path}: holds values that are not finite", _AGAIN)
    return table


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
        raise DataError(f"{path}: is no text in UTF-8", _AGAIN) from error
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


def _point_at_damage(path: Path, data: bytes, separator: str, names: Sequence[str]) -> None:
    """Raise a DataError for the first line that is not as many finite numbers as the header has columns."""
    for number, raw in enumerate(data.splitlines()[1:], start=2):
        where = f"{path}: line {number}"
        line = raw.decode(errors="replace")
        cells = line.split(separator)
        if not line.strip():
            raise DataError(f"{where} is empty", _AGAIN)
        if len(cells) != len(names):
            raise DataError(f"{where} has {len(cells)} cells where the header has {len(names)}", _AGAIN)
        for name, cell in zip(names, cells, strict=True):
            if not cell.strip():
                raise DataError(f"{where} has an empty cell in the column {name!r}", _AGAIN)
            if _numeric([cell]):
                if not np.isfinite(float(cell)):
                    raise DataError(f"{where} holds {cell.strip()!r} in the column {name!r}", _AGAIN)
            elif _numeric([cell.replace(",", ".", 1)]):
                what = f"{where} holds {cell.strip()!r} in the column {name!r}: a decimal comma"
                raise DataError(what, "Write it with decimal points, as the data set comes.")
            else:
                raise DataError(
                    f"{where} holds {cell.strip()[:40]!r} in the column {name!r}, which is no number", _AGAIN
                )
