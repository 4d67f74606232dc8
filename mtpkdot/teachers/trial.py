"""Trial of a user's own member of a pool on a few rows, which detects a wrong signature before any training."""

import torch

from mtpkdot.losses.task import Task
from mtpkdot.models.tried import named, tried
from mtpkdot.teachers.member import Member, MemberFactory, Targets
from mtpkdot.teachers.rows import Rows

_EXPECTED = (
    "a member is built from (modalities), learns with fit(task, training, targets, held_out) and answers with "
    "output(rows), both of which return outputs (N, K)"
)
_ROWS = 8


def try_member(build: MemberFactory, task: Task, size: int) -> None:
    """Fit a user's member on some rows of two modalities.

    Args:
        build: constructor of the member.
        task: the task.
        size: number of outputs.

    Raises:
        ValueError: the member fails, or its outputs do not have the shape (N, K).
    """
    with tried(build, _EXPECTED):
        member = build(["a", "b"])
        if not isinstance(member, Member):
            raise ValueError(f"{named(build)} is not a Member: {_EXPECTED}; see mtpkdot.teachers.Member")
        if type(member).__module__.startswith("mtpkdot."):
            return
        classes = torch.arange(_ROWS) % (size + 1 if task == "ordinal" else size)
        target = torch.linspace(-1, 1, _ROWS * size).reshape(_ROWS, size) if task == "regression" else classes
        values = {"a": torch.randn(_ROWS, 4), "b": torch.randn(_ROWS, 3)}
        rows = Rows.of(values, target)
        fitted = member.fit(task, rows, Targets.of_labels(task, rows, size), rows)
        output = member.output(rows)
    shapes = [tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__ for x in (fitted, output)]
    if shapes != [(_ROWS, size)] * 2:
        raise ValueError(
            f"{named(build)} returns {shapes[0]} and {shapes[1]} for {_ROWS} rows and {size} outputs: {_EXPECTED}; see "
            "mtpkdot.teachers.Member"
        )
