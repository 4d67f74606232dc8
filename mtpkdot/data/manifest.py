"""The manifest: one row per sample, with its id, subject, part and targets."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtpkdot.data.batch import BoolArray, StrArray
from mtpkdot.data.tables import place, plain_text, read_table
from mtpkdot.errors import DataConfigError, DataError
from mtpkdot.losses.task import Task


@dataclass(frozen=True)
class Columns:
    """Names of the manifest's columns.

    Attributes:
        id: sample id, unique.
        subject: subject id; None if subjects are unknown.
        split: part or fold; None if a split is made.
        target: target columns, one for classes. An empty cell is a sample without a target.
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


def read_manifest(path: Path, columns: Columns, task: Task) -> Manifest:
    """Read and check a manifest.

    Args:
        path: CSV or Parquet file.
        columns: which columns mean what.
        task: classification turns the target's values into class names, sorted as numbers if all of them are; ordinal
            classes must be numbers, for their order is that of the levels.

    Returns:
        The columns as arrays in the file's row order.

    Raises:
        DataError: missing column, duplicate or empty id, target that is no number, half-filled targets.
    """
    table = read_table(path)
    names = [c for c in (columns.id, columns.subject, columns.split) if c is not None]
    for name in [*names, *columns.target]:
        if name not in table.columns:
            raise DataConfigError(
                f"{path} has no column {name!r}, only {', '.join(map(str, table.columns))}",
                "Name the manifest's columns in data.init_args (id, subject, split_column, target).",
            )
        if columns.target.count(name) > 1:
            raise DataConfigError(f"the target {name!r} is named twice", "Name each target column once.")
    if not len(table):
        raise DataError(f"{path} has no rows", "Write one row per sample.")
    for name in names:
        empty = np.flatnonzero(table[name].isna())
        if len(empty):
            raise DataError(f"{path}, {place(path, table.index[empty[0]])}: the column {name!r} is empty", "Fill it.")
    duplicate = np.flatnonzero(table[columns.id].duplicated())
    if len(duplicate):
        where = place(path, table.index[duplicate[0]])
        raise DataError(
            f"{path}, {where}: the id {table[columns.id].iloc[duplicate[0]]!r} occurs twice",
            "Keep one row per sample.",
        )
    read = _values(path, table, columns) if task == "regression" else _classes(path, table, columns, task)
    target, labelled, class_names = read
    return Manifest(
        _array(table[columns.id]),
        None if columns.subject is None else _array(table[columns.subject]),
        None if columns.split is None else _array(table[columns.split]),
        target,
        labelled,
        class_names,
    )


def _classes(
    path: Path, table: pd.DataFrame, columns: Columns, task: Task
) -> tuple[npt.NDArray[Any], BoolArray, list[str]]:
    if len(columns.target) != 1:
        raise DataConfigError(f"{task} has one target, not {len(columns.target)}", "Set data.init_args.target to one.")
    column = table[columns.target[0]]
    labelled = column.notna().to_numpy(copy=True)
    known = column[labelled]
    distinct = known.unique().tolist()
    # 3 and 3.0 are one class: pandas writes the one or the other, depending on empty cells.
    number = {label: _number(label) for label in distinct}
    numeric = all(value is not None for value in number.values())
    if numeric:
        for label, value in number.items():
            if value is None or not math.isfinite(value):
                where = place(path, known.index[np.flatnonzero(known == label)[0]])
                raise DataError(f"{path}, {where}: the class {label!r} is no finite number", "Correct the label.")
    elif task == "ordinal":
        label = next(label for label, value in number.items() if value is None)
        where = place(path, known.index[np.flatnonzero(known == label)[0]])
        raise DataError(
            f"{path}, {where}: the ordinal class {label!r} is no number, so its place in the order is not known",
            "Number the classes in their order, or set data.init_args.task to classification.",
        )
    canonical = {label: str(plain_text(number[label])) if numeric else label for label in distinct}
    class_names = sorted(set(canonical.values()), key=float if numeric else None)
    if len(class_names) < 2:
        raise DataError(
            f"{path}: the target {columns.target[0]!r} has {len(class_names)} class(es)",
            "Give samples of two classes or more.",
        )
    position = {name: index for index, name in enumerate(class_names)}
    target = np.full(len(table), -1, dtype=np.int64)
    target[labelled] = [position[canonical[label]] for label in known]
    return target, labelled, class_names


def _values(path: Path, table: pd.DataFrame, columns: Columns) -> tuple[npt.NDArray[Any], BoolArray, list[str]]:
    if not columns.target:
        raise DataConfigError("regression needs a target", "Set data.init_args.target to the target columns.")
    target = np.empty((len(table), len(columns.target)), dtype=np.float32)
    for position, name in enumerate(columns.target):
        numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
        with np.errstate(over="ignore"):
            target[:, position] = numbers
        bad = np.flatnonzero(table[name].notna().to_numpy() & ~np.isfinite(target[:, position]))
        if len(bad):
            where = f"{path}, {place(path, table.index[bad[0]])}"
            raise DataError(
                f"{where}: the target {name!r} is {table[name].iloc[bad[0]]!r}, not a finite number",
                "Write a number, or leave the cell empty for a sample without target.",
            )
    missing = np.isnan(target)
    half = np.flatnonzero(missing.any(axis=1) & ~missing.all(axis=1))
    if len(half):
        raise DataError(
            f"{path}, {place(path, table.index[half[0]])}: some targets are empty and some are not",
            "Fill all targets of a sample or none.",
        )
    return target, np.asarray(~missing.any(axis=1)), []


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _array(column: "pd.Series[Any]") -> StrArray:
    return np.array([str(value) for value in column], dtype=np.str_)
