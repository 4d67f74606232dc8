import pytest
import torch

from mtpkdot.metrics.kappa import QuadraticKappa
from tests.loops import over


def kappa(predicted, truth, classes=3):
    metric = QuadraticKappa(classes)
    metric.update(torch.tensor(predicted), torch.tensor(truth))
    return float(metric.compute())


def test_kappa_of_a_hand_computed_case():
    # Disagreement 1 + 0 + 4 over what the marginals lead one to expect: (0 + 4 + 1 + 0 + 4 + 1 + 1 + 1 + 0) / 3.
    assert kappa([1, 2, 0], [0, 2, 2]) == pytest.approx(1 - 5 / ((1 + 4 + 0 + 1 + 0 + 4 + 1 + 0 + 4) / 3))


def test_perfect_agreement_is_one_and_complete_reversal_minus_one():
    assert kappa([0, 1, 2], [0, 1, 2]) == 1.0
    assert kappa([2, 1, 0], [0, 1, 2]) == pytest.approx(-1.0)


@over("predicted", [[1, 1, 1], [2, 2, 2]])
def test_a_constant_answer_shows_no_agreement(predicted):
    assert kappa(predicted, [0, 1, 2]) == pytest.approx(0.0, abs=1e-6)


def test_one_class_alone_shows_no_agreement():
    assert kappa([1, 1], [1, 1]) == 0.0
    assert kappa([], []) == 0.0
