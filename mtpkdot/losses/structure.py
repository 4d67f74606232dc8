"""Structural distillation losses, which compare the similarity structures of a student and a teacher."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mtpkdot.losses.gather import gather_rows
from mtpkdot.losses.gromov import gromov_wasserstein
from mtpkdot.losses.similarity import Anchors, Kernel, anchored, centroid_distance, choose_anchors, similarity_matrix
from mtpkdot.losses.transport import SinkhornDivergence, Solver

Mode = Literal["rows", "paired", "gromov", "fused"]


@dataclass(frozen=True)
class Structure:
    """Terms of the structural loss of one batch.

    Attributes:
        transport: scalar distance between the similarity structures.
        centroid: scalar distance of the mean rows of the full similarity matrices.
        marginal_error: L1 error of the transport plans' marginals, 0 if solved exactly.
        iterations: number of iterations of the solver.

    Example:
        >>> terms = StructuralTransport(top_k=2)(torch.eye(4), torch.eye(4))
        >>> round(terms.transport.item(), 6), round(terms.centroid.item(), 6)
        (0.0, 0.0)
    """

    transport: Tensor
    centroid: Tensor
    marginal_error: Tensor
    iterations: int


class StructuralLoss(nn.Module):
    """Base of the structural losses, which compare the similarities among the samples of a batch in two spaces.

    Attributes:
        gathered: True if the rows passed to `forward` are those of all processes; set by the student.

    Example:
        >>> class Gram(StructuralLoss):
        ...     def forward(self, student, teacher, weights=None, past=None):
        ...         own, theirs = (torch.nn.functional.normalize(x, dim=1) for x in (student, teacher.detach()))
        ...         distance = (own @ own.T - theirs @ theirs.T).square().mean()
        ...         return Structure(distance, distance * 0, distance.detach() * 0, 0)
        >>> x = torch.eye(4)
        >>> float(Gram()(x, 2 * x).transport)
        0.0
    """

    def __init__(self) -> None:
        super().__init__()
        self.gathered = False

    @property
    def smallest_batch(self) -> int:
        """Smallest number of rows of a batch."""
        return 2

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        weights: Tensor | None = None,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> Structure:
        """Compare two batches of features.

        Args:
            student: (B, D_s) features of the student, with gradients.
            teacher: (B, D_t) features of the teacher on the same samples; detached.
            weights: (B,) weights of the samples, not negative; None for equal weights. Samples of weight 0 are ignored.
            past: features (Q, D_s) of the student and (Q, D_t) of the teacher on earlier samples, which the batch is
                compared with as well; detached, of the mean weight, and the same on all processes.

        Returns:
            The terms, and the error and iterations of the solver. The terms of a batch of one sample are 0.
        """
        raise NotImplementedError


StructureFactory = Callable[[], StructuralLoss]


class StructuralTransport(StructuralLoss):
    """Optimal transport between the similarity structures of a teacher and a student (PKDOT, arXiv 2401.15489).

    Both similarity matrices are reduced to k columns per sample, the anchors that the teacher's similarities choose.
    Their rows form two clouds of B points in R^k.

    Args:
        top_k: anchors per sample. A batch of fewer than `top_k + 1` samples uses all other samples.
        eps: entropic regularisation of the mode `rows`, in the unit of half the squared distance between rows.
        tol: L1 marginal error at which the solver stops.
        max_iter: limit on the solver's iterations.
        solver: `native`, `pot` or `exact`, see `SinkhornDivergence`.
        mode: `rows` is the papers' Sinkhorn divergence between the clouds. It ignores the pairing: a permutation of the
            teacher's rows leaves it unchanged. `paired` compares row i with row i, `mean |t_i - s_i|^2 / 2`. `gromov`
            is the Gromov-Wasserstein distance of the whole matrices, without anchors and pairing, and `fused` adds a
            price for leaving the pairing; POT solves both on the CPU, O(B^3) per step.
        kernel: similarity: `cosine` (the papers'), `centred` or `rbf`, see `similarity_matrix`.
        anchors: the `least` similar (the papers'), the `most` similar, `random` ones or `all`.
        relative_eps: give `eps` as a fraction of the largest cost between any two rows.
        reach: see `SinkhornDivergence`.
        pairing: price p in (0, 1] of the mode `fused` for mass that leaves its own sample; the structures have the
            weight 1 - p.
        gather: gather the rows of all processes.
        gathered: the rows passed to `forward` are already those of all processes.

    Example:
        >>> features = torch.randn(8, 16, requires_grad=True)
        >>> terms = StructuralTransport(top_k=4)(features, torch.randn(8, 32))
        >>> (0.2 * terms.transport + 0.2 * terms.centroid).backward()
        >>> features.grad.shape
        torch.Size([8, 16])
    """

    def __init__(
        self,
        top_k: int = 30,
        eps: float = 0.01,
        tol: float = 3e-7,
        max_iter: int = 1000,
        solver: Solver = "native",
        mode: Mode = "rows",
        kernel: Kernel = "cosine",
        anchors: Anchors = "least",
        relative_eps: bool = False,
        reach: float | None = None,
        pairing: float = 0.5,
        gather: bool = True,
        gathered: bool = False,
    ) -> None:
        super().__init__()
        if type(top_k) is not int or top_k < 1:
            raise ValueError(f"top_k must be a whole number of at least 1, not {top_k}")
        for name, value, known in (("mode", mode, Mode), ("kernel", kernel, Kernel), ("anchors", anchors, Anchors)):
            if value not in get_args(known):
                raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, not {value!r}")
        if not 0 < pairing <= 1:
            raise ValueError(f"pairing must lie in (0, 1], not {pairing}")
        self.top_k, self.mode, self.kernel, self.anchors = top_k, mode, kernel, anchors
        self.pairing, self.gather, self.gathered = pairing, gather, gathered
        self.divergence = SinkhornDivergence(
            eps, relative_eps, cost="euclidean", reach=reach, tol=tol, max_iter=max_iter, solver=solver
        )

    @property
    def smallest_batch(self) -> int:
        """Smallest number of rows of a batch: one more than the anchors, if anchors are chosen."""
        return self.top_k + 1 if self.mode in ("rows", "paired") and self.anchors != "all" else 2

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        weights: Tensor | None = None,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> Structure:
        """Compare two batches of features, see `StructuralLoss`."""
        if len(student) != len(teacher) or (weights is not None and weights.shape != student.shape[:1]):
            raise ValueError(
                f"student, teacher and weights must see the same samples, not {len(student)}, {len(teacher)}"
                + ("" if weights is None else f" and {tuple(weights.shape)}")
            )
        with torch.autocast(device_type=student.device.type, enabled=False):
            student, teacher = _at_least_float32(student), _at_least_float32(teacher.detach())
            weights = None if weights is None else weights.detach().to(student.dtype)
            if self.gather and not self.gathered:
                everything = gather_rows(student, teacher, *([] if weights is None else [weights]))
                student, teacher = everything[:2]
                weights = weights if weights is None else everything[2]
            if weights is not None:
                heavy = weights > 0
                student, teacher, weights = student[heavy], teacher[heavy], weights[heavy]
                if not len(student):
                    return _nothing(student)
            if past is not None:
                student = torch.cat([student, past[0].detach().to(student.dtype)])
                teacher = torch.cat([teacher, past[1].detach().to(teacher.dtype)])
                if weights is not None:
                    weights = torch.cat([weights, weights.mean().expand(len(past[0]))])
            if len(student) < 2:
                return _nothing(student)
            return self._compare(student, teacher, weights)

    def _compare(self, student: Tensor, teacher: Tensor, weights: Tensor | None) -> Structure:
        of_teacher, of_student = similarity_matrix(teacher, self.kernel), similarity_matrix(student, self.kernel)
        even = student.new_full((len(student),), 1 / len(student))
        shares = even if weights is None else weights / weights.sum()
        centroid = centroid_distance(of_teacher.to(of_student.dtype), of_student, shares)
        if self.mode in ("gromov", "fused"):
            price = self.pairing if self.mode == "fused" else None
            value, _, steps = gromov_wasserstein(of_teacher, of_student, shares, price)
            return Structure(value, centroid, value.new_zeros(()), steps)
        anchors = choose_anchors(of_teacher, min(self.top_k, len(student) - 1), self.anchors)
        if (self.gather or self.gathered) and self.anchors == "random":
            anchors = _of_the_first_process(anchors)
        theirs, own = anchored(of_teacher, of_student, anchors)
        if self.mode == "paired":
            value = 0.5 * (shares * (theirs - own).square().sum(dim=1)).sum()
            return Structure(value, centroid, value.new_zeros(()), 0)
        solved = self.divergence(theirs, own, weights, weights)
        return Structure(solved.value, centroid, solved.marginal_error, solved.iterations)


def _nothing(student: Tensor) -> Structure:
    zero = student.sum() * 0.0
    return Structure(zero, zero, zero.detach(), 0)


def _of_the_first_process(anchors: Tensor) -> Tensor:
    """Broadcast anchors from the first process, so that random ones are the same on all."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        anchors = anchors.contiguous()
        torch.distributed.broadcast(anchors, 0)
    return anchors


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
