"""Which of several teachers a batch is distilled from (MT-PKDOT, arXiv 2408.09035)."""

from collections.abc import Mapping

from torch import Tensor


def select_teacher(losses: Mapping[str, Tensor], fallback: str) -> str:
    """The teacher with the lowest task loss on the labels of the batch.

    Args:
        losses: task loss per teacher, each a scalar; empty for a batch without labels. Ties go to the first named, and
            a teacher whose loss is not finite is not chosen.
        fallback: the teacher of a batch that has no labels to judge by.

    Returns:
        The name of the teacher.
    """
    finite = {name: float(loss.detach()) for name, loss in losses.items() if bool(loss.isfinite())}
    return min(finite, key=lambda name: finite[name]) if finite else fallback
