"""Neuron selectivity transfer (Huang and Wang, "Like what you like", arXiv 1707.01219)."""

from typing import ClassVar

from torch import Tensor

from mtpkdot.losses.rivals.base import Seen
from mtpkdot.losses.rivals.precision import FullPrecision
from mtpkdot.losses.similarity import unit_rows


class NeuronSelectivity(FullPrecision):
    """Squared MMD of the neurons' responses with the polynomial kernel `(x.y)^2` (d = 2, c = 0).

    In the paper a point is a channel's activations over the positions of a map. A pooled feature has no positions; here
    a point in R^B is a neuron's L2-normalised responses over the batch. The D_s points of the student are compared with
    the D_t points of the teacher, without a map between the sizes. A neuron that is 0 on the whole batch stays 0.

    With this kernel the discrepancy is the squared Frobenius distance of the mean outer products of the points, which
    is not negative even after rounding and needs no D x D matrix.
    """

    weight: ClassVar[float] = 50.0  # of the comparison by Tian et al. (ICLR 2020), on feature maps

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compare the features; labels are not used."""
        return (_mean_outer(student.feature) - _mean_outer(teacher.feature)).square().sum()


def _mean_outer(feature: Tensor) -> Tensor:
    neurons = unit_rows(feature.T)
    return neurons.T @ neurons / max(len(neurons), 1)
