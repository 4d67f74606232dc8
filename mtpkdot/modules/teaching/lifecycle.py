"""Life cycle of a student's teachers: loading, weighing against the student, use of the evidence, and resuming."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import Tensor

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import Batch
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.weighting import Term
from mtpkdot.metrics.collections import task_metrics
from mtpkdot.modules.teacher import JOINT
from mtpkdot.modules.teaching.base import Answer, Evidence, Teachers, Upstream
from mtpkdot.modules.teaching.level import level_weights
from mtpkdot.modules.teaching.methods import find_method
from mtpkdot.modules.teaching.start import Start
from mtpkdot.modules.teaching.trial import check_names, check_spaces

Moved = Callable[[Iterable[Batch]], Iterator[Batch]]


class Teaching:
    """Teachers of a student in the course of its training.

    Args:
        name: name of the method.
        weights: the user's weights of loss terms, in place of the method's own.
        warmup: fraction of the epochs in which the student learns from labels only, if its teachers are weighed against
            it.
        upstream: earlier stages that the teachers are loaded from.

    Attributes:
        weights: weights of the loss terms.
        kind: class of the teachers; None for a method without teachers.
        teachers: the teachers; None until they are loaded.
        logged: values on the teachers, for the log.
        start: the prevalent backbone that the student starts from, which may remain the better model.
    """

    def __init__(self, name: str, weights: Mapping[Term, float] | None, warmup: float, upstream: Upstream) -> None:
        method = find_method(name)
        self.name, self.weights, self.kind = name, method.terms(weights), method.teachers_for(weights)
        self.warmup, self.upstream = warmup, upstream
        self.levels = self.kind is not None and self.kind.levels_output and "output" not in (weights or {})
        self.teachers: Teachers | None = None
        self.logged: dict[str, float] = {}
        self.start = Start()

    @property
    def fallback(self) -> str:
        """Name of the space that teaches rows without a label."""
        return JOINT if self.kind is not None and self.kind.pooled else next(iter(self.upstream.names))

    @property
    def teach(self) -> Teachers | None:
        """Teachers if they already teach, otherwise None."""
        teachers = self.teachers
        if teachers is None or (teachers.is_weighed and teachers.evidence is None):
            return None
        return teachers

    def load(self) -> Teachers | None:
        """Load the teachers at the first call, and return them; None for a method without teachers.

        Raises:
            RunError: a checkpoint is missing or not that of the stage.
            ConfigError: no space of the user's own teachers has the name of the fallback.
        """
        if self.teachers is None and self.kind is not None:
            self.teachers = self.kind.load(self.upstream)
            check_names(self.teachers, self.fallback)
        return self.teachers

    def begin(self, data: BaseData | None, moved: Moved, like: Tensor, num_outputs: int) -> dict[Term, float]:
        """Prepare teachers that need the data, before the training.

        Args:
            data: the data; None if the datamodule is not a `BaseData`.
            moved: function that moves batches to the device.
            like: a tensor of the student, with the device and precision to use.
            num_outputs: number of classes or targets.

        Returns:
            The weights of the loss terms.

        Raises:
            ValueError: the teachers need data, and `data` is None.
        """
        teachers, task, prevalent = self.teachers, self.upstream.task, self.upstream.prevalent
        if teachers is None or not teachers.needs_data:
            return self.weights
        if data is None:
            raise ValueError(f"{self.name} looks at its data before it teaches: fit it with a BaseData as datamodule")
        if teachers.needs_unlabelled and not has_unlabelled(data):
            self.teachers, self.levels, self.weights = None, False, find_method("none").terms()
            return self.weights
        teachers.check_data(data)
        teachers.look_at(moved(data.revealed_loader() if teachers.sees_hidden else data.evaluation_loader("train")))
        if self.levels:
            self.weights = level_weights(self.weights, data, prevalent, self.upstream.names)
        if teachers.keeps_better:
            metrics = task_metrics(task, num_outputs).to(like.device)
            self.start.evaluate(self.upstream.backbone().to(like), prevalent, moved(data.selecting_loader()), metrics)
        return self.weights

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Return whether the teachers must be weighed before an epoch.

        Args:
            epoch: index of the epoch, from 0.
            epochs: number of epochs of the training.
        """
        warm = min(math.ceil(self.warmup * epochs), epochs - 1) if "task" in self.weights else 0
        waiting = self.teachers is not None and self.teach is None
        return waiting and epoch >= warm

    def weigh(self, student: Answer, data: BaseData, moved: Moved, learned: bool) -> Evidence:
        """Weigh the teachers against the student, in eval mode, and return the evidence for `use`.

        Args:
            student: function that returns the features and outputs of the student on a batch.
            data: the data.
            moved: function that moves batches to the device.
            learned: whether the student has been trained at all.
        """
        assert self.teachers is not None
        held_out, training = data.selecting_loader(), data.evaluation_loader("train")
        return self.teachers.weigh_against(student, moved(held_out), moved(training), learned)

    def use(self, evidence: Evidence | None) -> None:
        """Use evidence from now on; None changes nothing."""
        if evidence is not None and self.teachers is not None:
            self.logged = self.teachers.use(evidence)

    def of(self, batch: Batch) -> dict[str, Teacher]:
        """Return the spaces of the teachers on a batch; empty before they teach.

        Raises:
            ConfigError: the spaces of the user's own teachers have other names or shapes than expected.
        """
        if (teachers := self.teach) is None:
            return {}
        spaces = teachers.spaces(batch)
        check_spaces(teachers, spaces, rows=len(batch.labelled))
        return spaces

    def trust(self, term: Term) -> float:
        """Return the trust in the teachers, the factor of a loss term."""
        return 1.0 if self.teachers is None else self.teachers.trust.get(term, 1.0)

    @property
    def evidence(self) -> Evidence | None:
        """Evidence in use, for a checkpoint."""
        return None if self.teachers is None else self.teachers.evidence


def has_unlabelled(data: BaseData) -> bool:
    """Return whether any sample or step of the training part lacks a label."""
    return not bool(data.samples.labelled[data.positions("train")].all())
