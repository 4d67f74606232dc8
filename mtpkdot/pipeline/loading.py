"""Trained models, loaded by the folder of a run or the path of a checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtpkdot.errors import RunError
from mtpkdot.modules import StageModule
from mtpkdot.modules.base import load_stage
from mtpkdot.pipeline.records import RUN, read_record
from mtpkdot.pipeline.stages import KINDS
from mtpkdot.pipeline.store import CHECKPOINT, RECORD, StoredStage, root_of
from mtpkdot.trust import one_call


def load(path: str | Path, trust: Sequence[str] = ()) -> StageModule:
    """Load a trained model in evaluation mode, without gradients, on the processor.

    Args:
        path: the folder of a run, whose student is loaded; the folder of a trained stage; or a checkpoint, which is
            taken for a student's where no `stage.json` beside it names another stage.
        trust: packages or classes, beside those of mtpkdot, torch and lightning, that may be imported. To import one
            runs its code: name only what you trust.

    Returns:
        The stage's module; a student is called with raw steps (B, T, *shape) and a mask (B, T).

    Raises:
        RunError: there is no such model, or it names a class that is not trusted.

    Example:
        >>> student = mtpkdot.load("runs/demo")  # doctest: +SKIP
    """
    path = Path(path)
    if (path / "run.json").is_file():
        path = _student_of(path.resolve())
    elif path.is_dir():
        path = path / CHECKPOINT
    if not path.is_file():
        raise RunError(f"{path} does not exist", "Name a run's folder, or a checkpoint that mtpkdot has written.")
    record: Any = {}
    if (beside := path.with_name(RECORD)).is_file():
        record = read_record(beside, {"stage": str, ...: object}, "Name another checkpoint.")
    kind = record.get("stage", "student").partition(".")[0]
    if kind not in KINDS:
        raise RunError(f"{beside} names the stage {kind!r}", f"Choose from {', '.join(KINDS)}.")
    with one_call(trust):
        return load_stage(KINDS[kind], path)


def _student_of(run: Path) -> Path:
    record = read_record(run / "run.json", RUN, "Name another run.")
    if "student" not in record["stages"]:
        raise RunError(f"{run} has no student", "Name a run with one, or the checkpoint of another stage.")
    return StoredStage(root_of(run), "student", record["stages"]["student"]["hash"]).checkpoint
