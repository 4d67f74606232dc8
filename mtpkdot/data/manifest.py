"""The manifest: one row per sample, with its id, subject, part and targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtpkdot.data.batch import BoolArray, StrArray
from mtpkdot.errors import DataError
from mtpkdot.losses.task import Task


@dataclass(frozen=True)
class Columns:
    """Names of the manifest's columns.

    Attributes:
        id: sample id, unique.
        subject: subject id; None if subjects are unknown.
        split: part or fold; None if a split is made.
        target: target columns, one for classification. An empty cell is a sample without a target.
    """

    id: str
    subject: str | None
    split: str | None
    target: list[str]


@dataclass(frozen=True)
class Manifest:
    """The columns read, row by row: see `mtpkdot.data.batch.Samples`."""

    ids: StrArray
    subjects: StrArray | None
    split: StrArray | None
    target: npt.NDArray[np.generic]
    labelled: BoolArray
    class_names: list[str]


def read_table(path: Path, text_columns: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV or Parquet table whose `text_columns` stay text (`007` is not 7); `DataError` where it cannot be read."""
    if not path.is_file():
        raise DataError(f"{path} does not exist", "Correct the path, or make it with `mtpkdot data import`.")
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            for column in text_columns:
                if column in table.columns:
                    table[column] = table[column].map(_as_text)
            return table
        return pd.read_csv(path, dtype=dict.fromkeys(text_columns, str))
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise DataError(
            f"{path} cannot be read as a table ({_first_line(error)})",
            "Repair the file: CSV with a header, or Parquet.",
        ) from error


def read_manifest(path: Path, columns: Columns, task: Task) -> Manifest:
    """Read and check a manifest.

    Args:
        path: CSV or Parquet file.
        columns: which columns mean what.
        task: classification turns the target's values into sorted class names.

    Returns:
        The columns as arrays in the file's row order.

    Raises:
        DataError: missing column, duplicate or empty id, target that is no number, half-filled targets.
    """
    names = [c for c in (columns.id, columns.subject, columns.split) if c is not None]
    table = read_table(path, names)
    for name in [*names, *columns.target]:
        if name not in table.columns:
            raise DataError(
                f"{path} has no column {name!r}, only {', '.join(map(str, table.columns))}",
                "Name the manifest's columns in data.init_args (id, subject, split_column, target).",
            )
    if not len(table):
        raise DataError(f"{path} has no rows", "Write one row per sample.")
    for name in names:
        empty = np.flatnonzero(table[name].isna())
        if len(empty):
            raise DataError(f"{path}, {_row(path, empty[0])}: the column {name!r} is empty", "Fill it.")
    duplicate = np.flatnonzero(table[columns.id].duplicated())
    if len(duplicate):
        raise DataError(
            f"{path}, {_row(path, duplicate[0])}: the id {table[columns.id].iloc[duplicate[0]]!r} occurs twice",
            "Keep one row per sample.",
        )
    target, labelled, class_names = (_classes if task == "classification" else _values)(path, table, columns)
    return Manifest(
        _text(table[columns.id]),
        None if columns.subject is None else _text(table[columns.subject]),
        None if columns.split is None else _text(table[columns.split]),
        target,
        labelled,
        class_names,
    )


def _classes(path: Path, table: pd.DataFrame, columns: Columns) -> tuple[npt.NDArray[Any], BoolArray, list[str]]:
    if len(columns.target) != 1:
        raise DataError(
            f"classification has one target, not {len(columns.target)}", "Set data.init_args.target to one."
        )
    values = table[columns.target[0]]
    labelled = values.notna().to_numpy(copy=True)
    distinct = values[labelled].unique().tolist()
    class_names = sorted(distinct) if all(isinstance(v, str) for v in distinct) else sorted(distinct, key=float)
    texts = [str(_as_text(name)) for name in class_names]
    if len(texts) < 2:
        raise DataError(
            f"{path}: the target {columns.target[0]!r} has {len(texts)} class(es)",
            "Give samples of two classes or more.",
        )
    number = {name: index for index, name in enumerate(class_names)}
    target = np.array([number[v] if known else -1 for v, known in zip(values, labelled, strict=True)], dtype=np.int64)
    return target, labelled, texts


def _values(path: Path, table: pd.DataFrame, columns: Columns) -> tuple[npt.NDArray[Any], BoolArray, list[str]]:
    if not columns.target:
        raise DataError("regression needs a target", "Set data.init_args.target to the target columns.")
    frame = table[columns.target]
    for name in columns.target:
        numbers = pd.to_numeric(frame[name], errors="coerce").astype(float)
        bad = np.flatnonzero((numbers.isna() & frame[name].notna()) | np.isinf(numbers))
        if len(bad):
            value = frame[name].iloc[bad[0]]
            raise DataError(
                f"{path}, {_row(path, bad[0])}: the target {name!r} is {value!r}, not a finite number",
                "Write a number, or leave the cell empty for a sample without target.",
            )
    target = frame.astype(float).to_numpy(dtype=np.float32)
    missing = np.isnan(target)
    half = np.flatnonzero(missing.any(axis=1) & ~missing.all(axis=1))
    if len(half):
        raise DataError(
            f"{path}, {_row(path, half[0])}: some targets are empty and some are not",
            "Fill all targets of a sample or none.",
        )
    return target, ~missing.any(axis=1), []


def _row(path: Path, index: int) -> str:
    """Where a user finds a row: the line of a text file, whose first line is the header."""
    return f"row {index + 1}" if path.suffix == ".parquet" else f"line {index + 2}"


def _as_text(value: object) -> str | None:
    """Integers that a table holds as floats (because some cells are empty) read as integers."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _text(column: "pd.Series[Any]") -> StrArray:
    return np.array([str(value) for value in column], dtype=np.str_)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
