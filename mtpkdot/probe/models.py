"""Models of a fold: each modality alone, all together, the pool, and students that are taught."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from mtpkdot.data.base import BaseData
from mtpkdot.losses.task import Task, output_count
from mtpkdot.metrics.definitions import METRICS
from mtpkdot.probe.folds import Cell
from mtpkdot.teachers import GraphTeacher, LinearTeacher, MemberFactory, Pool, Rows, Targets
from mtpkdot.teachers.calibration import sharpening

KINDS: dict[str, MemberFactory] = {"linear": LinearTeacher, "graph": GraphTeacher}
POOL, TAUGHT, CONTROL, ORACLE = "pool", "taught", "control", "oracle"


@dataclass(frozen=True)
class Question:
    """Prediction task of a probe.

    Attributes:
        task: the task.
        targets: class names in order, or target names.
        modalities: names of all modalities, the prevalent one first.
    """

    task: Task
    targets: list[str]
    modalities: list[str]

    @classmethod
    def of(cls, data: BaseData) -> "Question":
        """Return the question of a data set."""
        privileged = [name for name in data.modality_names if name != data.prevalent]
        return cls(data.task, data.targets, [data.prevalent, *privileged])

    @property
    def size(self) -> int:
        """Number of outputs of a model."""
        return output_count(self.task, len(self.targets))

    @property
    def metric(self) -> str:
        """Name of the primary metric."""
        return METRICS[self.task][0]

    @property
    def prevalent(self) -> str:
        """The student's modality."""
        return self.modalities[0]

    @property
    def groups(self) -> list[list[str]]:
        """Groups of modalities: each alone, and all together."""
        return [*([name] for name in self.modalities), list(self.modalities)]

    @property
    def base(self) -> str:
        """Name of the student without teachers."""
        return named("linear", [self.prevalent])


def named(kind: str, group: Sequence[str]) -> str:
    """Return the name of the model of a kind on a group of modalities, as in `mtpkdot.teachers.Pool`."""
    return f"{kind}.{'+'.join(group)}"


def outputs(question: Question, cell: Cell) -> dict[str, Tensor]:
    """Fit all models of a cell, and return their outputs (M, K) on the tested rows, by name.

    The base is the linear model on the prevalent modality. `taught` is the same model, taught by the answers of the
    pool on rows without a label; `control` by those of a pool on the prevalent modality alone; `oracle` by the labels
    that were hidden. Without rows to teach, none of the three is there; `oracle` is there only if all labels are known.

    Values get the mean and the spread of the labels, on held-out rows, as students have them that learn by 1 - CCC.

    Args:
        question: the task.
        cell: the rows.
    """
    task = question.task
    pool, answers = _pool(question, question.groups, cell)
    first = {name: member.output for name, member in pool.members.items() if name.partition(".")[0] in KINDS}
    models: dict[str, Callable[[Rows], Tensor]] = {
        named(kind, group): first[named(kind, group)] for kind in KINDS for group in question.groups
    }
    models[POOL] = lambda rows: pool.answers(rows).output
    if not bool(cell.training.labelled.all()):
        models[TAUGHT] = _student(question, cell, answers)
        models[CONTROL] = _student(question, cell, _pool(question, [[question.prevalent]], cell)[1])
        if bool(cell.known.labelled.all()):
            models[ORACLE] = _student(question, cell, Targets.of_labels(task, cell.known, question.size))
    return {name: _spread(question, model, cell)(cell.tested) for name, model in models.items()}


def _pool(question: Question, groups: Sequence[Sequence[str]], cell: Cell) -> tuple[Pool, Targets]:
    """Return a fitted pool, and the labels with its answers on the rows that have none."""
    task, size = question.task, question.size
    pool = Pool(task, size, KINDS, groups)
    answers = pool.sharpened(pool.fit(cell.training, cell.held_out)[0])
    targets = Targets.of_labels(task, cell.training, size)
    return pool, targets.with_answers(task, answers.output, answers.valid)


def _student(question: Question, cell: Cell, targets: Targets) -> Callable[[Rows], Tensor]:
    student = LinearTeacher([question.prevalent])
    student.fit(question.task, cell.training, targets, cell.held_out)
    return student.output


def _spread(question: Question, model: Callable[[Rows], Tensor], cell: Cell) -> Callable[[Rows], Tensor]:
    """Return the model; that of values with the mean and the spread of the labels, on rows such as the tested ones."""
    rows = cell.held_out.keep(cell.held_out.present[question.prevalent])
    if question.task != "regression" or len(rows) < 2:
        return model
    spread = sharpening(question.task, 1.0, model(rows), rows.target)
    return lambda tested: spread(model(tested))
