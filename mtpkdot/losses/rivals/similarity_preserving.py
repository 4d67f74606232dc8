"""Similarity-preserving distillation (Tung and Mori, ICCV 2019)."""

from typing import ClassVar

import torch
from torch import Tensor

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision
from mtpkdot.losses.similarity import unit_rows


class SimilarityPreserving(FullPrecision):
    """Squared Frobenius distance of the row-normalised Gram matrices over B^2.

    The gradient reaches the student's feature, which in MT-PKDOT's released code it does not.
    """

    weight: ClassVar[float] = 3000.0  # of the comparison by Tian et al. (ICLR 2020), on feature maps

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the features; the labels are not read."""
        difference = normalised_gram(student.feature) - normalised_gram(teacher.feature)
        return difference.square().sum() / max(len(difference), 1) ** 2


def normalised_gram(features: Tensor) -> Tensor:
    """Gram matrix (B, B) of features (B, D), each row of unit length; the row of a zero feature is 0."""
    # A common factor cancels, its gradient too. Taken out beforehand it keeps tiny and huge products in range.
    size = features.detach().square().sum().sqrt()
    scaled = features / size.where(size > 0, torch.ones_like(size))
    return unit_rows(scaled @ scaled.T)
