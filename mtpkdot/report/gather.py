"""Gathers the cells of a study: their predictions into one file, and what is said of them into tallies."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtpkdot.losses.task import Task
from mtpkdot.pipeline.study import UPSTREAM, Cell, Study
from mtpkdot.report.tallies import Tally, tally

BASE, TEACHER = "base", "teacher"
_JUDGED = ("validation", "test")


@dataclass
class Gathered:
    """What a study has found.

    Attributes:
        task: the task.
        targets: class names or target names.
        prevalent: the student's modality.
        tallies: per (setting, method, fold, seed, split).
        upstream: per (setting, variant) the suffix of its upstream models' names.
        test_to_train: per setting, mean size of the test part over that of the training part.
        missing: places of cells that are not finished.
    """

    task: Task
    targets: list[str]
    prevalent: str
    tallies: dict[tuple[str, str, int, int, str], Tally] = field(default_factory=dict)
    upstream: dict[str, str] = field(default_factory=dict)
    test_to_train: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def methods(self, setting: str) -> list[str]:
        """Everything that predicts in a setting, in order of appearance."""
        return list(dict.fromkeys(key[1] for key in self.tallies if key[0] == setting))

    def cells(self, setting: str, method: str) -> list[tuple[int, int]]:
        """(fold, seed) of a method's test results."""
        return [key[2:4] for key in self.tallies if key[:2] == (setting, method) and key[4] == "test"]


def gather(study: Study, write: bool = True) -> Gathered | None:
    """Read all finished cells; None if there is none.

    Args:
        study: the study.
        write: put all predictions into `predictions.parquet`: setting, method, stage, fold, seed, split, id, subject,
            target, truth, prediction, p_<class>.
    """
    found: Gathered | None = None
    sizes: dict[str, list[float]] = {}
    missing = []
    path, writer = study.folder / "predictions.parquet", None
    for cell in study.cells():
        folder = study.folder / cell.place
        if not _finished(folder):
            missing.append(cell.place)
            continue
        record = json.loads((folder / "run.json").read_text())
        if found is None:
            found = Gathered(record["task"], record["targets"], record["prevalent"])
        if cell.first:
            samples = record["samples"]
            sizes.setdefault(cell.setting, []).append(samples["test"] / samples["train"])
        else:
            found.upstream[cell.variant] = cell.upstream.removeprefix(UPSTREAM).replace("-", "@", 1)
        for method, stage, table in _tables(cell, folder):
            for split in _JUDGED:
                part = table[table["split"] == split]
                key = (cell.setting, method, cell.fold, cell.seed, split)
                found.tallies[key] = tally(part, found.task, found.targets)
            if write:
                writer = _append(writer, path, cell, method, stage, table)
    if writer is not None:
        writer.close()
        path.with_suffix(".partial").replace(path)
    if found is not None:
        found.test_to_train = {setting: sum(values) / len(values) for setting, values in sizes.items()}
        found.missing = missing
    return found


def _finished(folder: Path) -> bool:
    path = folder / "cell.json"
    return path.is_file() and json.loads(path.read_text()).get("finished") is True


def _tables(cell: Cell, folder: Path) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Method, stage and predictions of every model of a cell."""
    suffix = cell.upstream.removeprefix(UPSTREAM).replace("-", "@", 1)
    for stage, table in pd.read_parquet(folder / "predictions.parquet").groupby("stage", sort=False):
        yield (cell.variant if stage == "student" else f"{stage}{suffix}"), str(stage), table


def _append(writer: Any, path: Path, cell: Cell, method: str, stage: str, table: pd.DataFrame) -> Any:
    columns: dict[str, Any] = {
        "setting": cell.setting,
        "method": method,
        "stage": stage,
        "fold": cell.fold,
        "seed": cell.seed,
    }
    whole = table.drop(columns="stage").assign(**columns)
    whole = whole[[*columns, *(name for name in whole.columns if name not in columns)]]
    rows = pa.Table.from_pandas(whole, preserve_index=False)
    if writer is None:
        writer = pq.ParquetWriter(path.with_suffix(".partial"), rows.schema)
    writer.write_table(rows.cast(writer.schema))
    return writer
