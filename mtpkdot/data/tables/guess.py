"""Guess of the data section for own features, from the files of a folder; every guess is commented."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtpkdot.data.splits import PARTS, Split, part_named
from mtpkdot.data.tables.data import FeatureData
from mtpkdot.data.tables.feature_files import SUFFIXES
from mtpkdot.data.tables.manifest import missing_words
from mtpkdot.data.tables.reading import column_names, kind, read_table
from mtpkdot.data.tables.roles import IDS, SPLITS, SUBJECTS, TARGETS, plain
from mtpkdot.errors import ConfigError, nearest
from mtpkdot.losses.task import Task

_PREVALENT = ("video", "face", "faces", "facial", "visual", "frames", "camera", "webcam")
_TABLES = (".csv", ".parquet")
_SCHEMES = {
    "column": "train, validation and test are named in the manifest",
    "fold_column": "the manifest numbers the folds; this one is tested",
    "kfold": "people are divided into folds, of which one is tested",
}
_MOST_CLASSES = 20  # Most classes among numbers; more are values.
_MOST_NAMES = 12  # Names in a line.


@dataclass(frozen=True)
class Wishes:
    """Choices of the user; the rest is guessed.

    Attributes:
        manifest: file of the manifest.
        features: files by modality.
        prevalent: modality of the student.
        id: column of the sample id.
        subject: column of the subject.
        split: column of the part or fold.
        target: target columns.
        task: type of the target.
    """

    manifest: Path | None = None
    features: Mapping[str, Path] = field(default_factory=dict)
    prevalent: str | None = None
    id: str | None = None
    subject: str | None = None
    split: str | None = None
    target: Sequence[str] = ()
    task: Task | None = None


@dataclass(frozen=True)
class Guess:
    """Guessed arguments of FeatureData.

    Attributes:
        arguments: key, value and a comment on it.
        modalities: names of the modalities.
        samples: number of samples in the manifest.
        labelled: number of labelled training samples.
        batch_size: samples per batch.
        notes: further remarks.
    """

    arguments: list[tuple[str, object, str]]
    modalities: list[str]
    samples: int
    labelled: int
    batch_size: int
    notes: list[str]


def guess(place: Path, wishes: Wishes) -> Guess:
    """Return the data section for a folder of feature files, or a manifest and the files beside it.

    Args:
        place: the folder or manifest.
        wishes: choices of the user.

    Raises:
        UserError: no usable file exists, or the files can be interpreted in several ways; the message names the option.
    """
    if not place.exists():
        raise ConfigError(f"{place} does not exist", "Name a folder of feature files, or a manifest.")
    folder = place if place.is_dir() else place.parent
    path = wishes.manifest or (place if place.is_file() else _manifest(folder))
    table = read_table(path)
    if not len(table):
        raise ConfigError(f"{path} has no rows", "Write one row per sample.")
    if len(table.columns) == 1:  # of a manifest with semicolons, too
        raise ConfigError(f"{path} has one column, {table.columns[0]!r}", "Write several, with commas between them.")
    notes: list[str] = []
    id_column = _id(path, table, wishes.id)
    features = _wished(wishes.features) or _features(folder, path, id_column, notes)
    if len(features) < 2:
        found = f"one feature file, {next(iter(features.values()))}" if features else "no feature file"
        raise ConfigError(
            f"{folder} has {found} beside {path.name}, and the method learns from two modalities or more",
            "Put a file of features per modality there, or name them with --features NAME=FILE NAME=FILE.",
        )
    subject = _column(path, table, wishes.subject, SUBJECTS)
    parts = _column(path, table, wishes.split, SPLITS)
    target = _target(path, table, wishes.target, {id_column, subject, parts})
    words = sorted({word for name in target for word in missing_words(table[name])})
    table[target] = table[target].map(lambda label: None if str(label).strip() in words else label)
    task, labels = _task(path, table, target, wishes.task)
    known = table[table[target].notna().all(axis=1)]
    people = known[subject or id_column].nunique()
    split, scheme = _split(path, table, column=parts, people=people, notes=notes)
    if subject is None:
        notes.append("No column names people: a person may be in several parts.")
    person = subject or (id_column if scheme["scheme"] == "kfold" else None)  # folds of people, else of rows
    without = "" if len(known) == len(table) else f"; {len(table) - len(known)} rows have none"
    arguments: list[tuple[str, object, str]] = [
        ("manifest", str(path), f"{len(table)} rows"),
        ("features", {name: str(file) for name, file in features.items()}, "a file per modality, joined on the id"),
        ("prevalent", _prevalent(list(features), wishes.prevalent), "all that the student will see"),
        ("target", target if len(target) > 1 else target[0], labels + without),
        *([("missing_labels", words, "taken as no label, beside empty cells")] if words else []),
        ("task", task, "values" if task == "regression" else "or ordinal, if the order of the classes counts"),
        ("id", id_column, "column of the sample id, here and in tables of features"),
        ("subject", person, f"{table[subject].nunique()} people" if subject else "no column names people"),
        ("split", scheme, _SCHEMES[str(scheme["scheme"])]),
        *([("split_column", split, "of the manifest")] if split not in (None, "split") else []),
        ("batch_size", 64, "rows per batch; the similarity structure is that of a batch"),
    ]
    data = _read({key: value for key, value, _ in arguments})
    arguments += _lacking(data)
    labelled = len(data.positions("train", labelled_only=True))
    return Guess(arguments, [*features], samples=len(table), labelled=labelled, batch_size=data.batch_size, notes=notes)


def _read(arguments: dict[str, Any]) -> FeatureData:
    """Return the data set with all files read: an error of the data is one of the guess as well."""
    data = FeatureData(**{**arguments, "split": Split(**arguments["split"])}, missing="mask", nan="zero")
    data.check()
    return data


def _lacking(data: FeatureData) -> list[tuple[str, object, str]]:
    """Return the arguments for what the files lack."""
    absent = {name: int((~mask.any(axis=1)).sum()) for name, mask in data.samples.masks.items()}
    odd = [name for name, values in data.samples.features.items() if np.isnan(np.asarray(values)).any()]
    lacking = ", ".join(f"{count} rows lack {name}" for name, count in absent.items() if count)
    return [
        *([("missing", "mask", lacking)] if lacking else []),
        *([("nan", "zero", f"{' and '.join(odd)}: NaN and infinite values become the training mean")] if odd else []),
    ]


def _manifest(folder: Path) -> Path:
    """Return the table of a folder that has ids and targets; feature files have numbers alone."""
    tables = [path for path in sorted(folder.iterdir()) if kind(path) in _TABLES and path.is_file()]
    if not tables:
        raise ConfigError(
            f"{folder} holds no table (.csv, .parquet)",
            "Write a manifest: a row per sample with the columns id, subject and target.",
        )
    named = [path for path in tables if path.stem == "manifest"] or [path for path in tables if "manifest" in path.stem]
    known = {*SUBJECTS, *SPLITS, *TARGETS}
    likely = named or [path for path in tables if known & {plain(name) for name in column_names(path)}]
    if len(likely) != 1 and len(tables) > 1:
        names = ", ".join(path.name for path in likely or tables)
        raise ConfigError(f"{folder}: the manifest is not clear, among {names}", "Name it with --manifest FILE.")
    return likely[0] if likely else tables[0]


def _id(path: Path, table: pd.DataFrame, wished: str | None) -> str:
    found = _column(path, table, wished, IDS)
    unique = [str(name) for name in table.columns if table[name].notna().all() and table[name].is_unique]
    if wished is None and found not in unique and (len(unique) == 1 or plain(found) != "id"):
        found = unique[0] if len(unique) == 1 else None
    if found is None:
        raise ConfigError(
            f"{path}: the column of the sample id is not clear, among {_some(table.columns)}",
            "Name it with --id COLUMN; every row has an id of its own.",
        )
    return found


def _column(path: Path, table: pd.DataFrame, wished: str | None, known: Sequence[str]) -> str | None:
    """Return the column that the user names, or the first with a usual name."""
    columns = [str(name) for name in table.columns]
    if wished is not None:
        if wished not in columns:
            meant = nearest(wished, columns)
            raise ConfigError(f"{path} has no column {wished!r}", f"{meant}Choose from {_some(columns)}.")
        return wished
    found = sorted((known.index(plain(name)), name) for name in columns if plain(name) in known)
    return found[0][1] if found else None


def _wished(features: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files that the user names, each of which exists."""
    for file in features.values():
        if not file.is_file():
            raise ConfigError(f"the feature file {file} does not exist", "Correct --features.")
    return dict(features)


