"""Selection of the teacher that each sample is distilled from."""

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
    """Weights of the teachers for each row.

    Attributes:
        chosen: (N, T) weights, not negative; each row has the sum 1, or 0 if no teacher is valid on it.
        trust: (N,) factor in [0, 1] of the row's weights; 1 without a guard.
    """

    chosen: Tensor
    trust: Tensor


class Selection:
    """Base of the selections. A subclass implements `__call__`, which assigns teachers to the rows of a batch.

    Attributes:
        fallback: name of the teacher for rows without a label; the student sets it to its first teacher.
        guarded: True if the trust may be below 1; it is then logged.

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
        """Return the weights of the teachers for each row of a batch.

        Args:
            task: the task.
            own: (N, C) outputs of the student.
            teachers: (N, C) outputs of each of T teachers, by name.
            valid: (N, T) bool, True where both the student and the teacher had an input.
            target: (N,) classes or (N, K) values; entries of unlabelled rows are ignored.
            labelled: (N,) bool.
            scale: (K,) unit in which squared errors of values are measured.

        Returns:
            The shares, detached: weights (N, T), 0 where a teacher is not valid, and trust (N,).
        """


SelectionFactory = Callable[[], Selection]


class TeacherSelection(Selection):
    """Selection of teachers by their task losses on labelled rows.

    Args:
        rule: `batch`, the teacher with the lowest task loss on the batch (MT-PKDOT, arXiv 2408.09035); `sample`, the
            teacher with the lowest loss on each row; `soft`, shares `softmax(-loss / temperature)` on each row. Rows
            without a label get the `fallback`, or with `soft` the mean shares of the labelled rows.
        temperature: temperature of `soft`, in the unit of the loss, > 0.
        margin: None, or a guard (>= 0) against teachers that are worse than the student. The trust of a row (of the
            batch, if the rule is `batch`) is 0 if the student's loss is not above the teachers', and grows linearly
            to 1 where it is above by the margin. Rows without a label get the mean trust of the labelled rows.
        fallback: name of the teacher for rows without a label.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> select = TeacherSelection("sample", fallback="joint")
        >>> outputs = {"joint": torch.tensor([[3.0, 0.0]]), "video": torch.tensor([[0.0, 3.0]])}
        >>> valid, labelled = torch.tensor([[True, True]]), torch.tensor([True])
        >>> select("classification", torch.zeros(1, 2), outputs, valid, torch.tensor([1]), labelled).chosen
        tensor([[0., 1.]])
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
            ValueError: no teacher has the name of the fallback.
        """
        if self.fallback not in teachers:
            raise ValueError(f"{self.fallback!r} is not one of the teachers {list(teachers)}; name another fallback")
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
        # Teachers are compared on the labelled rows on which all are valid; those without any are left out.
        usable = labelled[:, None] & valid
        able = usable.any(dim=0)
        known = usable[:, able].all(dim=1) & usable.any(dim=1)
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
    """Return the teacher with the lowest task loss on the labels of the batch (MT-PKDOT, arXiv 2408.09035).

    Args:
        losses: scalar task loss per teacher; empty for a batch without labels. Ties go to the first teacher, and a
            teacher whose loss is not finite is not chosen.
        fallback: name of the teacher for a batch without labels.

    Returns:
        The name of the teacher.

    Example:
        >>> losses = {"joint": torch.tensor(0.7), "audio": torch.tensor(0.4)}
        >>> select_teacher(losses, fallback="joint"), select_teacher({}, fallback="joint")
        ('audio', 'joint')
    """
    finite = {name: float(loss.detach()) for name, loss in losses.items() if bool(loss.isfinite())}
    return min(finite, key=lambda name: finite[name]) if finite else fallback
