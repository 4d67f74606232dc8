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
"""Angles per chunk: 4 MiB per tensor in float32, of which several tens exist at once."""


class RelationalDistillation(FullPrecision):
    """Huber loss of the distances of all pairs and of the angles of all triples (RKD-DA).

    Distances are divided by their mean over the pairs of the batch. The cosine of the angle at sample j between i and k
    is computed from the distances, `(d_ij^2 + d_kj^2 - d_ik^2) / (2 d_ij d_kj)`, which avoids B^3 D products. Angles
    are computed in chunks, and again in the backward pass, in memory of about B^2. Both terms are means over pairs and
    triples of distinct samples, where the equations have sums. The cosine is 0 where two samples are equal up to
    rounding. A term is 0 for a batch without pairs or triples.

    Args:
        task: the task.
        student_dim: not used.
        teacher_dim: not used.
        distance: weight of the term of distances.
        angle: weight of the term of angles.

    Raises:
        ValueError: a weight is out of range, or none is positive.
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
        """Compare the features; labels are not used."""
        of_student, of_teacher = distances(student.feature), distances(teacher.feature)
        loss = self.distance * distance_loss(of_student, of_teacher)
        return loss + self.angle * angle_loss(of_student, of_teacher) if self.angle else loss


def distances(features: Tensor) -> Tensor:
    """Return the Euclidean distances (B, B) of features (B, D), exactly 0 with zero gradient between equal rows."""
    # Matrix products would give equal rows a distance above 0, with a gradient.
    of_pairs: Tensor = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    return of_pairs / _or_one(of_pairs.detach().sum() / max(len(features), 1) ** 2)


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean Huber loss of the distances (B, B), each matrix divided by its mean over pairs."""
    pairs = max(len(student) * (len(student) - 1), 1)
    student, teacher = (matrix / _or_one(matrix.sum() / pairs) for matrix in (student, teacher))
    return F.huber_loss(student, teacher, reduction="sum") / pairs


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean Huber loss of the cosines of all angles between three samples, from their distances (B, B)."""
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
    """Return the sum of the Huber losses of the angles at the samples from `start` to `end`."""
    loss = F.huber_loss(cosines(student, start, end), cosines(teacher, start, end), reduction="none")
    # Excludes i = k, which is not an angle; i = j and k = j contribute nothing, with cosine 0 on both sides.
    return loss.sum() - loss.diagonal(dim1=1, dim2=2).sum()


def cosines(distance: Tensor, start: int, end: int) -> Tensor:
    """Return the cosines (V, B, B) of the angles at V samples, `start` to `end`, between all pairs of samples."""
    arms = distance[start:end]
    square = distance.square()
    legs = square[start:end]
    apart = arms > torch.finfo(arms.dtype).eps  # relative to the mean distance; nearer samples count as equal
    inverse = apart / arms.where(apart, torch.ones_like(arms))
    opposite = legs[:, :, None] + legs[:, None] - square
    return (0.5 * opposite * inverse[:, :, None] * inverse[:, None]).clamp(-1, 1)


def _or_one(x: Tensor) -> Tensor:
    return x.where(x > 0, torch.ones_like(x))
