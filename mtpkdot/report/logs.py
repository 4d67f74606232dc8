"""Logs of the training of stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mtpkdot.pipeline.records import NUMBER, read_record

_STAGE = {
    "trained": {"monitor": str, "epochs": NUMBER, "seconds": NUMBER, ...: object},
    "notes?": [str],
    ...: object,
}


@dataclass(frozen=True)
class Training:
    """Training of a stage: its record and its log.

    Attributes:
        record: stage.json of the stage; empty if missing.
        log: logged values by epoch; None if missing.
    """

    record: dict[str, Any]
    log: pd.DataFrame | None


def record_of(folder: Path) -> dict[str, Any]:
    """Return the stage.json of a trained stage; empty if it is missing."""
    path = folder / "stage.json"
    found: dict[str, Any] = read_record(path, _STAGE, f"Remove {folder} to train it again.") if path.is_file() else {}
    return found


def seconds_of(folder: Path) -> float:
    """Return the seconds of a stage's training; NaN if its record is missing."""
    record = record_of(folder)
    return float(record["trained"]["seconds"]) if record else float("nan")


def training(folder: Path) -> Training:
    """Read a trained stage's record and log."""
    record = record_of(folder)
    files = sorted(folder.glob("logs/version_*/metrics.csv"), key=lambda file: int(file.parent.name.split("_")[1]))
    tables = [pd.read_csv(file) for file in files if file.stat().st_size]
    if not tables:
        return Training(record, None)
    # Training and validation are logged in separate rows; of a repeated epoch the last values count.
    log = pd.concat(tables, ignore_index=True).drop(columns="step", errors="ignore").groupby("epoch").last()
    return Training(record, log)


def summary(logs: Sequence[pd.DataFrame], prefix: str = "") -> pd.DataFrame:
    """Return mean, lowest and highest value per epoch over trainings of one model; columns (value, mean|low|high)."""
    whole = pd.concat([log.filter(regex=f"^{prefix}") for log in logs])
    if whole.columns.empty:
        return pd.DataFrame()
    of_epochs = whole.groupby(level=0).agg(["mean", "min", "max"])
    return of_epochs.rename(columns={"min": "low", "max": "high"}, level=1)
