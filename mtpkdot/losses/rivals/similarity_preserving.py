"""Similarity-preserving distillation (Tung and Mori, ICCV 2019)."""

from typing import ClassVar

import torch
from torch import Tensor

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision
from mtpkdot.losses.similarity import unit_rows


class SimilarityPreserving(FullPrecision):
    """Squared Frobenius distance of the row-normalised Gram matrices, divided by B^2.

    Unlike in MT-PKDOT's released code, the student's feature gets a gradient.
    """

    weight: ClassVar[float] = 3000.0  # of the comparison by Tian et al. (ICLR 2020), on feature maps

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the features; labels are not used."""
        difference = normalised_gram(student.feature) - normalised_gram(teacher.feature)
        return difference.square().sum() / max(len(difference), 1) ** 2


def normalised_gram(features: Tensor) -> Tensor:
    """Return the Gram matrix (B, B) of features (B, D), with rows of unit length; the row of a zero feature is 0."""
    # Dividing by a common factor first keeps the products in range; the factor and its gradient cancel.
    size = features.detach().square().sum().sqrt()
    scaled = features / size.where(size > 0, torch.ones_like(size))
    return unit_rows(scaled @ scaled.T)
