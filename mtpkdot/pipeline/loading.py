"""Loading of trained models from the folder of a run or the path of a checkpoint."""

import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mtpkdot.errors import RunError
from mtpkdot.modules import StageModule
from mtpkdot.modules.base import load_stage
from mtpkdot.modules.teaching import BOUND
from mtpkdot.pipeline.records import RUN, read_record
from mtpkdot.pipeline.stages import STUDENT, stage_classes
from mtpkdot.pipeline.store import CHECKPOINT, RECORD, StoredStage, root_of
from mtpkdot.trust import check, one_call


def load(path: str | Path, trust: Sequence[str] = ()) -> StageModule:
    """Load a trained model in evaluation mode, without gradients, on the processor.

    Args:
        path: folder of a run, whose student is loaded; folder of a trained stage; or a checkpoint, which counts as that
            of a student unless a `stage.json` beside it names another stage.
        trust: packages or classes, beside those of mtpkdot, torch and lightning, that may be imported. Importing runs
            their code: name only what you trust.

    Returns:
        The stage's module; a student is called with raw steps (B, T, *shape) and a mask (B, T).

    Raises:
        RunError: the model does not exist, or names a class that is not trusted.

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
        record = read_record(beside, {"stage": str, "class_path?": str, ...: object}, "Name another checkpoint.")
    name = record.get("stage", STUDENT).partition(".")[0]
    if name not in stage_classes() and "class_path" not in record:
        raise RunError(f"{beside} names the stage {name!r} but no class", f"Choose from {', '.join(stage_classes())}.")
    with one_call(trust):
        kind = stage_classes()[name] if name in stage_classes() else _own_kind(record["class_path"], beside)
        module = load_stage(kind, path)
    if module.is_bound:
        warnings.warn(f"{path} has seen hidden labels: it is {BOUND}", stacklevel=2)
    return module


def _own_kind(class_path: str, beside: Path) -> type[StageModule]:
    """Import the class of an extra stage if it is trusted."""
    check({"class_path": class_path}, beside)
    module, _, name = class_path.rpartition(".")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RunError(f"{beside} names {class_path}, which cannot be imported ({error})", "Put it back.") from error
    if not (isinstance(kind, type) and issubclass(kind, StageModule)):
        raise RunError(f"{beside} names {class_path}, which is not a stage", "Name another checkpoint.")
    return kind


def _student_of(run: Path) -> Path:
    record = read_record(run / "run.json", RUN, "Name another run.")
    if STUDENT not in record["stages"]:
        raise RunError(f"{run} has no student", "Name a run with one, or the checkpoint of another stage.")
    return StoredStage(root_of(run), STUDENT, record["stages"][STUDENT]["hash"]).checkpoint
