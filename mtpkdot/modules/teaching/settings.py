"""Checks of the settings of a method, among each other and against the data."""

from collections.abc import Collection, Mapping
from typing import Any, get_args

from mtpkdot.data.base import BaseData
from mtpkdot.errors import ConfigError
from mtpkdot.losses.structure import StructuralLoss, StructuralTransport
from mtpkdot.losses.weighting import Term, Weighting
from mtpkdot.modules.teacher import JOINT
from mtpkdot.modules.teaching.methods import find_method


def check_settings(
    name: str,
    weights: Mapping[Term, float] | None,
    weighting: Weighting = "fixed",
    guarded: bool = False,
    queue: int = 0,
    own_rival: bool = False,
) -> None:
    """Check that the arguments of the student's module are consistent with its method.

    Args:
        name: name of the method.
        weights: the user's weights of loss terms.
        weighting: how weights change in training.
        guarded: whether the selection of teachers has a trust of its own.
        queue: number of samples of earlier batches.
        own_rival: whether the class of a rival is given.

    Raises:
        ValueError: the arguments are inconsistent; the error names the argument to change.
    """
    method = find_method(name)
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


def chosen_teachers(name: str, teachers: Collection[str] | None, modalities: Collection[str]) -> list[str]:
    """Return the names of a student's teachers, the joint one first.

    Args:
        name: name of the method.
        teachers: the user's choice; None for all.
        modalities: names of the modalities of the data.

    Raises:
        ValueError: the method has no choice of teachers, or a name is unknown.
    """
    known = [JOINT, *modalities]
    if teachers is None:
        return known
    kind = find_method(name).teachers
    if kind is None or not kind.is_choice:
        raise ValueError(f"method {name} has no choice of teachers; leave student.model.teachers out")
    if not teachers or set(teachers) - set(known):
        raise ValueError(f"student.model.teachers is {teachers}; choose from {', '.join(known)}")
    return [each for each in known if each in teachers]


def check_batches(section: Mapping[str, Any], data: BaseData) -> None:
    """Check that batches are large enough to have a structure, and that the queue is shorter than the data.

    Args:
        section: section of the student, with `model` and `fit`.
        data: the data set, already read.

    Raises:
        ConfigError: they are not, or the held-out people that the method needs are trained on; the error names the key.
    """
    student, method = section["model"], find_method(section["model"]["method"])
    teachers = method.teachers_for(student["weights"])
    if teachers is None:
        return
    if data.validation_labels == "train" and (teachers.is_weighed or teachers.keeps_better):
        raise ConfigError(
            f"student.model.method {student['method']} needs held-out people, and data.validation_labels is train",
            "Set data.init_args.validation_labels to select, or choose another method.",
        )
    batch, rows = _rows(data, section["fit"]["batch_size"] or data.batch_size)
    if method.terms(student["weights"]).keys() & {"transport", "centroid"} and batch < 2:
        raise ConfigError(
            f"student.model.method {student['method']} compares the samples of a batch, but a batch has {batch}",
            "Raise data.init_args.batch_size or student.fit.batch_size to 2 or more, or choose the method kd or none.",
        )
    if student["queue"] >= rows:
        raise ConfigError(
            f"student.model.queue is {student['queue']}, but there are {rows} rows for training",
            f"Set --student.model.queue below {rows}, for beyond them it holds nothing new.",
        )


def check_structure(structure: StructuralLoss, data: BaseData, batch_size: int, key: str) -> None:
    """Check that batches have enough rows for the structural loss.

    Args:
        structure: the structural loss.
        data: the data set, already read.
        batch_size: samples per batch.
        key: key of the loss in the config.

    Raises:
        ConfigError: batches are too small; the error names the key.
    """
    batch, _ = _rows(data, batch_size)
    if batch >= structure.smallest_batch:
        return
    if isinstance(structure, StructuralTransport):
        raise ConfigError(
            f"{key}.top_k is {structure.top_k}, but a batch has {batch} rows",
            f"Set --{key}.top_k to {batch - 1} or less, or raise data.init_args.batch_size.",
        )
    raise ConfigError(
        f"{key} {type(structure).__name__} needs batches of {structure.smallest_batch} rows, and a batch has {batch}",
        "Raise data.init_args.batch_size.",
    )


def _rows(data: BaseData, batch_size: int) -> tuple[int, int]:
    """Return the number of rows of a batch and of the training part."""
    samples = len(data.positions("train"))
    steps = data.samples.labelled.shape[1] if data.per_step else 1
    return min(batch_size, samples) * steps, samples * steps
