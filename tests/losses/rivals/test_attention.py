import math

import numpy as np
import pytest
import torch

from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals.cases import of_features, rival


def pooled(values, size):
    """Adaptive average pooling: cell j is the mean from floor(j D / d) up to ceil((j + 1) D / d)."""
    n = len(values)
    return np.array([values[j * n // size : math.ceil((j + 1) * n / size)].mean() for j in range(size)])


def attention_loss(student, teacher, p):
    size = min(student.shape[1], teacher.shape[1])
    distances = []
    for s, t in zip(student.double().numpy(), teacher.double().numpy(), strict=True):
        maps = [pooled(np.abs(x) ** p, size) for x in (s, t)]
        a, b = (m / np.linalg.norm(m) for m in maps)
        distances.append(((a - b) ** 2).sum())
    return np.mean(distances)


@over("p", [1.0, 2.0, 3.5])
@over("student_dim, teacher_dim", [(6, 6), (8, 4), (4, 8), (7, 5), (5, 7), (6, 1)])
def test_the_loss_equals_its_formula(student_dim, teacher_dim, p):
    student, teacher = random(5, student_dim, seed=0), random(5, teacher_dim, seed=1)
    loss = rival("at", student_dim=student_dim, teacher_dim=teacher_dim, p=p)(*of_features(student, teacher))
    assert float(loss) == pytest.approx(attention_loss(student, teacher, p), rel=1e-4, abs=1e-7)


def test_the_loss_equals_a_hand_computed_case():
    # Squares (9, 16) and (1, 0) against each other: cosine 9 / sqrt(81 + 256).
    at = rival("at", student_dim=2, teacher_dim=2)
    loss = at(*of_features(torch.tensor([[3.0, -4.0]]), torch.tensor([[-1.0, 0.0]])))
    assert float(loss) == pytest.approx(2 - 2 * 9 / math.sqrt(337))


def test_signs_do_not_matter():
    at, student, teacher = rival("at"), random(5, 6, seed=2), random(5, 5, seed=3)
    torch.testing.assert_close(at(*of_features(-student, teacher)), at(*of_features(student, teacher.abs())))


def test_a_larger_feature_is_pooled_to_the_smaller():
    at = rival("at", student_dim=4, teacher_dim=2)
    student, teacher = torch.tensor([[1.0, 3.0, 2.0, 0.0]]), torch.tensor([[math.sqrt(5.0), math.sqrt(2.0)]])
    assert float(at(*of_features(student, teacher))) == pytest.approx(0.0, abs=1e-6)  # squares average to 5 and 2
    reversed_sizes = rival("at", student_dim=2, teacher_dim=4)
    assert float(reversed_sizes(*of_features(teacher, student))) == pytest.approx(0.0, abs=1e-6)


def test_there_is_nothing_to_learn_and_nothing_to_store():
    assert not list(rival("at").parameters())
    assert not rival("at").state_dict()
