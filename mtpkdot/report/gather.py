"""Gathering of predictions: into tallies, and the cells of a study into one file."""

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtpkdot.errors import RunError
from mtpkdot.losses.task import Task
from mtpkdot.modules.teaching import METHODS
from mtpkdot.pipeline.evaluation import SPLITS
from mtpkdot.pipeline.records import REPORTED, read_record
from mtpkdot.pipeline.results import check_predictions, read_predictions
from mtpkdot.pipeline.stages import STUDENT, UPSTREAM
from mtpkdot.pipeline.study import FAILED, Study
from mtpkdot.report.tallies import Array, Tally, centre_of, tally

Key = tuple[str, str, int, int]  # setting, method, fold, seed


@dataclass(frozen=True)
class Entry:
    """Folder with the results of a cell or run, which may still be missing.

    Attributes:
        setting: name of the setting of the data.
        variant: name of its student; empty for upstream models alone.
        group: name of its upstream models; empty for the only or the first ones.
        fold: number of the fold.
        seed: `seed_everything`.
        draw: number of the draw that the seed is a start of, see `mtpkdot.pipeline.study`.
        folder: folder of run.json and predictions.parquet.
        root: folder of runs, with the trained stages.
        finished: True if the results exist.
    """

    setting: str
    variant: str
    group: str
    fold: int
    seed: int
    draw: int
    folder: Path
    root: Path
    finished: bool

    @property
    def place(self) -> str:
        """Folder of the entry below that of the runs."""
        return str(self.folder.relative_to(self.root))


@dataclass(frozen=True)
class Model:
    """Trained model with predictions.

    Attributes:
        stage: its name in predictions.parquet, e.g. `adapted.<modality>`.
        entry: entry of its predictions.
        record: run.json of the entry.
        upstream: hash of each stage of the same run, and of the runs that share its upstream models.
    """

    stage: str
    entry: Entry
    record: dict[str, Any]
    upstream: dict[str, str]


