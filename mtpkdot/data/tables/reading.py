"""CSV and Parquet tables, read without guessing: text is kept unchanged, and only an empty cell is missing."""

import math
import re
import warnings
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtpkdot.data.batch import BoolArray
from mtpkdot.data.tables.published import advice
from mtpkdot.errors import DataConfigError, DataError
from mtpkdot.limits import check_bytes

# Words of R, pandas, SAS, Weka and databases for a missing value, of C (OpenFace) for one that is no number, and of
# Excel for an error. Ids and labels may well be called so.
_MISSING = re.compile(
    r"|n\.?/?a\.?|<na>|null|nil|none|missing|[-\u2010-\u2015\u2212]+|\.|\?|\\n|[+-]?nan(\(\w*\))?"
    r"|[+-]?1\.#(ind|[qs]?nan)\w*|#n/?[adv]( n/a)?|#[^\s!?]+[!?]",
    re.IGNORECASE,
)
_INFINITE = re.compile(r"([+-]?)(inf|infinity|1\.#inf\w*|\u221e)", re.IGNORECASE)
UNNAMED_INDEX = re.compile(r"__index_level_\d+__")  # pandas' index in Parquet; other readers see a column
_MISSING_NUMBERS = ["", "nan", "NaN", "NA", "N/A", "null", "None"]  # Of these, pandas makes NaN immediately.


