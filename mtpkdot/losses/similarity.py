"""Similarity structure of a batch: similarity matrices, anchors, and the centroid term.

Source: PKDOT (Aslam et al., arXiv 2401.15489) and MT-PKDOT (arXiv 2408.09035). The structure of a teacher is the
matrix of cosine similarities between the samples of a batch; the student learns to reproduce it.
"""

from typing import Literal

import torch
from torch import Tensor

Kernel = Literal["cosine", "centred", "rbf"]
Anchors = Literal["least", "most", "random", "all"]


def similarity_matrix(features: Tensor, kernel: Kernel = "cosine") -> Tensor:
    """Compute the similarities between all samples of a batch.

    Args:
        features: (B, D) features.
        kernel: `cosine` (the papers'); `centred`, cosine after subtraction of the batch's mean feature, as in CKA
            (Kornblith et al., ICML 2019); or `rbf`, `exp(-|x - y|^2 / (2 h))` with h the mean squared distance of the
            batch, which makes it independent of the scale of the features.

    Returns:
        (B, B), symmetric, entries in [-1, 1].

    Example:
        >>> similarity_matrix(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]))
        tensor([[1., 0., 1.],
                [0., 1., 0.],
                [1., 0., 1.]])
    """
    if kernel == "cosine":
        return cosine_matrix(features)
    centred = _centred(features)
    if kernel == "centred":
        return cosine_matrix(centred)
    product = centred @ centred.T
    square = product.diagonal()
    distances = (square[:, None] + square - 2 * product).clamp_min(0)
    bandwidth = distances.sum() / max(len(features) * (len(features) - 1), 1)
    return torch.exp(-distances / (2 * bandwidth.where(bandwidth > 0, 1.0)))


def _centred(features: Tensor) -> Tensor:
    """Return features minus their mean, divided by the largest entry; rounding errors of equal features become 0."""
    if not features.numel():
        return features
    size = features.detach().abs().amax()
    scaled = features / size.where(size > 0, 1.0)
    centred = scaled - scaled.mean(dim=0)
    apart = centred.detach().abs().amax(dim=1, keepdim=True) > 16 * torch.finfo(features.dtype).eps
    return centred * apart


def cosine_matrix(features: Tensor, eps: float = 1e-8) -> Tensor:
    """Compute the cosine similarities between all samples of a batch.

    Args:
        features: (B, D) features.
        eps: smallest norm that counts as a direction. A shorter vector has similarity 0 to every vector, itself
            included, and a finite gradient, where the released code yields NaN.

    Returns:
        (B, B), symmetric, entries in [-1, 1].

    Example:
        >>> cosine_matrix(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        tensor([[1., 0.],
                [0., 1.]])
    """
    if features.dtype in (torch.float16, torch.bfloat16):
        return cosine_matrix(features.float(), eps).to(features.dtype)  # eps^2 underflows in half precision
    unit = unit_rows(features, eps)
    return unit @ unit.T


def unit_rows(features: Tensor, eps: float = 1e-8) -> Tensor:
    """Return features (..., D) divided by their norms; 0 with zero gradient for a norm below `eps`."""
    # The squared norm is clamped before the square root, which has no gradient at 0.
    square = features.square().sum(dim=-1, keepdim=True)
    return features * square.clamp_min(eps**2).rsqrt() * (square > eps**2)


def choose_anchors(similarity: Tensor, k: int, which: Anchors = "least") -> Tensor:
    """Choose the samples of the batch that every sample is compared with.

    Args:
        similarity: (B, B) similarities of the teacher.
        k: anchors per sample, 1 <= k <= B, or k < B for `most` and `random`, which exclude the sample itself. The
            papers use 30.
        which: the k `least` similar (the papers'), the k `most` similar, k `random` ones, or `all` B columns.

    Returns:
        (B, k) column indices in the order of `which`; (B, B) for `all`. Ties go to the lower column, so that the choice
        does not depend on the device.

    Example:
        >>> choose_anchors(torch.tensor([[1.0, 0.2, 0.9], [0.2, 1.0, 0.5], [0.9, 0.5, 1.0]]), k=1)
        tensor([[1],
                [0],
                [1]])
    """
    size = len(similarity)
    if which == "all":
        return torch.arange(size, device=similarity.device).expand(size, size)
    most = size if which == "least" else size - 1
    if not 1 <= k <= most:
        raise ValueError(f"k must lie in 1..{most} for a batch of {size}, not {k}")
    rank = similarity.detach()
    if which == "random":
        rank = torch.rand(rank.shape, device=rank.device)
    elif which == "most":
        rank = -rank
    if which != "least":
        rank = rank.clone().fill_diagonal_(torch.inf)
    return rank.argsort(dim=1, stable=True)[:, :k]


def anchored(teacher: Tensor, student: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Reduce both similarity matrices to the anchors, shifted to be non-negative.

    Args:
        teacher: (B, B) similarities of the teacher.
        student: (B, B) similarities of the student.
        anchors: (B, k) columns.

    Returns:
        Two (B, k) matrices: row i holds the similarities of sample i to the anchors of sample i, each matrix shifted by
        its own global minimum before the columns are taken.

    Example:
        >>> teacher, student = torch.eye(2), torch.full((2, 2), 0.5)
        >>> anchored(teacher, student, choose_anchors(teacher, k=1))
        (tensor([[0.],
                [0.]]), tensor([[0.],
                [0.]]))
    """
    return (teacher - teacher.min()).gather(1, anchors), (student - student.min()).gather(1, anchors)


def centroid_distance(teacher: Tensor, student: Tensor, weights: Tensor | None = None) -> Tensor:
    """Compute the distance between the mean rows of two similarity matrices (centroid term of MT-PKDOT).

    Args:
        teacher: (B, B) unshifted similarities of the teacher.
        student: (B, B) unshifted similarities of the student.
        weights: (B,) weights of the rows, with sum 1; None for equal weights.

    Returns:
        Scalar `|| mean_rows(S_T) - mean_rows(S_S) ||_2`, with zero gradient if both are equal.

    Example:
        >>> centroid_distance(torch.eye(2), torch.ones(2, 2))
        tensor(0.7071)
    """
    rows = teacher - student
    difference = rows.mean(dim=0) if weights is None else weights @ rows
    square = difference.square().sum()
    return torch.where(square > 0, square.clamp_min(torch.finfo(square.dtype).tiny).sqrt(), square)
