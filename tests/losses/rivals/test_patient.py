import math

import numpy as np
import pytest
import torch

from tests.losses.reference import random
from tests.losses.rivals.cases import of_features, rival


def test_the_loss_is_two_minus_twice_the_cosine():
    # Angles of 60 and 180 degrees: 2 - 1 and 2 + 2.
    student = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    teacher = torch.tensor([[0.5, math.sqrt(3) / 2], [0.0, -7.0]])
    pkd = rival("pkd", student_dim=2, teacher_dim=2)
    assert float(pkd(*of_features(student, teacher))) == pytest.approx((1 + 4) / 2)


def test_features_of_different_sizes_are_compared_through_a_learned_map():
    pkd, student, teacher = rival("pkd"), random(4, 6, seed=0), random(4, 5, seed=1)
    weight, bias = (x.detach().double().numpy() for x in (pkd.adapter.weight, pkd.adapter.bias))
    distances = []
    for s, t in zip(student.double().numpy(), teacher.double().numpy(), strict=True):
        image = weight @ s + bias
        distances.append(((image / np.linalg.norm(image) - t / np.linalg.norm(t)) ** 2).sum())
    assert float(pkd(*of_features(student, teacher)).detach()) == pytest.approx(np.mean(distances), rel=1e-4)


def test_features_of_one_size_need_no_map():
    assert not list(rival("pkd", student_dim=5).parameters())
    assert len(list(rival("pkd").parameters())) == 2


def test_a_zero_feature_is_at_distance_one_from_any_other_and_pushed_nowhere():
    pkd = rival("pkd", student_dim=3, teacher_dim=3)
    zero = torch.zeros(2, 3, requires_grad=True)
    loss = pkd(*of_features(zero, random(2, 3, seed=2)))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.0)
    assert torch.equal(zero.grad, torch.zeros(2, 3))
    assert float(pkd(*of_features(zero.detach(), zero.detach()))) == 0.0
