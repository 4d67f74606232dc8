"""Which settings of a method go together."""

from collections.abc import Mapping
from typing import get_args

from mtpkdot.losses.methods import Method, Term, term_weights
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