def _features(folder: Path, manifest: Path, id_column: str, notes: list[str]) -> dict[str, Path]:
    """Return the feature files of a folder by modality."""
    features: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if kind(path) not in SUFFIXES or not path.is_file() or path.samefile(manifest):
            continue
        if "manifest" in path.stem:
            notes.append(f"{path.name} is left out: it is another manifest, to be named with --manifest.")
            continue
        if kind(path) in _TABLES and id_column not in column_names(path):
            notes.append(f"{path.name} is left out: it has no column {id_column} to join on.")
            continue
        name = _modality(path.stem)
        if name in features:
            raise ConfigError(
                f"{features[name]} and {path} would both be the modality {name}",
                "Name the files with --features NAME=FILE NAME=FILE.",
            )
        features[name] = path
    return features


def _modality(stem: str) -> str:
    """Return a key of the config from the name of a file: `face_features` becomes face."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", stem) if word]
    kept = [word for word in words if word.lower() not in ("features", "feature", "feats")] or words
    name = "_".join(kept) or "modality"
    return f"features_{name}" if name[0].isdigit() or name in ("joint", "index") else name


def _prevalent(modalities: list[str], wished: str | None) -> str:
    if wished is not None and wished not in modalities:
        raise ConfigError(
            f"there is no modality {wished!r}",
            f"{nearest(wished, modalities)}Choose --prevalent from {_some(modalities)}.",
        )
    likely = [wished] if wished else [name for name in modalities if {*_words(name)} & {*_PREVALENT}]
    if len(likely) != 1:
        raise ConfigError(
            f"the modality that the student sees is not clear, among {_some(modalities)}",
            "Name it with --prevalent NAME. A modality is one file, with a row per sample.",
        )
    return likely[0]


def _split(
    path: Path, table: pd.DataFrame, column: str | None, people: int, notes: list[str]
) -> tuple[str | None, dict[str, object]]:
    """Return the column of the parts that is used, and the split section."""
    values = sorted({str(value) for value in table[column].dropna()}) if column else []
    whole = column is not None and bool(table[column].notna().all())
    if whole and {part_named(value) for value in values} == set(PARTS):
        return column, {"scheme": "column"}
    if whole and len(values) > 2 and all(value.isdecimal() for value in values):
        return column, {"scheme": "fold_column", "fold": int(min(values, key=int))}
    if column is not None:
        shown = ", ".join(values[:5])
        notes.append(f"The column {column} ({shown}) does not name train, validation and test: folds are made instead.")
    if people < 3:
        raise ConfigError(
            f"{path} has a target of {people or 'no'} {'person' if people == 1 else 'people'}, "
            "and the training, validation and test part need one each",
            "Name the column of the people with --subject, or that of the parts with --split.",
        )
    return None, {"scheme": "kfold", "folds": min(5, people)}


def _target(path: Path, table: pd.DataFrame, wished: Sequence[str], taken: set[str | None]) -> list[str]:
    if wished:
        return [str(_column(path, table, name, ())) for name in wished]
    left = [str(name) for name in table.columns if name not in taken]
    possible = [name for name in left if 1 < table[name].nunique() < len(table) or _numbers(table[name]) is not None]
    usual = [name for name in possible if plain(name) in TARGETS]
    values = [name for name in usual if plain(name) in TARGETS[:3]]
    found = possible if len(possible) == 1 else values if values == usual else usual
    if len(found) == 1 or (found and found == values):
        return found
    raise ConfigError(
        f"{path}: the target column is not clear, among {_some(left) or 'none'}",
        "Name it with --target COLUMN, or several for regression with --target COLUMN COLUMN.",
    )


def _task(path: Path, table: pd.DataFrame, target: list[str], wished: Task | None) -> tuple[Task, str]:
    """Return the task, and a description of the target."""
    columns = [_numbers(table[name]) for name in target]
    if len(target) > 1:
        if wished not in (None, "regression") or None in [None if c is None else 0 for c in columns]:
            raise ConfigError(
                f"{path}: several targets need numbers, and {', '.join(target)} are not all numbers",
                "Name one --target.",
            )
        return "regression", "numbers"
    known, numbers = table[target[0]].dropna(), columns[0]
    count = known.nunique()
    whole = numbers is not None and bool((numbers % 1 == 0).all())
    if wished == "regression" or (wished is None and numbers is not None and not (whole and count <= _MOST_CLASSES)):
        return "regression", "numbers"
    if count < 2 or (numbers is None and count > max(2, len(known) // 2)):
        raise ConfigError(
            f"{path}: the column {target[0]!r} has {count} different values in {len(known)} rows, too many for classes",
            "Name another one with --target COLUMN.",
        )
    return wished or "classification", f"{count} classes"


def _numbers(column: "pd.Series[str]") -> "pd.Series[float] | None":
    """Return the filled cells as numbers; None if one is not a number."""
    numbers = pd.to_numeric(column.dropna(), errors="coerce")
    return numbers if len(numbers) and not numbers.isna().any() else None


def _some(names: Iterable[object]) -> str:
    """Return a few names for one line."""
    listed = [str(name) for name in names]
    return ", ".join(listed if len(listed) <= _MOST_NAMES else [*listed[:_MOST_NAMES], f"... ({len(listed)} in all)"])


def _words(name: str) -> Iterable[str]:
    return re.split(r"[^a-z0-9]+", name.lower())
