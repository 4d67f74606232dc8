import numpy as np
import pytest
import torch

from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals.cases import of_features, rival


def squared_mmd(student, teacher):
    s, t = ([x / np.linalg.norm(x) for x in f.double().numpy().T] for f in (student, teacher))

    def mean_kernel(xs, ys):
        return np.mean([(x @ y) ** 2 for x in xs for y in ys])

    return mean_kernel(s, s) + mean_kernel(t, t) - 2 * mean_kernel(s, t)


@over("n, student_dim, teacher_dim", [(2, 6, 5), (7, 6, 5), (7, 3, 9), (4, 1, 1)])
def test_the_loss_is_the_squared_discrepancy_with_the_polynomial_kernel(n, student_dim, teacher_dim):
    student, teacher = random(n, student_dim, seed=0), random(n, teacher_dim, seed=1)
    loss = rival("nst", student_dim=student_dim, teacher_dim=teacher_dim)(*of_features(student, teacher))
    assert float(loss) == pytest.approx(squared_mmd(student, teacher), rel=1e-4)


def test_the_loss_equals_a_hand_computed_case():
    # One neuron each, answering to different samples: kernels 1, 1 and 0.
    nst = rival("nst", student_dim=1, teacher_dim=1)
    assert float(nst(*of_features(torch.tensor([[2.0], [0.0]]), torch.tensor([[0.0], [5.0]])))) == pytest.approx(2.0)


def test_neither_order_nor_sign_nor_number_of_copies_of_the_neurons_matters():
    features = random(6, 5, seed=2)
    same = torch.cat([-features.flip(1), 3 * features], dim=1)
    nst = rival("nst", student_dim=10)
    assert float(nst(*of_features(same, features))) == pytest.approx(0.0, abs=1e-6)


def test_a_silent_neuron_is_a_point_at_zero():
    nst = rival("nst", student_dim=2, teacher_dim=1)
    student = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    # Means of kernels: 1/4 within the student's, 1 within the teacher's, 1/2 between.
    assert float(nst(*of_features(student, student[:, :1]))) == pytest.approx(0.25 + 1 - 2 * 0.5)
