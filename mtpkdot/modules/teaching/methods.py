"""Methods that train a student, each with its loss terms, weights and teachers: the only place that names them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, get_args

from mtpkdot.errors import ConfigError, nearest
from mtpkdot.losses.rivals import RIVALS, Rival
from mtpkdot.losses.task import ValueLoss
from mtpkdot.losses.weighting import Term
from mtpkdot.modules.teaching.base import Teachers
from mtpkdot.modules.teaching.controls import HiddenLabels, OwnTeacher, SpreadLabels
from mtpkdot.modules.teaching.joint import AdaptedTeachers, JointTeacher
from mtpkdot.modules.teaching.pooled import PooledNetworks, PooledTeachers

BOUND = "a bound to compare with and no model to hand on"
AUTO: Final = "auto"  # replaced by a method according to the data, before the stages are planned
_EXPECTED = (
    "Write `MY_METHOD = Method({'task': 1.0, 'output': 1.0}, MyTeachers)`, with MyTeachers a subclass of "
    "mtpkdot.modules.teaching.Teachers"
)


@dataclass(frozen=True)
class Method:
    """Definition of a method: loss terms, teachers and rival.

    `student.model.method` names an entry of `METHODS`, or a method of the user by its place: `my_project.MY_METHOD`.

    Attributes:
        weights: weights of the loss terms; a term without weight is neither computed nor logged.
        teachers: class of the teachers, with the hooks of their life cycle; None to learn from labels only.
        rival: loss of the term `rival`; None if the user names it.
        values: loss of the teachers' values in the term `output`, see `mtpkdot.losses.task.output_loss`.
        revision: number to increase if the same settings train a different student than before, so that students
            trained earlier are not reused.
        about: a phrase for the help.

    Example:
        >>> own = Method({"task": 1.0, "output": 0.5}, JointTeacher)
        >>> own.terms({"output": 0.0})
        {'task': 1.0}
    """

    weights: Mapping[Term, float]
    teachers: type[Teachers] | None = JointTeacher
    rival: type[Rival] | None = None
    values: ValueLoss = "squared"
    revision: int = 0
    about: str = ""

    def terms(self, weights: Mapping[Term, float] | None = None) -> dict[Term, float]:
        """Return the nonzero weights of the terms, with the user's `weights` in place of the method's own.

        Example:
            >>> METHODS["mtpkdot"].terms({"centroid": 0.0, "output": 1.0})
            {'task': 0.8, 'transport': 0.2, 'output': 1.0}
        """
        merged: dict[Term, float] = {**self.weights, **(weights or {})}
        return {name: weight for name, weight in merged.items() if weight}

    def teachers_for(self, weights: Mapping[Term, float] | None = None) -> type[Teachers] | None:
        """Return the class of the teachers for the user's `weights`; None if only labels teach."""
        return self.teachers if self.terms(weights).keys() - {"task"} else None

    @property
    def is_bound(self) -> bool:
        """True if its teachers see labels that the data hide: it is a bound, and no method to use."""
        return self.teachers is not None and self.teachers.sees_hidden


# PKDOT and MT-PKDOT have the weights of the papers.
METHODS: dict[str, Method] = {
    "none": Method({"task": 1.0}, None, about="labels only"),
    "pkdot": Method({"task": 1.0, "transport": 0.6}, about="the multimodal teacher"),
    "mtpkdot": Method(
        {"task": 0.8, "transport": 0.2, "centroid": 0.2},
        AdaptedTeachers,
        about="the multimodal and the adapted teachers, see selection",
    ),
    "mtpkdot_plus": Method(
        {"task": 1.0, "output": 3.0, "transport": 0.2},
        PooledTeachers,
        values="ccc",
        revision=3,
        about="the pool of networks, linear models and graphs, see the stage pool, for samples without a label; if no "
        "epoch of the student is better on held-out people, the final model predicts with the prevalent backbone",
    ),
    "mtpkdot_plus_2": Method(
        {"task": 1.0, "output": 3.0, "transport": 0.2},
        PooledNetworks,
        revision=2,
        about="the former mtpkdot_plus, for one version: the networks alone as a pool",
    ),
    "selftraining": Method(
        {"task": 1.0, "output": 3.0},
        OwnTeacher,
        values="ccc",
        revision=2,
        about="control without a privileged modality: the better of the prevalent backbone and the student after its "
        "warm-up, with the recipe of mtpkdot_plus",
    ),
    "labelprop": Method(
        {"task": 1.0, "output": 1.0},
        SpreadLabels,
        about="control without a privileged modality: labels spread in the space of the prevalent backbone",
    ),
    "oracle": Method(
        {"task": 1.0, "output": 3.0},
        HiddenLabels,
        values="ccc",
        about="bound to compare with, not to hand on: taught the labels that data.labelled_subjects hides; none where "
        "none is hidden",
    ),
    **{
        name: Method(
            {"task": 1.0, "rival": rival.weight},
            rival=rival,
            about=f"the multimodal teacher, by the loss {rival.__name__} from the literature",
        )
        for name, rival in RIVALS.items()
    },
    "rival": Method({"task": 1.0, "rival": 1.0}, about="the multimodal teacher, by a loss of your own, see rival"),
}


def find_method(name: str, key: str = "student.model.method") -> Method:
    """Return a method by its name in `METHODS`, or import one of the user.

    Args:
        name: the name, or the place of a `Method` in a module: `my_project.MY_METHOD`.
        key: key of the config that names it, for the error.

    Raises:
        ConfigError: there is no such method, or it is not one that can be trained with.

    Example:
        >>> find_method("pkdot").terms()
        {'task': 1.0, 'transport': 0.6}
    """
    if name in METHODS:
        return METHODS[name]
    module, dot, attribute = name.rpartition(".")
    if not dot:
        known = [*METHODS, AUTO]
        raise ConfigError(
            f"{key} is {name!r}, which is no method",
            f"{nearest(name, known)}Choose from {', '.join(known)}, or name one of your own: my_project.MY_METHOD.",
        )
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key} {name} cannot be imported ({error})", f"{_EXPECTED}.") from error
    if problem := next(_problems(found), ""):
        raise ConfigError(f"{key} {name} {problem}", f"{_EXPECTED}.")
    method: Method = found
    return method


def _problems(found: Any) -> Iterator[str]:
    """Yield faults of a method of the user, as the continuation of its name."""
    if not isinstance(found, Method):
        yield "is no Method"
        return
    if unknown := [term for term in found.weights if term not in get_args(Term)]:
        yield f"weighs a term {unknown[0]!r}, which is none of {', '.join(get_args(Term))}"
    kind = found.teachers
    if kind is None:
        return
    if not (isinstance(kind, type) and issubclass(kind, Teachers)):
        yield f"has the teachers {kind!r}, which is no subclass of Teachers"
        return
    if lacking := [each for each in dir(kind) if getattr(getattr(kind, each), "__isabstractmethod__", False)]:
        yield f"has the teachers {kind.__name__}, which lacks {', '.join(lacking)}"
    if unknown_stages := [stage for stage in kind.stages if stage not in PooledTeachers.stages]:
        yield f"needs the stage {unknown_stages[0]!r}: teachers are loaded from {', '.join(PooledTeachers.stages)}"
