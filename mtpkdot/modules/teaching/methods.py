"""The methods a student can be trained with: each in one place, with its loss terms, their weights and its teachers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from mtpkdot.losses.rivals import RIVALS, Rival
from mtpkdot.losses.weighting import Term
from mtpkdot.modules.teaching.base import Teachers
from mtpkdot.modules.teaching.controls import OwnTeacher, SpreadLabels
from mtpkdot.modules.teaching.joint import AdaptedTeachers, JointTeacher
from mtpkdot.modules.teaching.pooled import PooledTeachers

MethodName = Literal[
    "none",
    "pkdot",
    "mtpkdot",
    "mtpkdot_plus",
    "selftraining",
    "labelprop",
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
AUTO: Final = "auto"  # chosen by the data before anything is planned
MethodOrAuto = Literal[MethodName, "auto"]  # one Literal: errors of a union name no values


@dataclass(frozen=True)
class Method:
    """How a student is taught.

    Attributes:
        weights: of the loss terms; a term without weight is neither computed nor logged.
        teachers: who teaches; their class has the hooks of the training. None for labels alone.
        rival: the loss of the term `rival`; None for one of the user's own.
        revision: raise it where the same settings train another student than before, so that those that were trained
            earlier are not taken for it.
    """

    weights: Mapping[Term, float]
    teachers: type[Teachers] | None = JointTeacher
    rival: type[Rival] | None = None
    revision: int = 0

    def terms(self, weights: Mapping[Term, float] | None = None) -> dict[Term, float]:
        """Return the weight of every term that has one, the user's `weights` in place of the method's own.

        Example:
            >>> METHODS["mtpkdot"].terms({"centroid": 0.0, "output": 1.0})
            {'task': 0.8, 'transport': 0.2, 'output': 1.0}
        """
        merged: dict[Term, float] = {**self.weights, **(weights or {})}
        return {name: weight for name, weight in merged.items() if weight}

    def teachers_for(self, weights: Mapping[Term, float] | None = None) -> type[Teachers] | None:
        """Return who teaches under the user's `weights`; None where only labels do."""
        return self.teachers if self.terms(weights).keys() - {"task"} else None


def _named(rival: str) -> MethodName:
    """Return the name of a rival as that of its method; every rival is one."""
    return cast(MethodName, rival)


# The papers' weights for PKDOT and MT-PKDOT.
METHODS: dict[MethodName, Method] = {
    "none": Method({"task": 1.0}, None),
    "pkdot": Method({"task": 1.0, "transport": 0.6}),
    "mtpkdot": Method({"task": 0.8, "transport": 0.2, "centroid": 0.2}, AdaptedTeachers),
    "mtpkdot_plus": Method({"task": 1.0, "output": 3.0, "transport": 0.2}, PooledTeachers, revision=2),
    "selftraining": Method({"task": 1.0, "output": 1.0}, OwnTeacher, revision=1),
    "labelprop": Method({"task": 1.0, "output": 1.0}, SpreadLabels),
    **{_named(name): Method({"task": 1.0, "rival": rival.weight}, rival=rival) for name, rival in RIVALS.items()},
    "rival": Method({"task": 1.0, "rival": 1.0}),
}
