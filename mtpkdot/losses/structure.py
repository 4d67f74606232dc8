"""The distillation loss: the student's similarity structure is transported onto the teacher's."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtpkdot.losses.similarity import anchored, centroid_distance, cosine_matrix
from mtpkdot.losses.transport import Solver, sinkhorn_divergence


@dataclass(frozen=True)
class Structure:
    """The terms of the structural loss of one batch.

    Attributes:
        transport: scalar Sinkhorn divergence between the anchored similarity matrices.
        centroid: scalar distance of the mean rows of the full similarity matrices.
        marginal_error: how far the transport plans are from their marginals (L1), 0 when solved exactly.
        iterations: sweeps of the solver.
    """

    transport: Tensor
    centroid: Tensor
    marginal_error: Tensor
    iterations: int


class StructuralTransport(nn.Module):
    """Optimal transport between the similarity structures of a teacher and a student (PKDOT, arXiv 2401.15489).

    Cosine-similarity matrices of both, reduced to the columns of the teacher's `top_k` least similar batch-mates of
    every sample, are taken as two clouds of B points in R^k and compared by a debiased Sinkhorn divergence. As
    published, the clouds carry no pairing: a permutation of the teacher's rows leaves the transport term unchanged.

    Args:
        top_k: anchors per sample. Batches of fewer than `top_k + 1` samples use all others.
        eps: entropic regularisation, in the unit of half the squared distance between rows.
        tol: L1 marginal error at which the solver stops.
        max_iter: limit on the solver's sweeps.
        solver: `native` or `pot`.
    """

    def __init__(
        self, top_k: int = 30, eps: float = 0.01, tol: float = 1e-3, max_iter: int = 500, solver: Solver = "native"
    ) -> None:
        super().__init__()
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {top_k}")
        if eps <= 0:
            raise ValueError(f"eps must be positive, not {eps}")
        self.top_k, self.eps, self.tol, self.max_iter, self.solver = top_k, eps, tol, max_iter, solver

    def forward(self, student: Tensor, teacher: Tensor) -> Structure:
        """Compare two batches of features.

        Args:
            student: (B, D_s) features, row i is sample i. Gradients flow here.
            teacher: (B, D_t) features of the same samples; detached.

        Returns:
            Both terms and the solver's record. A batch of one sample has no structure: its terms are 0.
        """
        if len(student) != len(teacher):
            raise ValueError(f"student and teacher must see the same samples, not {len(student)} and {len(teacher)}")
        with torch.autocast(device_type=student.device.type, enabled=False):
            student, teacher = _at_least_float32(student), _at_least_float32(teacher.detach())
            if len(student) < 2:
                zero = student.sum() * 0.0
                return Structure(zero, zero, zero.detach(), 0)
            of_teacher, of_student = cosine_matrix(teacher), cosine_matrix(student)
            k = min(self.top_k, len(student) - 1)
            solved = sinkhorn_divergence(
                *anchored(of_teacher, of_student, k), self.eps, self.tol, self.max_iter, self.solver
            )
            return Structure(
                solved.value, centroid_distance(of_teacher, of_student), solved.marginal_error, solved.iterations
            )


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
