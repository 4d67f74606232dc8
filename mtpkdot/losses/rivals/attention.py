"""Attention transfer (Zagoruyko and Komodakis, "Paying more attention to attention", ICLR 2017)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision, mean_over_rows
from mtpkdot.losses.similarity import unit_rows
from mtpkdot.losses.task import Task


class AttentionTransfer(FullPrecision):
    """Mean squared distance of the normalised attention maps over samples (equation 2).

    The paper's map sums `|activation|^p` over the channels and keeps the positions. A pooled feature has neither and is
    used as a map with one channel and D positions: `|f|^p`, L2-normalised. If the sizes differ, adaptive average
    pooling reduces the larger map to the smaller size before both are normalised. The order of a feature's coordinates
    has no meaning, so that pooling mixes coordinates that happen to be adjacent. The squared distance, which is smooth,
    replaces the equation's distance. A zero map stays 0.

    Args:
        task: the task.
        student_dim: size of the student's feature.
        teacher_dim: size of the teacher's feature.
        p: exponent of the map, at least 1; below 1 the gradient at 0 is unbounded.

    Raises:
        ValueError: the exponent is out of range.
    """

    student_pool: Tensor | None
    teacher_pool: Tensor | None

    weight: ClassVar[float] = 1000.0  # of the comparison by Tian et al. (ICLR 2020), on feature maps

    def __init__(self, task: Task, student_dim: int, teacher_dim: int, *, p: float = 2.0) -> None:
        super().__init__(task, student_dim, teacher_dim)
        if not 1 <= p < float("inf"):
            raise ValueError(f"p must be finite and at least 1, not {p}")
        self.p = p
        size = min(student_dim, teacher_dim)
        for name, dim in (("student_pool", student_dim), ("teacher_pool", teacher_dim)):
            # Pooling is linear; as a matrix it has a deterministic gradient on a GPU, which the kernel has not.
            pool = None if dim == size else F.adaptive_avg_pool1d(torch.eye(dim)[:, None], size)[:, 0]
            self.register_buffer(name, pool, persistent=False)

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the features; labels are not used."""
        difference = self._map(student.feature, self.student_pool) - self._map(teacher.feature, self.teacher_pool)
        return mean_over_rows(difference.square().sum(dim=1))

    def _map(self, feature: Tensor, pool: Tensor | None) -> Tensor:
        # Dividing by a common factor first keeps the powers in range; the factor and its gradient cancel.
        size = feature.detach().abs().amax(dim=1, keepdim=True)
        attention = (feature / size.where(size > 0, torch.ones_like(size))).abs() ** self.p
        return unit_rows(attention if pool is None else attention @ pool.to(attention.dtype))
