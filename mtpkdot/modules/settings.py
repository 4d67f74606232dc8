"""Which settings of a method go together, and with the data."""

from collections.abc import Mapping
from typing import Any, get_args

from mtpkdot.data.base import BaseData
from mtpkdot.errors import ConfigError
from mtpkdot.losses.methods import Method, Term, needs_teachers, term_weights
from mtpkdot.losses.rivals import RIVALS
from mtpkdot.losses.weighting import Weighting


def check_settings(
    method: Method,
    weights: Mapping[Term, float] | None,
    weighting: Weighting = "fixed",
    margin: float | None = None,
    queue: int = 0,
    own_rival: bool = False,
) -> None:
    """See that a method and what is set beside it go together; all are arguments of the student's module.

    Args:
        method: the method.
        weights: the user's weights of loss terms.
        weighting: how weights change in training.
        margin: of the trust in a teacher's loss.
        queue: samples of earlier batches.
        own_rival: a rival's class is given.

    Raises:
        ValueError: naming the argument that is to be changed.
    """
    if unknown := set(weights or ()) - set(get_args(Term)):
        raise ValueError(
            f"student.model.weights names {', '.join(sorted(unknown))}; choose from {', '.join(get_args(Term))}"
        )
    terms = term_weights(method, weights).keys()
    if not terms:
        raise ValueError("student.model.weights leaves no loss term with a weight")
    if method == "none" and terms != {"task"}:
        raise ValueError("student.model.weights needs a teacher, and method none has none; choose pkdot or mtpkdot")
    if queue < 0:
        raise ValueError(f"student.model.queue is 0 or more, not {queue}")
    if "rival" in terms and not own_rival and method not in RIVALS:
        raise ValueError(f"method {method} has no rival; name its class as student.model.rival")
    if own_rival and "rival" not in terms:
        raise ValueError(f"method {method} has no term rival; give it a weight, or leave student.model.rival out")
    if queue and not terms & {"transport", "centroid"}:
        raise ValueError(f"method {method} compares no structures; leave student.model.queue out")
    if method == "mtpkdot_plus" and (margin is not None or weighting == "uncertainty"):
        raise ValueError("mtpkdot_plus trusts by evidence; leave student.model.margin and weighting uncertainty out")


def check_batches(section: Mapping[str, Any], data: BaseData) -> None:
    """Stop at settings of the structural loss that the batches cannot serve.

    Args:
        section: the student's section, with `model` and `fit`.
        data: the data set, read.

    Raises:
        ConfigError: naming the key.
    """
    student = section["model"]
    size = section["fit"]["batch_size"] or data.batch_size
    samples = len(data.positions("train"))
    steps = data.samples.labelled.shape[1] if data.per_step else 1
    batch, rows = min(size, samples) * steps, samples * steps
    if not needs_teachers(student["method"], student["weights"]):
        return
    by_anchors = student["mode"] in ("rows", "paired") and student["anchors"] != "all"
    structural = term_weights(student["method"], student["weights"]).keys() & {"transport", "centroid"}
    if structural and batch < 2:
        raise ConfigError(
            f"student.model.method {student['method']} compares the samples of a batch, but a batch has {batch}",
            "Raise data.init_args.batch_size or student.fit.batch_size to 2 or more, or choose the method kd or none.",
        )
    if structural and by_anchors and student["top_k"] >= batch:
        raise ConfigError(
            f"student.model.top_k is {student['top_k']}, but a batch has {batch} rows",
            f"Set --student.model.top_k to {batch - 1} or less, or raise data.init_args.batch_size.",
        )
    if student["queue"] >= rows:
        raise ConfigError(
            f"student.model.queue is {student['queue']}, but there are {rows} rows for training",
            f"Set --student.model.queue below {rows}, for beyond them it holds nothing new.",
        )
