"""Which settings of a method go together."""

from collections.abc import Collection, Mapping
from typing import get_args

from mtpkdot.losses.weighting import Term, Weighting
from mtpkdot.modules.teacher import JOINT
from mtpkdot.modules.teaching.methods import METHODS, MethodName


def check_settings(
    name: MethodName,
    weights: Mapping[Term, float] | None,
    weighting: Weighting = "fixed",
    guarded: bool = False,
    queue: int = 0,
    own_rival: bool = False,
) -> None:
    """Check that a method and what is set beside it go together; all are arguments of the student's module.

    Args:
        name: of the method.
        weights: the user's weights of loss terms.
        weighting: how weights change in training.
        guarded: whether the selection of teachers has a trust of its own.
        queue: samples of earlier batches.
        own_rival: a rival's class is given.

    Raises:
        ValueError: naming the argument that is to be changed.
    """
    method = METHODS[name]
    if unknown := set(weights or ()) - set(get_args(Term)):
        raise ValueError(
            f"student.model.weights names {', '.join(sorted(unknown))}; choose from {', '.join(get_args(Term))}"
        )
    terms = method.terms(weights).keys()
    if not terms:
        raise ValueError("student.model.weights leaves no loss term with a weight")
    if method.teachers is None and terms != {"task"}:
        raise ValueError(f"student.model.weights needs a teacher, and method {name} has none; choose pkdot or mtpkdot")
    if queue < 0:
        raise ValueError(f"student.model.queue is 0 or more, not {queue}")
    if "rival" in terms and not own_rival and method.rival is None:
        raise ValueError(f"method {name} has no rival; name its class as student.model.rival")
    if own_rival and "rival" not in terms:
        raise ValueError(f"method {name} has no term rival; give it a weight, or leave student.model.rival out")
    if queue and not terms & {"transport", "centroid"}:
        raise ValueError(f"method {name} compares no structures; leave student.model.queue out")
    pooled = method.teachers is not None and method.teachers.pooled
    if pooled and (guarded or weighting == "uncertainty"):
        raise ValueError(f"{name} trusts by evidence; leave the selection's margin and weighting uncertainty out")


def chosen_teachers(name: MethodName, teachers: Collection[str] | None, modalities: Collection[str]) -> list[str]:
    """Return the names of a student's teachers, the joint one first.

    Args:
        name: of the method.
        teachers: the user's choice; None for all.
        modalities: of the data.

    Raises:
        ValueError: the method has no choice, or there is no such teacher.
    """
    known = [JOINT, *modalities]
    if teachers is None:
        return known
    kind = METHODS[name].teachers
    if kind is None or not kind.is_choice:
        raise ValueError(f"method {name} has no choice of teachers; leave student.model.teachers out")
    if not teachers or set(teachers) - set(known):
        raise ValueError(f"student.model.teachers is {teachers}; choose from {', '.join(known)}")
    return [each for each in known if each in teachers]
