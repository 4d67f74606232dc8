import math

import numpy as np
import pytest
import torch

from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals.cases import of_features, rival


def kernel(features, gamma, order):
    rows = [x / np.linalg.norm(x) for x in features.double().numpy()]
    terms = [(2 * gamma) ** p / math.factorial(p) for p in range(order + 1)]
    return np.array(
        [[math.exp(-2 * gamma) * sum(c * (a @ b) ** p for p, c in enumerate(terms)) for b in rows] for a in rows]
    )


@over("gamma, order", [(0.4, 1), (0.4, 2), (0.4, 3), (1.5, 2)])
def test_the_loss_equals_its_formula(gamma, order):
    student, teacher = random(6, 6, seed=0), random(6, 5, seed=1)
    expected = ((kernel(student, gamma, order) - kernel(teacher, gamma, order)) ** 2).mean()
    loss = rival("cc", gamma=gamma, order=order)(*of_features(student, teacher))
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_the_series_is_of_second_order_and_gamma_two_fifths():
    given = of_features(random(6, 6, seed=0), random(6, 5, seed=1))
    assert torch.equal(rival("cc")(*given), rival("cc", gamma=0.4, order=2)(*given))


def test_the_series_approaches_the_gaussian_kernel():
    student, teacher = random(6, 6, seed=2), random(6, 5, seed=3)
    exact = []
    for features in (student, teacher):
        rows = [x / np.linalg.norm(x) for x in features.double().numpy()]
        exact.append(np.array([[math.exp(-0.4 * ((a - b) ** 2).sum()) for b in rows] for a in rows]))
    expected = ((exact[0] - exact[1]) ** 2).mean()
    loss = rival("cc", order=8)(*of_features(student, teacher))
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_the_loss_equals_a_hand_computed_case():
    # Orthogonal against equal: the series is 1 against 1 + x + x^2 / 2 with x = 0.8, in two of four entries.
    cc = rival("cc", student_dim=2, teacher_dim=2)
    loss = cc(*of_features(torch.eye(2), torch.ones(2, 2)))
    assert float(loss) == pytest.approx((math.exp(-0.8) * (0.8 + 0.32)) ** 2 / 2, rel=1e-5)


def test_a_zero_feature_correlates_as_an_orthogonal_one_even_with_itself():
    cc = rival("cc", student_dim=3, teacher_dim=3)
    student = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    loss = cc(*of_features(student, torch.eye(3)[:2]))
    assert float(loss) == pytest.approx((math.exp(-0.8) * (0.8 + 0.32)) ** 2 / 4, rel=1e-5)
