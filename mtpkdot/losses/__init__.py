"""Losses in plain torch: usable in any training loop."""

from mtpkdot.losses.hallucination import hallucination_loss, mmd
from mtpkdot.losses.selection import select_teacher
from mtpkdot.losses.similarity import anchored, centroid_distance, cosine_matrix, least_similar
from mtpkdot.losses.structure import StructuralTransport, Structure
from mtpkdot.losses.task import Task, concordance, output_loss, task_loss
from mtpkdot.losses.transport import Divergence, sinkhorn_divergence

__all__ = [
    "Divergence",
    "StructuralTransport",
    "Structure",
    "Task",
    "anchored",
    "centroid_distance",
    "concordance",
    "cosine_matrix",
    "hallucination_loss",
    "least_similar",
    "mmd",
    "output_loss",
    "select_teacher",
    "sinkhorn_divergence",
    "task_loss",
]
