"""Registry of the methods that train a student, each with its loss terms, weights and teachers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from mtpkdot.losses.rivals import RIVALS, Rival
from mtpkdot.losses.task import ValueLoss
from mtpkdot.losses.weighting import Term
from mtpkdot.modules.teaching.base import Teachers
from mtpkdot.modules.teaching.controls import HiddenLabels, OwnTeacher, SpreadLabels
from mtpkdot.modules.teaching.joint import AdaptedTeachers, JointTeacher
from mtpkdot.modules.teaching.pooled import PooledNetworks, PooledTeachers

MethodName = Literal[
    "none",
    "pkdot",
    "mtpkdot",
    "mtpkdot_plus",
    "mtpkdot_plus_2",
    "selftraining",
    "labelprop",
    "oracle",
    "kd",
    "fitnets",
    "pkd",
    "at",
    "sp",
    "rkd",
    "cc",
    "nst",
    "vid",
    "crd",
    "dkd",
    "lupi",
    "m2pkd",
    "rival",
]
BOUND = "a bound to compare with and no model to hand on"
AUTO: Final = "auto"  # replaced by a method according to the data, before the stages are planned
MethodOrAuto = Literal[MethodName, "auto"]  # a single Literal, since errors about a union do not list the values


@dataclass(frozen=True)
class Method:
    """Definition of a method: loss terms, teachers and rival.

    Attributes:
        weights: weights of the loss terms; a term without weight is neither computed nor logged.
        teachers: class of the teachers, with the hooks of their life cycle; None to learn from labels only.
        rival: loss of the term `rival`; None if the user names it.
        values: loss of the teachers' values in the term `output`, see `mtpkdot.losses.task.output_loss`.
        revision: number to increase if the same settings train a different student than before, so that students
            trained earlier are not reused.
    """

    weights: Mapping[Term, float]
    teachers: type[Teachers] | None = JointTeacher
    rival: type[Rival] | None = None
    values: ValueLoss = "squared"
    revision: int = 0

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


def _named(rival: str) -> MethodName:
    """Return the name of a rival, typed as the name of its method."""
    return cast(MethodName, rival)


# PKDOT and MT-PKDOT have the weights of the papers.
METHODS: dict[MethodName, Method] = {
    "none": Method({"task": 1.0}, None),
    "pkdot": Method({"task": 1.0, "transport": 0.6}),
    "mtpkdot": Method({"task": 0.8, "transport": 0.2, "centroid": 0.2}, AdaptedTeachers),
    "mtpkdot_plus": Method({"task": 1.0, "output": 3.0, "transport": 0.2}, PooledTeachers, values="ccc", revision=3),
    "mtpkdot_plus_2": Method({"task": 1.0, "output": 3.0, "transport": 0.2}, PooledNetworks, revision=2),
    "selftraining": Method({"task": 1.0, "output": 3.0}, OwnTeacher, values="ccc", revision=2),
    "labelprop": Method({"task": 1.0, "output": 1.0}, SpreadLabels),
    "oracle": Method({"task": 1.0, "output": 3.0}, HiddenLabels, values="ccc"),
    **{_named(name): Method({"task": 1.0, "rival": rival.weight}, rival=rival) for name, rival in RIVALS.items()},
    "rival": Method({"task": 1.0, "rival": 1.0}),
}
