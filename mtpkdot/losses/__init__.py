"""Losses in plain torch, usable in any training loop."""

from mtpkdot.losses.gather import gather_rows
from mtpkdot.losses.gromov import gromov_wasserstein
from mtpkdot.losses.hallucination import hallucination_loss, mmd
from mtpkdot.losses.queue import FeatureQueue
from mtpkdot.losses.selection import select_teacher
from mtpkdot.losses.similarity import anchored, centroid_distance, choose_anchors, cosine_matrix, similarity_matrix
from mtpkdot.losses.structure import StructuralTransport, Structure
from mtpkdot.losses.task import Task, concordance, output_loss, task_loss
from mtpkdot.losses.transport import Divergence, SinkhornDivergence

__all__ = [
    "Divergence",
    "FeatureQueue",
    "SinkhornDivergence",
    "StructuralTransport",
    "Structure",
    "Task",
    "anchored",
    "centroid_distance",
    "choose_anchors",
    "concordance",
    "cosine_matrix",
    "gather_rows",
    "gromov_wasserstein",
    "hallucination_loss",
    "mmd",
    "output_loss",
    "select_teacher",
    "similarity_matrix",
    "task_loss",
]