@dataclass
class Gathered:
    """Results of all runs.

    Attributes:
        task: the task.
        targets: class names or target names.
        prevalent: the student's modality.
        centre: (K,) values about which the moments of all tallies are taken; None for classes.
        tallies: tallies of each (setting, method, fold, seed), by part.
        models: models by the same keys.
        upstream: names of the upstream models of each (setting, variant), by stage.
        alone: (setting, variant) of the students that are trained without teachers.
        bounds: (setting, variant) of the students that see hidden labels.
        fuller: (setting, variant) of the students that are trained on the validation part as well.
        to_train: mean size of a part over that of the training part, by setting and part.
        missing: places of entries without results.
    """

    task: Task
    targets: list[str]
    prevalent: str
    centre: Array | None = None
    tallies: dict[Key, dict[str, Tally]] = field(default_factory=dict)
    models: dict[Key, Model] = field(default_factory=dict)
    upstream: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    alone: set[tuple[str, str]] = field(default_factory=set)
    bounds: set[tuple[str, str]] = field(default_factory=set)
    fuller: set[tuple[str, str]] = field(default_factory=set)
    to_train: dict[tuple[str, str], float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def settings(self) -> list[str]:
        """Settings with results, in order of appearance."""
        return list(dict.fromkeys(key[0] for key in self.tallies))

    @property
    def repetitions(self) -> tuple[int, int, int]:
        """Numbers of folds, of draws, and of starts of each draw; the largest one if draws differ in it."""
        folds = {key[2] for key in self.models}
        of_draws: dict[int, set[int]] = {}
        for model in self.models.values():
            of_draws.setdefault(model.entry.draw, set()).add(model.entry.seed)
        return len(folds), len(of_draws), max(map(len, of_draws.values()))

    def add_student(self, place: tuple[str, str], record: Mapping[str, Any]) -> None:
        """Add a student (setting, variant) to `alone`, `bounds` or `fuller` by its run.json, if it belongs there."""
        keys = record["stages"].get(STUDENT, {"keys": {}})["keys"]
        method = keys.get(f"{STUDENT}.model.method")
        if keys.get("data.init_args.validation_labels") == "train":
            self.fuller.add(place)
        elif method == "none":
            self.alone.add(place)
        if method in METHODS and METHODS[method].is_bound:
            self.bounds.add(place)


def of_study(study: Study) -> list[Entry]:
    """Return the cells of a study; a cell counts as finished only with its present arguments and basis."""
    return [
        Entry(
            cell.setting,
            "" if cell.first else cell.variant,
            group=cell.upstream.removeprefix(UPSTREAM).removeprefix("-"),
            fold=cell.fold,
            seed=cell.seed,
            draw=cell.draw,
            folder=study.folder / cell.place,
            root=Path(study.root),
            finished=study.is_finished(cell),
        )
        for cell in study.cells()
    ]


def reason_of(entry: Entry) -> str:
    """Return why an entry has no results, in one line; that of a diverged run begins with `diverged`."""
    path = entry.folder / FAILED
    account = path.read_text().strip().splitlines() if path.is_file() else []
    waited_for = "-".join([UPSTREAM, *([entry.group] if entry.group else [])])
    if not account and (entry.folder.parents[1] / waited_for / entry.folder.name / FAILED).is_file():
        return "its upstream stages failed"
    return account[-1] if account else "not run to its end"


def gather(entries: Iterable[Entry], into: Path | None = None) -> Gathered | None:
    """Read all finished entries; return None if there is none.

    Args:
        entries: the entries.
        into: file to write all predictions to: setting, method, stage, fold, seed, split, id, subject, target, truth,
            prediction, p_<class>; with several starts of a draw also its number as `draw`, after the seed.

    Raises:
        RunError: tasks or targets of the entries differ, or a file is damaged or lacks the predictions of a part.
    """
    entries = list(entries)
    if into is None:
        return _gather(entries, None)
    with _Whole(into, draws=any(entry.draw != entry.seed for entry in entries)) as file:
        return _gather(entries, file)


def _gather(entries: Iterable[Entry], into: "_Whole | None") -> Gathered | None:
    found: Gathered | None = None
    names: dict[tuple[str, int, int, str, str], str] = {}  # Names of upstream models, by their identity.
    groups: dict[tuple[str, str], dict[str, str]] = {}
    of_groups: dict[tuple[str, str], str] = {}
    of_cells: dict[Key, dict[str, str]] = {}
    sizes: dict[tuple[str, str], list[float]] = {}
    missing = []
    for entry in entries:
        if not entry.finished:
            missing.append(entry.place)
            continue
        record = read_record(entry.folder / "run.json", REPORTED, "Remove that folder, and run it again.")
        if found is None:
            found = Gathered(record["task"], record["targets"], record["prevalent"])
        if (found.task, found.targets, found.prevalent) != tuple(record[k] for k in ("task", "targets", "prevalent")):
            raise RunError(
                f"{entry.folder} predicts {record['task']} of {', '.join(record['targets'])} from "
                f"{record['prevalent']}, others {found.task} of {', '.join(found.targets)} from {found.prevalent}",
                "Compare them in studies of their own.",
            )
        suffix = f"@{entry.group}" if entry.group else ""
        of_entry = groups.setdefault((entry.setting, entry.group), {})
        shared = of_cells.setdefault((entry.setting, entry.group, entry.fold, entry.seed), {})
        shared |= {stage: job["hash"] for stage, job in record["stages"].items() if is_shared(stage, job)}
        hashes = shared | {stage: job["hash"] for stage, job in record["stages"].items()}
        for stage, job in record["stages"].items():
            if is_shared(stage, job):
                # A trained model has one name, whichever groups it belongs to.
                key = (entry.setting, entry.fold, entry.seed, stage, job["hash"])
                of_entry[stage] = names.setdefault(key, f"{stage}{suffix}")
        samples = record["samples"]
        for split in SPLITS:
            sizes.setdefault((entry.setting, split), []).append(samples[split] / samples["train"])
        if entry.variant:
            of_groups[entry.setting, entry.variant] = entry.group
            found.add_student((entry.setting, entry.variant), record)
        predicted = read_predictions(entry.folder)
        check_predictions(predicted, found.task, found.targets, entry.folder)
        for stage, table in predicted.groupby("stage", sort=False):
            method = entry.variant if stage == STUDENT else _name(str(stage), of_entry, entry.variant)
            at = (entry.setting, method, entry.fold, entry.seed)
            if at in found.tallies:
                continue
            parts = _parts(table, entry.folder)
            if found.task == "regression" and found.centre is None:
                found.centre = centre_of(table, found.targets)
            found.tallies[at] = {
                split: tally(part, found.task, found.targets, found.centre) for split, part in parts.items()
            }
            found.models[at] = Model(str(stage), entry, record, hashes)
            if into is not None:
                into.append(at, entry.draw, str(stage), table)
    if found is not None:
        found.upstream = {key: groups[key[0], group] for key, group in of_groups.items()}
        found.to_train = {key: sum(values) / len(values) for key, values in sizes.items()}
        found.missing = missing
    return found


def _parts(table: pd.DataFrame, folder: Path) -> dict[str, pd.DataFrame]:
    """Return the predictions of every part.

    Raises:
        RunError: there are none of one of them.
    """
    of_rows = table["split"].to_numpy()
    parts: dict[str, pd.DataFrame] = {}
    for split in SPLITS:
        parts[split] = table.iloc[np.flatnonzero(of_rows == split)]
    if empty := [split for split, part in parts.items() if part.empty]:
        raise RunError(
            f"{folder} has no predictions of the {empty[0]} part", "Call `mtpkdot validate` or `test` on it."
        )
    return parts


def is_shared(stage: str, job: Mapping[str, Any]) -> bool:
    """Return whether the students of a study share a stage, by the record of a run; earlier versions did not record it.

    Args:
        stage: name of the stage.
        job: record of the stage in run.json.
    """
    return bool(job.get("shared", stage != STUDENT))


def _name(stage: str, names: dict[str, str], variant: str) -> str:
    """Return the name of a model: that of its stage, with the head in between (`adapted.<modality>`).

    The name of a model that is not shared is preceded by that of its student.
    """
    kind = stage if stage in names else stage.partition(".")[0]
    if kind not in names:
        return f"{variant}.{stage}" if variant else stage
    return stage + names[kind].removeprefix(kind)


class _Whole:
    """File of all predictions, written completely or not at all.

    Args:
        path: path of the file.
        draws: whether to write the number of the draw.
    """

    def __init__(self, path: Path, draws: bool) -> None:
        self.path, self.draws = path, draws
        self.writer: Any = None
        # A temporary file of its own: the same command may run at the same time.
        self.beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()
            if kind is None:
                self.beside.replace(self.path)
        self.beside.unlink(missing_ok=True)

    def append(self, key: Key, draw: int, stage: str, table: pd.DataFrame) -> None:
        """Add the predictions of a model."""
        columns: dict[str, Any] = dict(zip(("setting", "method", "fold", "seed"), key, strict=True)) | {"stage": stage}
        columns |= {"draw": draw} if self.draws else {}
        order = ["setting", "method", "stage", "fold", "seed", *(["draw"] if self.draws else []), "split"]
        whole = table.drop(columns="stage").assign(**columns)
        whole = whole[[*order, *(name for name in whole.columns if name not in order)]]
        rows = pa.Table.from_pandas(whole, preserve_index=False)
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.beside, rows.schema)
        self.writer.write_table(rows.cast(self.writer.schema))


def stages_of(entry: Entry, record: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield the stages of an entry's run and the folders that they are kept in."""
    for name, job in record["stages"].items():
        yield name, entry.root / "stages" / name / job["hash"]
