"""CSV and Parquet tables, read without guessing: text stays as it is written, only an empty cell is missing."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtpkdot.data.importers import advice
from mtpkdot.errors import DataConfigError, DataError
from mtpkdot.limits import check_bytes

# What counts as a missing number; ids and labels may well be called NA.
_MISSING_NUMBERS = ["", "nan", "NaN", "NA", "N/A", "null", "None"]


def read_table(path: Path, text_columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table.

    Args:
        path: `.parquet`, or anything else as CSV with a header.
        text_columns: columns that are text (`007` is not 7); None for all. The others are numbers where they can be.

    Returns:
        The table. Text is `str`, or None where the cell is empty. The index counts the rows of the file from 0, blank
        lines included; see `place`.

    Raises:
        DataError: no such file, or no table.
    """
    if not path.is_file():
        raise DataConfigError(f"{path} does not exist", advice(path))
    try:
        with warnings.catch_warnings():
            # A row with more cells than the header would lose them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return _read_parquet(path, text_columns) if path.suffix == ".parquet" else _read_csv(path, text_columns)
    except (ValueError, OSError, OverflowError, NotImplementedError, pd.errors.ParserWarning) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} cannot be read as a table ({message})",
            "Repair the file: CSV in UTF-8 with a header and commas, or Parquet.",
        ) from error


def check_parquet(path: Path) -> None:
    """Stop at a Parquet file that declares more cells than the limit has room for.

    Raises:
        DataError: 8 bytes each, they would not fit.
        ValueError, OSError: it is no Parquet file.
    """
    import pyarrow.parquet as pq

    declared = pq.read_metadata(path)
    check_bytes(8 * declared.num_rows * declared.num_columns, path)


def place(path: Path, index: Any) -> str:
    """Where a user finds a row: the line of a text file, whose first line is the header."""
    return f"row {index + 1}" if path.suffix == ".parquet" else f"line {index + 2}"


def plain_text(value: object) -> str | None:
    """A cell as text: integers that a table holds as floats read as integers, and empty cells are None.

    Raises:
        ValueError: a list, or bytes that are no text.
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
    # Blank lines are read, so that the index tells the line, and dropped afterwards.
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
    table = pd.read_parquet(path).reset_index(drop=True)
    for name in table.columns if text_columns is None else text_columns:
        if name in table.columns:
            try:
                table[name] = pd.Series([plain_text(value) for value in table[name]], dtype=object)
            except ValueError as error:
                raise ValueError(f"the column {name!r}: {error}") from error
    return table
