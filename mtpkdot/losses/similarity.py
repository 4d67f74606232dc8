"""Similarity structure of a batch: cosine matrices, anchors, and the centroid term.

Source: PKDOT (Aslam et al., arXiv 2401.15489) and MT-PKDOT (arXiv 2408.09035). The structure of a teacher is the
matrix of cosine similarities between the samples of a batch; the student is asked for the same structure.
"""

import torch
from torch import Tensor


def cosine_matrix(features: Tensor, eps: float = 1e-8) -> Tensor:
    """Cosine similarity between all samples of a batch.

    Args:
        features: (B, D).
        eps: smallest norm that counts as a direction. A vector shorter than it has similarity 0 to everything,
            itself included, and a finite gradient, where the released code yields NaN.

    Returns:
        (B, B), symmetric, entries in [-1, 1].
    """
    if features.dtype in (torch.float16, torch.bfloat16):
        return cosine_matrix(features.float(), eps).to(features.dtype)  # eps squared is 0 in half precision
    # The norm is taken under the square root's domain of differentiability: sqrt has no gradient at 0.
    square = features.square().sum(dim=1, keepdim=True)
    unit = features * square.clamp_min(eps**2).rsqrt() * (square > eps**2)
    return unit @ unit.T


def least_similar(similarity: Tensor, k: int) -> Tensor:
    """The anchors of every sample: the columns of its `k` least similar batch-mates.

    Args:
        similarity: (B, B) teacher similarities.
        k: anchors per sample, 1 <= k <= B. The papers use 30.

    Returns:
        (B, k) column indices, least similar first. Ties go to the lower column, so that the choice does not depend
        on the device.
    """
    if not 1 <= k <= similarity.shape[1]:
        raise ValueError(f"k must lie in 1..{similarity.shape[1]} for a batch of {similarity.shape[0]}, not {k}")
    return similarity.argsort(dim=1, stable=True)[:, :k]


def anchored(teacher: Tensor, student: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Reduce both similarity matrices to the teacher's anchors, shifted to be non-negative.

    Args:
        teacher: (B, B) similarities of the teacher.
        student: (B, B) similarities of the student.
        k: anchors per sample.

    Returns:
        Two (B, k) matrices: row i holds the similarities of sample i to the teacher's anchors of sample i, each
        matrix shifted by its own global minimum before the columns are taken.
    """
    anchors = least_similar(teacher.detach(), k)
    return (teacher - teacher.min()).gather(1, anchors), (student - student.min()).gather(1, anchors)


def centroid_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Distance between the mean rows of two similarity matrices: MT-PKDOT's centroid term.

    Args:
        teacher: (B, B) unshifted similarities.
        student: (B, B) unshifted similarities.

    Returns:
        Scalar `|| mean_rows(S_T) - mean_rows(S_S) ||_2`, with zero gradient where both coincide.
    """
    difference = teacher.mean(dim=0) - student.mean(dim=0)
    square = difference.square().sum()
    return torch.where(square > 0, square.clamp_min(torch.finfo(square.dtype).tiny).sqrt(), square)
