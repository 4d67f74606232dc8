"""Which of several teachers a sample is distilled from."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mtpkdot.losses.task import Task, row_losses, task_loss

Rule = Literal["batch", "sample", "soft"]


@dataclass(frozen=True)
class Shares:
    """How much each teacher teaches each row.

    Attributes:
        chosen: (N, T), each row with sum 1, or 0 where no teacher sees anything.
        trust: (N,) in [0, 1], what the guard leaves of that.
    """

    chosen: Tensor
    trust: Tensor


class Selection:
    """Base of the selections. A subclass says which teacher each row of a batch is distilled from.

    Attributes:
        fallback: name of the teacher of rows that no label can decide for; set by the student to its first teacher.
        guarded: whether trust in the teachers may be below 1, and is logged.

    Example:
        >>> class Even(Selection):
        ...     def __call__(self, task, own, teachers, valid, target, labelled, scale=1.0):
        ...         shares = valid / valid.sum(dim=1, keepdim=True).clamp_min(1)
        ...         return Shares(shares, torch.ones(len(valid)))
        >>> outputs = {"joint": torch.zeros(2, 3), "video": torch.zeros(2, 3)}
        >>> valid = torch.tensor([[True, True], [True, False]])
        >>> Even()("classification", torch.zeros(2, 3), outputs, valid, torch.zeros(2).long(), valid[:, 0]).chosen
        tensor([[0.5000, 0.5000],
                [1.0000, 0.0000]])
    """

    fallback: str = "joint"
    guarded: bool = False

    @abstractmethod
    def __call__(
        self,
        task: Task,
        own: Tensor,
        teachers: Mapping[str, Tensor],
        valid: Tensor,
        target: Tensor,
        labelled: Tensor,
        scale: Tensor | float = 1.0,
    ) -> Shares:
        """Return how much each teacher teaches each row of a batch.

        Args:
            task: the task.
            own: (N, C) outputs of the student.
            teachers: (N, C) outputs per teacher, T of them.
            valid: (N, T) bool, the rows that student and teacher both see.
            target: (N,) classes or (N, K) values; entries of unlabelled rows are not read.
            labelled: (N,) bool.
            scale: (K,) unit of values, in which squared errors of rows are measured.

        Returns:
            The shares, detached: of shape (N, T), 0 where a teacher sees nothing, and the trust (N,).
        """


SelectionFactory = Callable[[], Selection]


class TeacherSelection(Selection):
    """Select teachers by their task losses on the labels.

    Args:
        rule: `batch`, one teacher for the batch: that with the lowest task loss on it (MT-PKDOT, arXiv 2408.09035);
            `sample`, for each row its own; `soft`, shares `softmax(-loss / temperature)` for each row. Rows without a
            label have the `fallback`, or under `soft` the mean shares of the rows with one.
        temperature: of the shares, in the unit of the loss, > 0.
        margin: None, or a guard against teachers that know less than the student: where its loss on a row (on the
            batch, if the rule is `batch`) is not above the teachers', the row is not distilled, and from there its
            weight grows linearly until the teachers are better by the margin (>= 0). Rows without a label have the mean
            of the others.
        fallback: the teacher where there is no label to judge by.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self, rule: Rule = "batch", temperature: float = 0.5, margin: float | None = None, fallback: str = "joint"
    ) -> None:
        if temperature <= 0 or (margin is not None and margin < 0):
            raise ValueError(
                f"the temperature of the selection must be positive and its margin not negative, not {temperature} and "
                f"{margin}"
            )
        self.rule, self.temperature, self.margin, self.fallback = rule, temperature, margin, fallback
        self.guarded = margin is not None

    def __call__(
        self,
        task: Task,
        own: Tensor,
        teachers: Mapping[str, Tensor],
        valid: Tensor,
        target: Tensor,
        labelled: Tensor,
        scale: Tensor | float = 1.0,
    ) -> Shares:
        """Return the shares of a batch, see `Selection`.

        Raises:
            ValueError: no teacher bears the fallback's name.
        """
        if self.fallback not in teachers:
            raise ValueError(f"{self.fallback!r} is none of the teachers {list(teachers)}; name another fallback")
        with torch.no_grad():
            if self.rule == "batch":
                return self._of_batch(task, own, teachers=teachers, valid=valid, target=target, labelled=labelled)
            return self._of_rows(
                task, own, teachers=teachers, valid=valid, target=target, labelled=labelled, scale=scale
            )

    def _of_batch(
        self,
        task: Task,
        own: Tensor,
        teachers: Mapping[str, Tensor],
        valid: Tensor,
        target: Tensor,
        labelled: Tensor,
    ) -> Shares:
        # Teachers are compared on the rows that all of them see, without those that see none to be judged by.
        judged = labelled[:, None] & valid
        able = judged.any(dim=0)
        known = judged[:, able].all(dim=1) & judged.any(dim=1)
        chosen, trust = self.fallback, 1.0
        if bool(known.any()) and (len(teachers) > 1 or self.margin is not None):
            losses = {
                name: task_loss(task, output, target, known) if sees else output.new_tensor(torch.inf)
                for (name, output), sees in zip(teachers.items(), able.tolist(), strict=True)
            }
            chosen = select_teacher(losses, self.fallback)
            trust = float(self._trust(task_loss(task, own, target, known), losses[chosen]))
        shares = torch.zeros_like(valid, dtype=torch.float32)
        shares[:, list(teachers).index(chosen)] = 1.0
        return Shares(shares * valid, torch.full_like(shares[:, 0], trust))

    def _of_rows(
        self,
        task: Task,
        own: Tensor,
        teachers: Mapping[str, Tensor],
        valid: Tensor,
        target: Tensor,
        labelled: Tensor,
        scale: Tensor | float,
    ) -> Shares:
        losses = torch.stack(
            [row_losses(task, o, target=target, labelled=labelled, scale=scale) for o in teachers.values()], dim=1
        )
        losses = losses.where(valid & losses.isfinite(), torch.inf)
        known = labelled & losses.isfinite().any(dim=1)
        fallback = torch.zeros_like(losses)
        fallback[:, list(teachers).index(self.fallback)] = 1.0
        if self.rule == "sample":
            shares = torch.nn.functional.one_hot(losses.argmin(dim=1), losses.shape[1]).to(losses.dtype)
        else:
            shares = (-losses.where(known[:, None], 0.0) / self.temperature).softmax(dim=1)
            if bool(known.any()):
                fallback = shares[known].mean(dim=0).expand_as(shares)
        shares = torch.where(known[:, None], shares, fallback) * valid
        shares = shares / shares.sum(dim=1, keepdim=True).clamp_min(torch.finfo(shares.dtype).tiny)
        trust = torch.ones_like(shares[:, 0])
        if self.margin is not None and bool(known.any()):
            taught = (shares * losses.where(shares > 0, 0.0)).sum(dim=1)
            trust = self._trust(row_losses(task, own, target=target, labelled=labelled, scale=scale), taught)
            trust = torch.where(known, trust, trust[known].mean())
        return Shares(shares, trust)

    def _trust(self, own: Tensor, taught: Tensor) -> Tensor:
        if self.margin is None:
            return torch.ones_like(own)
        gain = (own - taught).nan_to_num(nan=0.0)
        return (gain > 0).to(gain.dtype) if self.margin == 0 else (gain / self.margin).clamp(0, 1)


def select_teacher(losses: Mapping[str, Tensor], fallback: str) -> str:
    """The teacher with the lowest task loss on the labels of the batch (MT-PKDOT, arXiv 2408.09035).

    Args:
        losses: task loss per teacher, each a scalar; empty for a batch without labels. Ties go to the first named, and
            a teacher whose loss is not finite is not chosen.
        fallback: the teacher of a batch that has no labels to judge by.

    Returns:
        The name of the teacher.

    Example:
        >>> losses = {"joint": torch.tensor(0.7), "audio": torch.tensor(0.4)}
        >>> select_teacher(losses, fallback="joint"), select_teacher({}, fallback="joint")
        ('audio', 'joint')
    """
    finite = {name: float(loss.detach()) for name, loss in losses.items() if bool(loss.isfinite())}
    return min(finite, key=lambda name: finite[name]) if finite else fallback
