"""The methods a student can be trained with: which terms its loss has, and with which weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Method = Literal[
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
MethodOrAuto = Literal[Method, "auto"]  # one Literal: errors of a union name no values
Term = Literal["task", "transport", "centroid", "output", "rival"]

TeacherKind = Literal["joint", "adapted", "pooled", "own", "spread"]


@dataclass(frozen=True)
class Recipe:
    """What a method is made of.

    Attributes:
        weights: of the loss terms; a term without weight is neither computed nor logged.
        teachers: who teaches: the multimodal teacher; it and the adapted ones, by choice or pooled; or no privileged
            modality.
        revision: raise it where the same settings train another student than before, so that those that were trained
            earlier are not taken for it.
    """

    weights: Mapping[Term, float]
    teachers: TeacherKind = "joint"
    revision: int = 0


# The papers' weights for PKDOT and MT-PKDOT. For the rivals those of the comparison by Tian et al. (ICLR 2020), made on
# feature maps, where it has the method, and 1 elsewhere.
RECIPES: dict[Method, Recipe] = {
    "none": Recipe({"task": 1.0}),
    "pkdot": Recipe({"task": 1.0, "transport": 0.6}),
    "mtpkdot": Recipe({"task": 0.8, "transport": 0.2, "centroid": 0.2}, "adapted"),
    "mtpkdot_plus": Recipe({"task": 1.0, "output": 3.0, "transport": 0.2}, "pooled", revision=2),
    "selftraining": Recipe({"task": 1.0, "output": 1.0}, "own", revision=1),
    "labelprop": Recipe({"task": 1.0, "output": 1.0}, "spread"),
    "kd": Recipe({"task": 1.0, "rival": 1.0}),
    "fitnets": Recipe({"task": 1.0, "rival": 100.0}),
    "pkd": Recipe({"task": 1.0, "rival": 1.0}),
    "at": Recipe({"task": 1.0, "rival": 1000.0}),
    "sp": Recipe({"task": 1.0, "rival": 3000.0}),
    "rkd": Recipe({"task": 1.0, "rival": 1.0}),
    "cc": Recipe({"task": 1.0, "rival": 0.02}),
    "nst": Recipe({"task": 1.0, "rival": 50.0}),
    "vid": Recipe({"task": 1.0, "rival": 1.0}),
    "crd": Recipe({"task": 1.0, "rival": 0.8}),
    "dkd": Recipe({"task": 1.0, "rival": 1.0}),
    "lupi": Recipe({"task": 1.0, "rival": 1.0}),
    "m2pkd": Recipe({"task": 1.0, "rival": 1.0}),
    "rival": Recipe({"task": 1.0, "rival": 1.0}),
}
WEIGHTS: dict[Method, Mapping[Term, float]] = {method: recipe.weights for method, recipe in RECIPES.items()}


def teachers_of(method: Method) -> TeacherKind:
    """Who teaches, see `Recipe`."""
    return RECIPES[method].teachers


def term_weights(method: Method, weights: Mapping[Term, float] | None) -> dict[Term, float]:
    """The method's weights, with the user's in place of its own; terms without weight are left out."""
    merged: dict[Term, float] = {**RECIPES[method].weights, **(weights or {})}
    return {name: weight for name, weight in merged.items() if weight}


def needs_teachers(method: Method, weights: Mapping[Term, float] | None) -> bool:
    """Whether a student is trained with teachers at hand; with `none` never."""
    return method != "none" and any(name != "task" for name in term_weights(method, weights))
