"""Trial of a user's own losses on a few rows, which detects a wrong signature or wrong shapes before any training."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mtpkdot.errors import ConfigError
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.rivals import Rival, RivalFactory, Seen
from mtpkdot.losses.selection import SelectionFactory, Shares
from mtpkdot.losses.structure import StructuralLoss, Structure, StructureFactory
from mtpkdot.losses.task import Task
from mtpkdot.models.tried import named, tried
from mtpkdot.modules.teaching.base import Teachers

_SELECTION = (
    "a selection is called with (task, own, teachers, valid, target, labelled, scale) and returns Shares of weights "
    "(N, T) and trust (N,)"
)
_STRUCTURE = (
    "a structural loss is called with (student, teacher, weights, past) and returns a Structure of scalar terms and "
    "a scalar marginal_error"
)
_RIVAL = (
    "a rival is built from (task, student_dim, teacher_dim), and turns (student, teacher, target, labelled) into a "
    "scalar"
)
_SPACES = (
    "Teachers.spaces returns for every name in space_sizes a Teacher of feature (N, D), output (N, num_outputs) and "
    "valid (N,) bool"
)
_SIZES = (5, 6)  # of the student's and of the teacher's feature


def try_selection(build: SelectionFactory, task: Task, num_outputs: int, fallback: str) -> None:
    """Assign two teachers to some rows with a user's selection.

    Args:
        build: factory of the selection.
        task: the task.
        num_outputs: number of classes or targets.
        fallback: name of the teacher for rows without a label.

    Raises:
        ValueError: the selection fails, or its result does not have the shapes of a selection's.
    """
    selection = build()
    if _is_ours(selection):
        return
    selection.fallback = fallback
    student, teacher, target, labelled = _rows(task, num_outputs, 4)
    names, valid = {fallback: teacher.output, f"not {fallback}": teacher.output}, torch.ones(4, 2, dtype=torch.bool)

    def call() -> Any:
        return selection(task, student.output, names, valid=valid, target=target, labelled=labelled, scale=1.0)

    found = _result(build, call, _SELECTION)
    shapes = [_shape(found.chosen), _shape(found.trust)] if isinstance(found, Shares) else [type(found).__name__]
    _compare(build, shapes, [(4, 2), (4,)], _SELECTION)


def try_structure(build: StructureFactory) -> None:
    """Compare some rows with a user's structural loss.

    Args:
        build: factory of the loss.

    Raises:
        ValueError: the loss fails, or its terms are not scalars.
    """
    structure: StructuralLoss = build()
    if _is_ours(structure):
        return
    student, teacher, *_ = _rows("regression", 1, max(4, structure.smallest_batch))
    found = _result(build, lambda: structure(student.feature, teacher.feature, None, None), _STRUCTURE)
    if isinstance(found, Structure):
        shapes = [_shape(term) for term in (found.transport, found.centroid, found.marginal_error)]
    else:
        shapes = [type(found).__name__]
    _compare(build, shapes, [(), (), ()], _STRUCTURE)


def try_rival(build: RivalFactory, task: Task, num_outputs: int) -> None:
    """Build a user's rival and compare some rows with it.

    Args:
        build: factory of the rival.
        task: the task.
        num_outputs: number of classes or targets.

    Raises:
        ValueError: the rival fails or does not return a scalar, or is not defined for the task.
    """
    rival: Rival = _result(build, lambda: build(task, *_SIZES), _RIVAL)
    if _is_ours(rival):
        return
    rows = _rows(task, num_outputs, 4)
    _compare(build, [_shape(_result(build, lambda: rival(*rows), _RIVAL))], [()], _RIVAL)


def check_names(teachers: Teachers, fallback: str) -> None:
    """Check the names of a user's own teachers.

    Args:
        teachers: the teachers, loaded.
        fallback: name of the space that teaches rows without a label.

    Raises:
        ConfigError: none has the name of the fallback.
    """
    sizes = teachers.space_sizes
    if not _is_ours(teachers) and fallback not in sizes:
        raise ConfigError(
            f"{type(teachers).__name__} has the spaces {', '.join(sizes)}, and none named {fallback}",
            f"Name one {fallback} in space_sizes and spaces: it teaches samples without a label.",
        )


def check_spaces(teachers: Teachers, spaces: Any, rows: int) -> None:
    """Check what a user's own teachers return on a batch.

    Args:
        teachers: the teachers.
        spaces: result of `Teachers.spaces`.
        rows: number N of rows of the batch.

    Raises:
        ConfigError: names or shapes are not those of spaces.
    """
    if _is_ours(teachers):
        return
    found = spaces if isinstance(spaces, dict) else {"": spaces}
    sizes = teachers.space_sizes
    wrong = [name for name in [*sizes, *found] if not _is_space(found.get(name), sizes.get(name), rows)]
    if wrong:
        each = found.get(wrong[0])
        told = _shapes(each) if isinstance(each, Teacher) else type(each).__name__
        raise ConfigError(
            f"{type(teachers).__name__}.spaces returns {told} as {wrong[0]!r} for {rows} rows", f"{_SPACES}."
        )


def _is_space(space: object, size: int | None, rows: int) -> bool:
    if not isinstance(space, Teacher) or size is None:
        return False
    output = len(space.output) if space.output.ndim == 2 else None
    return (tuple(space.feature.shape), output, tuple(space.valid.shape)) == ((rows, size), rows, (rows,)) and (
        space.valid.dtype == torch.bool
    )


def _shapes(space: Teacher) -> str:
    shapes = ", ".join(str(tuple(part.shape)) for part in (space.feature, space.output, space.valid))
    return f"{shapes} of {space.valid.dtype}"


def _is_ours(part: object) -> bool:
    return type(part).__module__.startswith("mtpkdot.")


def _rows(task: Task, num_outputs: int, count: int) -> tuple[Seen, Seen, Tensor, Tensor]:
    """Return features and outputs of a student and a teacher on `count` rows, their targets, and labelled rows."""
    values = torch.linspace(-1, 1, count * max(*_SIZES, num_outputs)).sin().reshape(count, -1)
    student, teacher = (
        Seen(values[:, :size] * factor, values[:, :num_outputs] * factor)
        for size, factor in zip(_SIZES, (1.0, 0.5), strict=True)
    )
    student = Seen(student.feature.clone().requires_grad_(), student.output.clone().requires_grad_())
    target = values[:, :num_outputs] if task == "regression" else torch.arange(count) % 2
    return student, teacher, target, torch.arange(count) < count - 1


def _result(build: Callable[..., Any], call: Callable[[], Any], expected: str) -> Any:
    # With gradients, which a loss may compute itself.
    with tried(build, expected), torch.inference_mode(False), torch.enable_grad():
        return call()


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _compare(build: Callable[..., Any], found: list[Any], wanted: list[Any], expected: str) -> None:
    if found != wanted:
        told, meant = (", ".join(map(str, shapes)) for shapes in (found, wanted))
        raise ValueError(f"{named(build)} returns {told} for a few rows, not {meant}: {expected}")
