import numpy as np
import pytest
import torch

from tests.losses.reference import random
from tests.losses.rivals.cases import of_features, rival


def test_the_loss_is_the_mean_squared_error_of_the_regression():
    fitnets, student, teacher = rival("fitnets"), random(4, 6, seed=0), random(4, 5, seed=1)
    weight, bias = (x.detach().double().numpy() for x in (fitnets.regressor.weight, fitnets.regressor.bias))
    errors = []
    for s, t in zip(student.double().numpy(), teacher.double().numpy(), strict=True):
        errors += [(weight[d] @ s + bias[d] - t[d]) ** 2 for d in range(5)]
    loss = fitnets(*of_features(student, teacher))
    assert float(loss.detach()) == pytest.approx(np.mean(errors), rel=1e-4)


def test_a_teacher_that_is_a_linear_image_of_the_student_costs_nothing():
    fitnets, student = rival("fitnets"), random(4, 6, seed=2)
    image = fitnets.regressor(student).detach()
    assert float(fitnets(*of_features(student, image)).detach()) == 0.0


def test_with_the_identity_as_regressor_the_error_is_that_of_the_features():
    fitnets = rival("fitnets", student_dim=2, teacher_dim=2)
    with torch.no_grad():
        fitnets.regressor.weight.copy_(torch.eye(2))
        fitnets.regressor.bias.zero_()
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 3.0]])
    assert float(fitnets(*of_features(student, teacher)).detach()) == pytest.approx((1 + 9) / 4)
    assert float(fitnets(*of_features(student, student)).detach()) == 0.0
