"""The methods a student can be trained with: which terms its loss has, and with which weights."""

from collections.abc import Mapping
from typing import Literal

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
Term = Literal["task", "transport", "centroid", "output", "rival"]

# The papers' weights for PKDOT and MT-PKDOT. For the rivals those of the comparison by Tian et al. (ICLR 2020), made on
# feature maps, where it has the method, and 1 elsewhere. A term without weight is neither computed nor logged.
WEIGHTS: dict[Method, dict[Term, float]] = {
    "none": {"task": 1.0},
    "pkdot": {"task": 1.0, "transport": 0.6},
    "mtpkdot": {"task": 0.8, "transport": 0.2, "centroid": 0.2},
    "mtpkdot_plus": {"task": 1.0, "output": 3.0, "transport": 0.2},
    "selftraining": {"task": 1.0, "output": 1.0},
    "labelprop": {"task": 1.0, "output": 1.0},
    "kd": {"task": 1.0, "rival": 1.0},
    "fitnets": {"task": 1.0, "rival": 100.0},
    "pkd": {"task": 1.0, "rival": 1.0},
    "at": {"task": 1.0, "rival": 1000.0},
    "sp": {"task": 1.0, "rival": 3000.0},
    "rkd": {"task": 1.0, "rival": 1.0},
    "cc": {"task": 1.0, "rival": 0.02},
    "nst": {"task": 1.0, "rival": 50.0},
    "vid": {"task": 1.0, "rival": 1.0},
    "crd": {"task": 1.0, "rival": 0.8},
    "dkd": {"task": 1.0, "rival": 1.0},
    "lupi": {"task": 1.0, "rival": 1.0},
    "m2pkd": {"task": 1.0, "rival": 1.0},
    "rival": {"task": 1.0, "rival": 1.0},
}

# Raise it where the same settings train another student than before: what was trained earlier is not taken for it.
REVISIONS: dict[Method, int] = {"selftraining": 1, "mtpkdot_plus": 2}

TeacherKind = Literal["joint", "adapted", "pooled", "own", "spread"]


def teachers_of(method: Method) -> TeacherKind:
    """Who teaches: the multimodal teacher; it and the adapted ones, by choice or pooled; or no privileged modality."""
    others: dict[Method, TeacherKind] = {
        "mtpkdot": "adapted",
        "mtpkdot_plus": "pooled",
        "selftraining": "own",
        "labelprop": "spread",
    }
    return others.get(method, "joint")


def term_weights(method: Method, weights: Mapping[Term, float] | None) -> dict[Term, float]:
    """The method's weights, with the user's in place of its own; terms without weight are left out."""
    merged: dict[Term, float] = {**WEIGHTS[method], **(weights or {})}
    return {name: weight for name, weight in merged.items() if weight}


def needs_teachers(method: Method, weights: Mapping[Term, float] | None) -> bool:
    """Whether a student is trained with teachers at hand; with `none` never."""
    return method != "none" and any(name != "task" for name in term_weights(method, weights))
