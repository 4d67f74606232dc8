"""The life cycle of a student's teachers: loaded, weighed against the student, used, resumed, and what is handed on."""

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
from mtpkdot.modules.teaching.methods import METHODS, MethodName
from mtpkdot.modules.teaching.start import Start

Moved = Callable[[Iterable[Batch]], Iterator[Batch]]


class Teaching:
    """Who teaches a student, and when.

    Args:
        name: of the method.
        weights: the user's weights of loss terms, over the method's own.
        warmup: share of the epochs in which the student learns from labels alone, where its teachers are weighed
            against it.
        upstream: where the teachers come from.

    Attributes:
        weights: of the loss terms.
        kind: class of the teachers; None where only labels teach.
        teachers: None until they are loaded.
        logged: values on the teachers, for the log.
        start: the prevalent backbone, where the student may not become better than that.
    """

    def __init__(
        self, name: MethodName, weights: Mapping[Term, float] | None, warmup: float, upstream: Upstream
    ) -> None:
        method = METHODS[name]
        self.name, self.weights, self.kind = name, method.terms(weights), method.teachers_for(weights)
        self.warmup, self.upstream = warmup, upstream
        self.levels = self.kind is not None and self.kind.levels_output and "output" not in (weights or {})
        self.teachers: Teachers | None = None
        self.logged: dict[str, float] = {}
        self.start = Start()

    @property
    def fallback(self) -> str:
        """Name of the space that teaches a batch without labels."""
        return JOINT if self.kind is not None and self.kind.pooled else next(iter(self.upstream.names))

    @property
    def teach(self) -> Teachers | None:
        """The teachers, if they teach already."""
        teachers = self.teachers
        if teachers is None or (teachers.is_weighed and teachers.evidence is None):
            return None
        return teachers

    def load(self) -> Teachers | None:
        """Load the teachers, once; returns them, or None where only labels teach.

        Raises:
            RunError: a checkpoint is missing or none of that stage.
        """
        if self.teachers is None and self.kind is not None:
            self.teachers = self.kind.load(self.upstream)
        return self.teachers

    def begin(self, data: BaseData | None, moved: Moved, like: Tensor, num_outputs: int) -> dict[Term, float]:
        """Let teachers look at the data, before the training begins.

        Args:
            data: the data; None where the training has no `BaseData`.
            moved: hands batches over to the device.
            like: a tensor of the student's, whose device and precision hold.
            num_outputs: classes or targets.

        Returns:
            The weights of the loss terms.

        Raises:
            ValueError: teachers need data that are not there.
        """
        teachers, task, prevalent = self.teachers, self.upstream.task, self.upstream.prevalent
        if teachers is None or not teachers.needs_data:
            return self.weights
        if data is None:
            raise ValueError(f"{self.name} looks at its data before it teaches: fit it with a BaseData as datamodule")
        teachers.look_at(moved(data.evaluation_loader("train")))
        if self.levels:
            self.weights = level_weights(self.weights, data, prevalent, self.upstream.names)
        if teachers.keeps_better:
            metrics = task_metrics(task, num_outputs).to(like.device)
            self.start.evaluate(self.upstream.backbone().to(like), prevalent, moved(data.selecting_loader()), metrics)
        return self.weights

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Return whether the teachers are to be weighed before an epoch, counted from 0, of so many."""
        warm = min(math.ceil(self.warmup * epochs), epochs - 1) if "task" in self.weights else 0
        waiting = self.teachers is not None and self.teach is None
        return waiting and epoch >= warm

    def weigh(self, student: Answer, data: BaseData, moved: Moved, learned: bool) -> Evidence:
        """Weigh the teachers against the student, in eval mode; returns the evidence to `use`.

        Args:
            student: returns its feature and output on a batch.
            data: the data.
            moved: hands batches over to the device.
            learned: whether the student has been trained at all.
        """
        assert self.teachers is not None
        held_out, training = data.selecting_loader(), data.evaluation_loader("train")
        return self.teachers.weigh_against(student, moved(held_out), moved(training), learned)

    def use(self, evidence: Evidence | None) -> None:
        """Teach by this evidence from now on; None leaves all as it is."""
        if evidence is not None and self.teachers is not None:
            self.logged = self.teachers.use(evidence)

    def of(self, batch: Batch) -> dict[str, Teacher]:
        """Return the spaces of the teachers on a batch; none before they teach."""
        return {} if self.teach is None else self.teach.spaces(batch)

    def trust(self, term: Term) -> float:
        """Return the factor of a loss term."""
        return 1.0 if self.teachers is None else self.teachers.trust.get(term, 1.0)

    @property
    def evidence(self) -> Evidence | None:
        """What teachers are weighed by, for a checkpoint."""
        return None if self.teachers is None else self.teachers.evidence


def has_unlabelled(data: BaseData) -> bool:
    """Return whether a training recording lacks a label."""
    return not bool(data.samples.labelled[data.positions("train")].all())
