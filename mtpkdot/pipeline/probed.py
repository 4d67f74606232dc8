"""Results of `mtpkdot probe`, which fit and reports read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtpkdot.errors import RunError
from mtpkdot.pipeline.config import Experiment
from mtpkdot.pipeline.identity import data_keys
from mtpkdot.pipeline.records import ANY, NUMBER, read_record
from mtpkdot.pipeline.stages import STUDENT

PROBE = "probe.json"
ANSWERS = {"yes", "no", "unknown"}
_LABELLED = "data.init_args.labelled_subjects"
# Arguments of the data that a probe does not depend on, or that it varies itself.
_FREE = (_LABELLED, "batch_size", "num_workers", "views", "init_args.seed", "labelled_seed")
_ESTIMATE = {"value": NUMBER, "low": NUMBER, "high": NUMBER}
_POINT = {"labelled": int, **dict.fromkeys(("base", "together", "pool"), _ESTIMATE)}
_POINT |= dict.fromkeys(("gain?", "control_gain?", "over_control?", "oracle_gain?"), _ESTIMATE)
_FORM: dict[Any, Any] = {
    "data": ANY,
    "labelled_subjects": object,
    "metric": str,
    "unit": {"people", "recordings"},
    "curve": [_POINT],
    "answer": ANSWERS,
    "reason": str,
    "method?": str,
    ...: object,
}


def data_of(experiment: Experiment) -> dict[str, Any]:
    """Return everything that decides the data of an experiment, without split and labelled people, as plain data."""
    return _compared({key: value for key, value in data_keys(experiment).items() if key != "code"})


def data_of_run(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same from the run.json of an experiment."""
    found: dict[str, Any] = {}
    for stage in record["stages"].values():
        found |= {key: stage["keys"][key] for key in stage.get("chosen", []) if key.startswith("data.")}
    return _compared(found)


def labelled_of(experiment: Experiment) -> str:
    """Return the labelled people of an experiment as configured."""
    return str(experiment.config["data"].get("init_args", {}).get("labelled_subjects", "all"))


def probes_in(root: Path, data: Mapping[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    """Return the probes of a data set among the runs of a folder, the newest first, with their files.

    Args:
        root: folder of all runs.
        data: result of `data_of` or `data_of_run`.

    Raises:
        RunError: a file is damaged.
    """
    found = [(path, read(path)) for path in root.glob(f"*/{PROBE}")]
    found = [(path, probe) for path, probe in found if probe["data"] == data]
    return sorted(found, key=lambda pair: pair[0].stat().st_mtime, reverse=True)


def read(path: Path) -> dict[str, Any]:
    """Return a probe.

    Raises:
        RunError: the file is missing or damaged.
    """
    found: dict[str, Any] = read_record(path, _FORM, "Remove it, or call `mtpkdot probe` again.")
    return found


def advice(experiment: Experiment) -> str:
    """Return a sentence where a probe of the same data and labels recommends another method; otherwise nothing.

    Args:
        experiment: the experiment, whose method has been resolved.
    """
    root = Path(experiment.config["pipeline"]["root"])
    if not any(root.glob(f"*/{PROBE}")):
        return ""
    method, labelled = str(experiment.config[STUDENT]["model"]["method"]), labelled_of(experiment)
    try:
        probes = [pair for pair in probes_in(root, data_of(experiment)) if pair[1]["labelled_subjects"] == labelled]
    except RunError as error:
        return f"note: {error}"
    if not probes:
        return ""
    path, probe = probes[0]
    wanted = probe.get("method", method)
    if wanted == method:
        return ""
    return f"{path} recommends --{STUDENT}.model.method {wanted} in place of {method}. {probe['reason']}"


def _compared(keys: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: v for key, v in keys.items() if not key.endswith(_FREE) and ".split" not in key}
    plain: dict[str, Any] = json.loads(json.dumps(kept, sort_keys=True, default=str))
    return plain
