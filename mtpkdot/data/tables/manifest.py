"""Manifest: one row per sample, with its id, subject, part and targets."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtpkdot.data.batch import BoolArray, StrArray
from mtpkdot.data.ids import alike, as_ids, composed, difference
from mtpkdot.data.tables.reading import is_missing, place, plain_text, read_table
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
    """Columns of a manifest, row by row, see `mtpkdot.data.batch.Samples`.

    Attributes:
        columns: names of all columns of the table.
        without: number of cells of the target with each word of `missing_labels`.
    """

    ids: StrArray
    subjects: StrArray | None
    split: StrArray | None
    target: npt.NDArray[np.generic]
    labelled: BoolArray
    class_names: list[str]
    columns: list[str]
    without: dict[str, int] = field(default_factory=dict)


def read_manifest(
    path: Path, columns: Columns, task: Task, missing_labels: Sequence[str | int | float] = ()
) -> Manifest:
    """Read and check a manifest.

    Args:
        path: CSV or Parquet file.
        columns: names of the columns.
        task: classification turns the target's values into class names, sorted as numbers if all of them are; ordinal
            classes must be numbers, for their order is that of the levels.
        missing_labels: values of the target, beside empty cells, that stand for no label: `NA`, -9.

    Returns:
        The columns as arrays in the file's row order, names in Unicode NFC.

    Raises:
        DataError: a column is missing, an id is duplicate or empty, a target is no number, a word for a missing value
            stands among numbers, or only some targets of a row are filled.
    """
    table = read_table(path)
    names = [c for c in (columns.id, columns.subject, columns.split) if c is not None]
    for name in [*names, *columns.target]:
        if name not in table.columns:
            pair = alike([name], map(str, table.columns))
            hint = f"; its {pair[1]!r} is another name: {pair[2]}" if pair else ""
            raise DataConfigError(
                f"{path} has no column {name!r}, only {', '.join(map(str, table.columns))}{hint}",
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
    ids = as_ids(table[columns.id])
    _check_unique(path, table[columns.id], ids)
    without: Counter[str] = Counter()
    words = [str(word).strip() for word in missing_labels]
    for name in columns.target:
        table[name] = _labels(table[name], words, without)
        _check_words(path, name, table[name], words)
    read = _values(path, table, columns) if task == "regression" else _classes(path, table, columns, task)
    target, labelled, class_names = read
    return Manifest(
        ids,
        None if columns.subject is None else as_ids(table[columns.subject]),
        split=None if columns.split is None else as_ids(table[columns.split]),
        target=target,
        labelled=labelled,
        class_names=class_names,
        columns=[str(name) for name in table.columns],
        without={word: without[word] for word in words},
    )


def missing_words(labels: "pd.Series[Any]") -> dict[str, int]:
    """Return the words for a missing value among labels that are numbers, or true and false, with their counts.

    Spaces around a word are no part of it.

    Args:
        labels: (n,) text; None where the cell is empty.

    Example:
        >>> missing_words(pd.Series(["0", "1", "NA", None, "NA"]))
        {'NA': 2}
    """
    counts = Counter(label.strip() for label in labels.dropna())
    words = {label: count for label, count in counts.items() if is_missing(label)}
    others = counts.keys() - words.keys()
    plain = bool(others) and all(_number(label) is not None or label.lower() in ("true", "false") for label in others)
    return words if plain else {}


def _labels(column: "pd.Series[Any]", missing: Sequence[str], without: "Counter[str]") -> "pd.Series[Any]":
    """Return the labels of a column, None for missing ones, which are counted by their word."""
    numbers = {number: word for word in missing if (number := _number(word)) is not None}
    known: dict[str, str | None] = {}
    for cell in column.dropna().unique().tolist():
        text = composed(cell)
        number = _number(text)
        word = text.strip() if text.strip() in missing else None if number is None else numbers.get(number)
        known[cell] = None if word is not None or not text.strip() else text
        if word is not None:
            without[word] += int((column == cell).sum())
    # Not `map`, which may turn None into NaN.
    return pd.Series([None if cell is None else known[cell] for cell in column], index=column.index, dtype=object)


def _check_words(path: Path, name: str, labels: "pd.Series[Any]", named: list[str]) -> None:
    """Raise an error for `NA` and the like among numbers: it would be a class of its own, or is no number."""
    words = missing_words(labels)
    if not words:
        return
    first = next(index for index, label in labels.items() if label is not None and label.strip() in words)
    listed = ", ".join(f"{word!r} in {count} rows" for word, count in words.items())
    wanted = json.dumps([*named, *words], ensure_ascii=False)
    raise DataError(
        f"{path}: the target {name!r} is {listed} (first in {place(path, first)}) and a number elsewhere",
        f"Set data.init_args.missing_labels to {wanted} if these rows have no label, or empty the cells.",
    )


def _check_unique(path: Path, written: "pd.Series[Any]", ids: StrArray) -> None:
    names = pd.Series(ids)
    twice = np.flatnonzero(names.duplicated())
    if not len(twice):
        return
    row = int(twice[0])
    first = int(np.flatnonzero(ids == ids[row])[0])
    how = difference(str(written.iloc[first]), str(written.iloc[row]))
    raise DataError(
        f"{path}, {place(path, written.index[row])}: the id {str(ids[row])!r} occurs twice"
        + (f" (the other one is in {place(path, written.index[first])}; {how})" if how else ""),
        "Keep one row per sample.",
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
    # 3 and 3.0 are one class: pandas writes either, depending on empty cells.
    number = {label: _number(label) for label in distinct}
    numeric = all(value is not None for value in number.values())
    if numeric:
        for label, value in number.items():
            if value is None or not math.isfinite(value):
                where = place(path, known.index[np.flatnonzero(known == label)[0]])
                raise DataError(f"{path}, {where}: the class {label!r} is not a finite number", "Correct the label.")
    elif task == "ordinal":
        label = next(label for label, value in number.items() if value is None)
        where = place(path, known.index[np.flatnonzero(known == label)[0]])
        raise DataError(
            f"{path}, {where}: the ordinal class {label!r} is not a number, so its place in the order is unknown",
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
            more = f" ({len(bad)} such rows)" if len(bad) > 1 else ""
            raise DataError(
                f"{where}: the target {name!r} is {table[name].iloc[bad[0]]!r}, not a finite number{more}",
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
