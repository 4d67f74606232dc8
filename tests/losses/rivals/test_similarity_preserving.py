import numpy as np
import pytest
import torch

from mtpkdot.losses.rivals.similarity_preserving import normalised_gram
from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals.cases import of_features, rival


def gram(features):
    rows = features.double().numpy()
    matrix = np.array([[a @ b for b in rows] for a in rows])
    return np.array([row / np.linalg.norm(row) for row in matrix])


@over("n", [1, 2, 6])
def test_the_loss_is_the_squared_distance_of_the_normalised_gram_matrices_over_the_squared_batch(n):
    student, teacher = random(n, 6, seed=0), random(n, 5, seed=1)
    expected = ((gram(student) - gram(teacher)) ** 2).sum() / n**2
    assert float(rival("sp")(*of_features(student, teacher))) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_the_loss_equals_a_hand_computed_case():
    # Orthogonal samples against equal ones: rows (1, 0), (0, 1) against (r, r), (r, r) with r = 1 / sqrt(2).
    student, teacher = torch.eye(2), torch.ones(2, 2)
    expected = 2 * ((1 - 0.5**0.5) ** 2 + 0.5) / 4
    sp = rival("sp", student_dim=2, teacher_dim=2)
    assert float(sp(*of_features(student, teacher))) == pytest.approx(expected)


def test_a_rotation_of_the_student_changes_nothing():
    student, teacher = random(6, 6, seed=2), random(6, 5, seed=3)
    rotation = torch.linalg.qr(random(6, 6, seed=4)).Q
    loss = rival("sp")(*of_features(student, teacher))
    torch.testing.assert_close(rival("sp")(*of_features(student @ rotation, teacher)), loss, rtol=1e-4, atol=1e-6)


def test_the_row_of_a_zero_feature_is_zero_and_the_others_have_unit_length():
    features = random(4, 3, seed=5)
    features[2] = 0
    torch.testing.assert_close(normalised_gram(features).norm(dim=1), torch.tensor([1.0, 1.0, 0.0, 1.0]))


@over("scale", [1e-12, 1e12])
def test_the_gradient_is_that_of_the_formula_however_small_or_large_the_features_are(scale):
    student, teacher = random(5, 6, seed=6, dtype=torch.float64), random(5, 5, seed=7)
    small = student.float().mul(scale).requires_grad_()
    plain = student.clone().requires_grad_()
    rival("sp")(*of_features(small, teacher)).backward()
    rows = plain @ plain.T
    rows = rows / rows.norm(dim=1, keepdim=True)
    ((rows - torch.tensor(gram(teacher))) ** 2).sum().div(25).backward()
    torch.testing.assert_close(small.grad.double() * scale, plain.grad, rtol=1e-3, atol=1e-6)