def read_table(path: Path, text_columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table.

    Args:
        path: path of a `.parquet`, or of any other file as CSV with a header.
        text_columns: text columns (`007` is not 7); None for all. The others are numbers where possible.

    Returns:
        The table. Text is `str`, or None where the cell is empty. The index counts the rows of the file from 0, blank
        lines included; see `place`. Of the index that pandas stores in a Parquet file, the levels named in
        `text_columns` (None: all that have a name) are columns; the others are left out.

    Raises:
        DataError: no such file, or no table.
    """
    if not path.is_file():
        raise DataConfigError(f"{path} does not exist", advice(path))
    try:
        with warnings.catch_warnings():
            # A row with more cells than the header would lose them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return _read_parquet(path, text_columns) if kind(path) == ".parquet" else _read_csv(path, text_columns)
    except (ValueError, OSError, OverflowError, NotImplementedError, pd.errors.ParserWarning) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} cannot be read as a table ({message})",
            "Repair the file: CSV in UTF-8 with a header and commas, none behind the last cell of a line, or Parquet.",
        ) from error


def kind(path: Path) -> str:
    """Return the suffix that decides the kind of a file, in lower case: `.CSV` is `.csv`."""
    return path.suffix.lower()


def column_names(path: Path) -> list[str]:
    """Return the names of a table's columns, including those in the index of a Parquet file.

    Raises:
        DataError: no such file, or no table.
    """
    try:
        if kind(path) == ".csv":
            return [str(name) for name in pd.read_csv(path, nrows=0, index_col=False).columns]
        import pyarrow.parquet as pq

        return [name for name in pq.read_schema(path).names if not UNNAMED_INDEX.fullmatch(name)]
    except (ValueError, OSError):  # reported in one line when the file is read completely
        return [str(name) for name in read_table(path, []).columns]


def is_missing(cell: str) -> bool:
    """Return whether a cell holds one of the words that programs write for a missing value, or only spaces."""
    return _MISSING.fullmatch(cell.strip()) is not None


def as_numbers(column: "pd.Series[Any]") -> tuple["pd.Series[float]", BoolArray]:
    """Return the cells of a column as numbers.

    Args:
        column: (n,) cells of any kind.

    Returns:
        (n,) numbers, NaN for empty cells and words for a missing value, infinite for words for infinity; and (n,) bool,
        True for all other cells.
    """
    if column.dtype.kind in "fiub":
        return column, np.zeros(len(column), dtype=np.bool_)
    cells = column.astype(object)
    scalar = cells.map(lambda cell: isinstance(cell, str | int | float | Decimal | np.number | np.bool_))
    numbers = pd.to_numeric(cells.where(scalar, None), errors="coerce").astype(np.float64)
    wrong = (_filled(cells) & numbers.isna()).to_numpy(copy=True)
    for row in np.flatnonzero(wrong).tolist():
        cell = cells.iloc[row]
        infinite = _INFINITE.fullmatch(cell.strip()) if isinstance(cell, str) else None
        if infinite:
            numbers.iloc[row] = -np.inf if infinite[1] == "-" else np.inf
        wrong[row] = not (infinite or (isinstance(cell, str) and is_missing(cell)))
    return numbers, wrong


def _filled(cells: "pd.Series[Any]") -> "pd.Series[bool]":
    return cells.map(lambda cell: not pd.api.types.is_scalar(cell) or not pd.isna(cell)).astype(bool)


def check_parquet(path: Path) -> None:
    """Raise an error if a Parquet file declares more cells than the limit allows.

    Raises:
        DataError: at 8 bytes each, the cells exceed the limit.
        ValueError, OSError: the file is no Parquet file.
    """
    import pyarrow.parquet as pq

    declared = pq.read_metadata(path)
    check_bytes(8 * declared.num_rows * declared.num_columns, path)


def place(path: Path, index: Any) -> str:
    """Return the place of a row for the user: the line of a text file, whose first line is the header."""
    return f"row {index + 1}" if kind(path) == ".parquet" else f"line {index + 2}"


def plain_text(value: object) -> str | None:
    """Return a cell as text: integers that a table holds as floats read as integers, and empty cells are None.

    Raises:
        ValueError: the cell is a list, or bytes that are no text.
    """
    if isinstance(value, list | tuple | dict | set | np.ndarray):
        raise ValueError("a cell holds several values")
    if isinstance(value, bytes):
        value = value.decode()
    missing: Any = pd.isna(value)  # type: ignore[call-overload] # any scalar
    if missing or value == "":
        return None
    if isinstance(value, float | np.floating) and math.isfinite(value) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _read_csv(path: Path, text_columns: Sequence[str] | None) -> pd.DataFrame:
    # Blank lines are read, so that the index gives the line, and dropped afterwards.
    common: dict[str, Any] = {"keep_default_na": False, "skip_blank_lines": False, "index_col": False}
    if text_columns is None:
        table = pd.read_csv(path, dtype=object, na_values=[""], **common)
        table = table.dropna(how="all")
        filled: pd.DataFrame = table.where(table.notna(), None)
        return filled
    header = pd.read_csv(path, nrows=0, index_col=False).columns
    missing = {name: [""] if name in text_columns else _MISSING_NUMBERS for name in header}
    text = {name: object for name in header if name in text_columns}
    read: pd.DataFrame = pd.read_csv(path, dtype=text, na_values=missing, low_memory=False, **common)
    return read.dropna(how="all")


def _read_parquet(path: Path, text_columns: Sequence[str] | None) -> pd.DataFrame:
    check_parquet(path)
    try:
        table = pd.read_parquet(path)
    except (LookupError, TypeError, AttributeError) as error:  # in pyarrow, which trusts pandas' metadata
        raise ValueError(f"its notes of pandas are damaged: {type(error).__name__} {error}") from error
    levels = {
        name: table.index.get_level_values(number)
        for number, name in enumerate(table.index.names)
        if name is not None and name not in table.columns and (text_columns is None or name in text_columns)
    }
    table = table.reset_index(drop=True)
    table = pd.concat([pd.DataFrame(levels), table], axis=1) if levels else table
    for name in table.columns if text_columns is None else text_columns:
        if name in table.columns:
            try:
                table[name] = pd.Series([plain_text(value) for value in table[name]], dtype=object)
            except ValueError as error:
                raise ValueError(f"the column {name!r}: {error}") from error
    return table
