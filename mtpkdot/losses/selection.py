"""Which of several teachers a batch is distilled from (MT-PKDOT, arXiv 2408.09035)."""

from collections.abc import Mapping

from torch import Tensor


def select_teacher(losses: Mapping[str, Tensor], fallback: str) -> str:
    """The teacher with the lowest task loss on the labels of the batch.

    Args:
        losses: task loss per teacher, each a scalar; empty for a batch without labels. Ties go to the first named.
        fallback: the teacher of a batch that has no labels to judge by.

    Returns:
        The name of the teacher.
    """
    if not losses:
        return fallback
    return min(losses, key=lambda name: float(losses[name]))
