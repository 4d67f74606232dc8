import numpy as np
import pytest
import torch

from mtpkdot.losses.rivals.logits import unit
from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals.cases import of_outputs, rival


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_classes_are_compared_by_the_scaled_divergence_at_temperature_four():
    student, teacher = random(6, 3, seed=0) * 3, random(6, 3, seed=1) * 3
    p, q = softmax(teacher.double().numpy() / 4), softmax(student.double().numpy() / 4)
    expected = 16 * (p * np.log(p / q)).sum(axis=1).mean()
    loss = rival("kd", "classification")(*of_outputs(student, teacher))
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_the_temperature_is_a_setting():
    student, teacher = random(6, 3, seed=0), random(6, 3, seed=1)
    p, q = softmax(teacher.double().numpy() / 1.5), softmax(student.double().numpy() / 1.5)
    expected = 1.5**2 * (p * np.log(p / q)).sum(axis=1).mean()
    loss = rival("kd", "classification", temperature=1.5)(*of_outputs(student, teacher))
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_the_gradient_is_the_difference_of_the_softened_probabilities():
    student, teacher = random(6, 3, seed=0).requires_grad_(), random(6, 3, seed=1)
    rival("kd", "classification")(*of_outputs(student, teacher)).backward()
    expected = 4 * (torch.softmax(student.detach() / 4, 1) - torch.softmax(teacher / 4, 1)) / 6
    torch.testing.assert_close(student.grad, expected, rtol=1e-4, atol=1e-6)


def test_thresholds_are_compared_by_the_mean_divergence_of_each():
    student, teacher = random(6, 3, seed=2), random(6, 3, seed=3)
    p, q = (torch.sigmoid(x.double() / 4).numpy() for x in (teacher, student))
    expected = 16 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert float(rival("kd", "ordinal")(*of_outputs(student, teacher))) == pytest.approx(expected, rel=1e-4)


def test_values_are_compared_in_units_of_the_teachers_spread():
    # Spreads of the teacher's columns are 1 and 10; errors 1 and 10 in every row are one unit each.
    teacher = torch.tensor([[0.0, 0.0], [2.0, 20.0]])
    student = teacher + torch.tensor([1.0, 10.0])
    assert float(rival("kd", "regression")(*of_outputs(student, teacher))) == pytest.approx(1.0)


@over("scale", [1e-3, 1e3])
def test_the_unit_of_the_values_does_not_matter(scale):
    student, teacher = random(6, 2, seed=4), random(6, 2, seed=5)
    kd, units = rival("kd", "regression"), torch.tensor([scale, 1.0])
    torch.testing.assert_close(
        kd(*of_outputs(student * units, teacher * units)), kd(*of_outputs(student, teacher)), rtol=1e-4, atol=0
    )


@over("constant", [0.0, 0.1, 100.1])
def test_a_teacher_that_answers_the_same_everywhere_is_followed_in_the_values_own_unit(constant):
    teacher = torch.full((7, 2), constant)
    loss = rival("kd", "regression")(*of_outputs(teacher + 2, teacher))
    assert float(loss) == pytest.approx(4.0, rel=1e-4)
    assert unit(teacher + 2, teacher).tolist() == [1.0, 1.0]


@over("n", [3, 7, 50])
@over("constant", [0.1, 5.1, 100.1, 10_000.1])
def test_rounding_errors_of_a_constant_are_not_used_as_a_unit(constant, n):
    teacher = torch.full((n, 1), constant)
    assert unit(teacher, teacher).tolist() == [1.0]


def test_the_unit_is_the_population_standard_deviation_of_the_teacher():
    teacher = random(9, 3, seed=6) * torch.tensor([0.01, 1.0, 100.0]) + 1
    np.testing.assert_allclose(unit(teacher + 0.1, teacher), teacher.double().numpy().std(axis=0), rtol=1e-3)
    assert unit(torch.zeros(0, 2), torch.zeros(0, 2)).tolist() == [1.0, 1.0]
    assert unit(torch.tensor([[5.0]]), torch.tensor([[3.0]])).tolist() == [1.0]


def test_a_spread_below_a_thousandth_of_the_students_distance_is_not_used_as_a_unit():
    teacher = torch.tensor([[-1e-3], [1e-3]])
    assert unit(teacher + 0.9, teacher).tolist() == pytest.approx([1e-3])
    assert unit(teacher + 1.1, teacher).tolist() == [1.0]
    loss = rival("kd", "regression")(*of_outputs(1e15 + teacher, 1e-15 * teacher))
    assert loss.isfinite()


def test_double_precision_is_kept_of_values():
    student, teacher = random(6, 2, seed=7, dtype=torch.float64), random(6, 2, seed=8, dtype=torch.float64)
    expected = (((student - teacher) / teacher.std(dim=0, unbiased=False)) ** 2).mean()
    loss = rival("kd", "regression")(*of_outputs(student, teacher))
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
