"""Sources of a report: studies, and single runs that are combined if their data agree."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtpkdot.errors import RunError
from mtpkdot.pipeline.records import REPORTED, RUN, read_record
from mtpkdot.pipeline.stages import STUDENT, is_model_name
from mtpkdot.pipeline.store import root_of
from mtpkdot.pipeline.study import BASE, RECORD, Resample, Study
from mtpkdot.report.gather import Entry, is_shared, of_study

_AGAIN = "Remove that folder, and run it again."


@dataclass(frozen=True)
class Source:
    """Runs that are compared with each other.

    Attributes:
        name: heading; the name of the folder, or its path if two have the same name.
        folder: folder of the study, or of the first run.
        entries: the runs.
        resample: see Study.
    """

    name: str
    folder: Path
    entries: list[Entry]
    resample: Resample


def sources(folders: Sequence[Path]) -> list[Source]:
    """Return studies one by one, and single runs grouped by their data.

    Raises:
        RunError: a folder is neither a study nor a run.
    """
    found: list[Source] = []
    runs: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for folder in dict.fromkeys(path.resolve() for path in folders):
        if (folder / RECORD).is_file():
            study = Study.read(folder)
            found.append(Source(study.name, folder, of_study(study), study.resample))
        elif (folder / "run.json").is_file():
            record = read_record(folder / "run.json", RUN, _AGAIN)
            if "targets" not in record:
                raise RunError(f"{folder} is a run of an earlier version", "Call its `mtpkdot fit` again.")
            record = read_record(folder / "run.json", REPORTED, _AGAIN)
            runs.setdefault(json.dumps(_data(record), sort_keys=True, default=str), []).append((folder, record))
        else:
            raise RunError(
                f"{folder} is neither a study nor a run", "Name folders that `mtpkdot crossval` or `fit` has written."
            )
    found += [_of_runs(group) for group in runs.values()]
    names = Counter(source.name for source in found)
    return [replace(source, name=str(source.folder)) if names[source.name] > 1 else source for source in found]


def _of_runs(runs: Sequence[tuple[Path, dict[str, Any]]]) -> Source:
    """Return single runs on the same data as one source; equal students are one method on several folds or seeds."""
    names: dict[str, str] = {}
    groups: dict[str, str] = {}
    taken: dict[tuple[str, str, int, int], int] = {}
    entries: list[Entry] = []
    models = {stage for _, record in runs for stage, job in record["stages"].items() if is_shared(stage, job)}
    for folder, record in runs:
        keys = _keys(record)
        student = record["stages"].get(STUDENT, {}).get("keys", {})
        model = {key: value for key, value in student.items() if key.startswith(f"{STUDENT}.")}
        method = str(model.get(f"{STUDENT}.model.method", ""))
        if model:
            used = {*names.values(), *(entry.variant for entry in entries), *models}
            free = method if method not in used else _unlike(folder.name, used)
            method = names.setdefault(json.dumps(model, sort_keys=True, default=str), free)
        labelled = keys.get("data.init_args.labelled_subjects", "all")
        setting = "all" if labelled == "all" else f"labelled_{labelled}"
        fold, seed = int(keys.get("data.init_args.split.fold") or 0), int(keys.get("seed_everything") or 0)
        draw = keys.get("data.init_args.labelled_seed")
        place = (setting, method, fold, seed)
        taken[place] = taken.get(place, 0) + 1
        if taken[place] > 1:
            method = _unlike(folder.name, {*names.values(), *(entry.variant for entry in entries), *models})
        own = json.dumps(_upstream(record), sort_keys=True, default=str)
        if own not in groups:
            groups[own] = _unlike(folder.name, groups.values()) if groups else ""
        group = groups[own]
        finished = (folder / "predictions.parquet").is_file()
        entries.append(
            Entry(
                setting,
                method,
                group=group,
                fold=fold,
                seed=seed,
                draw=seed if draw is None else int(draw),
                folder=folder,
                root=root_of(folder),
                finished=finished,
            )
        )
    return Source(", ".join(folder.name for folder, _ in runs), runs[0][0], entries, "subject")


def _unlike(name: str, taken: Collection[str]) -> str:
    """Return a name that no other model has: the given one, if necessary with a prefix or a number."""
    if name == BASE or is_model_name(name):
        name = f"run-{name}"
    return next(free for free in (name, *(f"{name}-{n}" for n in range(2, len(taken) + 3))) if free not in taken)


def _upstream(record: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run's upstream models, without people and labels."""
    free = ("split.fold", "init_args.seed", "labelled_seed", "labelled_subjects", "num_workers", "seed_everything")
    own = [job["hash"] for job in record["stages"].values()]
    return {
        stage: {key: v for key, v in job["keys"].items() if not key.endswith(free) and v not in own}
        for stage, job in record["stages"].items()
        if is_shared(stage, job)
    }


def _keys(record: dict[str, Any]) -> dict[str, Any]:
    """Return everything that decides the run's stages as flat keys."""
    keys: dict[str, Any] = {}
    for job in record["stages"].values():
        keys |= job["keys"]
    return keys


def _data(record: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that two runs must share to be compared."""
    free = ("split.fold", "init_args.seed", "labelled_seed", "labelled_subjects", "batch_size", "num_workers", "views")
    keys = {key: value for key, value in _keys(record).items() if key.startswith("data.") and not key.endswith(free)}
    return keys | {key: record[key] for key in ("protocol", "task", "targets", "prevalent")}


def labelled_of(record: dict[str, Any]) -> tuple[str, str]:
    """Return the labelled people of a run's training part as configured, and a digest of all other settings."""
    rest: dict[str, Any] = {"protocol": record["protocol"]}
    labelled = "all"
    for stage, job in record["stages"].items():
        for key, value in job["keys"].items():
            if key.endswith("labelled_subjects"):
                labelled = str(value)
            elif is_shared(stage, job) and not key.startswith(("upstream", "seed_everything")):
                rest[key] = value
    passing = ("split.fold", "init_args.seed", "labelled_seed", "batch_size")
    return labelled, json.dumps({k: v for k, v in rest.items() if not k.endswith(passing)}, sort_keys=True, default=str)
