"""Relational distillation (Park et al., "Relational knowledge distillation", CVPR 2019)."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision
from mtpkdot.losses.rivals.settings import not_negative
from mtpkdot.losses.task import Task

CHUNK = 2**20
"""Angles at a time: 4 MiB per tensor in float32, of which some tens live at once."""


class RelationalDistillation(FullPrecision):
    """Huber loss of the distances of all pairs and of the angles of all triples (RKD-DA).

    Distances are divided by their mean over the pairs of the batch. The cosine of the angle at sample j between i and k
    follows from the distances, `(d_ij^2 + d_kj^2 - d_ik^2) / (2 d_ij d_kj)`, so that B^3 angles cost no B^3 D products.
    They are computed in chunks, and again for the gradient, in memory of about B^2. Both terms are means over pairs and
    triples of distinct samples, where the equations have sums. Samples that coincide, to rounding, make no angle: its
    cosine is 0. Fewer than two samples have no distance, fewer than three no angle.

    Args:
        task: the task.
        student_dim: not used.
        teacher_dim: not used.
        distance: weight of the distances.
        angle: weight of the angles.

    Raises:
        ValueError: a weight out of range, or none that is positive.
    """

    def __init__(
        self, task: Task, student_dim: int, teacher_dim: int, *, distance: float = 1.0, angle: float = 2.0
    ) -> None:
        super().__init__(task, student_dim, teacher_dim)
        not_negative(distance=distance, angle=angle)
        if distance == angle == 0:
            raise ValueError("distance and angle must not both be 0")
        self.distance, self.angle = distance, angle

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the features; the labels are not read."""
        of_student, of_teacher = distances(student.feature), distances(teacher.feature)
        loss = self.distance * distance_loss(of_student, of_teacher)
        return loss + self.angle * angle_loss(of_student, of_teacher) if self.angle else loss


def distances(features: Tensor) -> Tensor:
    """Euclidean distances (B, B) of features (B, D), exactly 0 with zero gradient between equal rows."""
    # By products of matrices equal rows would come out apart, and with a direction.
    of_pairs: Tensor = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    return of_pairs / _or_one(of_pairs.detach().sum() / max(len(features), 1) ** 2)


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean Huber loss of the distances (B, B), each matrix divided by its mean over pairs."""
    pairs = max(len(student) * (len(student) - 1), 1)
    student, teacher = (matrix / _or_one(matrix.sum() / pairs) for matrix in (student, teacher))
    return F.huber_loss(student, teacher, reduction="sum") / pairs


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean Huber loss of the cosines of all angles between three samples, of which the distances (B, B) are given."""
    n = len(student)
    step = max(CHUNK // max(n * n, 1), 1)
    total = student.sum() * 0.0
    for start in range(0, n, step):
        chunk = checkpoint(
            _angles_at, student, teacher, start, start + step, use_reentrant=False, preserve_rng_state=False
        )
        total = total + chunk
    return total / max(n * (n - 1) * (n - 2), 1)


def _angles_at(student: Tensor, teacher: Tensor, start: int, end: int) -> Tensor:
    """Sum of the Huber losses of the angles at the samples from `start` to `end`."""
    loss = F.huber_loss(cosines(student, start, end), cosines(teacher, start, end), reduction="none")
    # Angles of a sample with itself are none: i = k here, while i = j and k = j have cosine 0 on both sides.
    return loss.sum() - loss.diagonal(dim1=1, dim2=2).sum()


def cosines(distance: Tensor, start: int, end: int) -> Tensor:
    """Cosines (V, B, B) of the angles at V vertices between all pairs of samples."""
    arms = distance[start:end]
    square = distance.square()
    legs = square[start:end]
    apart = arms > torch.finfo(arms.dtype).eps  # of the mean distance: what is nearer has no direction
    inverse = apart / arms.where(apart, torch.ones_like(arms))
    opposite = legs[:, :, None] + legs[:, None] - square
    return (0.5 * opposite * inverse[:, :, None] * inverse[:, None]).clamp(-1, 1)


def _or_one(x: Tensor) -> Tensor:
    return x.where(x > 0, torch.ones_like(x))
