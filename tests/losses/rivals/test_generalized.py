import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals.cases import of_outputs, rival


@over("temperature", [1.0, 2.0, 10.0])
def test_classes_are_compared_between_the_softened_teacher_and_the_unsoftened_student(temperature):
    student, teacher = random(5, 4, seed=0), random(5, 4, seed=1) * 3
    terms = []
    for s, t in zip(student.double().numpy(), teacher.double().numpy(), strict=True):
        p, q = np.exp(t / temperature) / np.exp(t / temperature).sum(), np.exp(s) / np.exp(s).sum()
        terms.append(-sum(a * np.log(b) for a, b in zip(p, q, strict=True)))
    lupi = rival("lupi", "classification", temperature=temperature)
    assert float(lupi(*of_outputs(student, teacher))) == pytest.approx(np.mean(terms), rel=1e-5)


def test_the_temperature_defaults_to_two():
    given = of_outputs(random(5, 4, seed=0), random(5, 4, seed=1))
    assert torch.equal(
        rival("lupi", "classification")(*given), rival("lupi", "classification", temperature=2.0)(*given)
    )


def test_a_student_that_equals_the_softened_teacher_has_the_entropy_as_loss_and_no_gradient():
    teacher = random(5, 4, seed=2)
    student = (teacher / 2).requires_grad_()
    loss = rival("lupi", "classification")(*of_outputs(student, teacher))
    loss.backward()
    p = torch.softmax(teacher / 2, dim=1)
    assert float(loss.detach()) == pytest.approx(float(-(p * p.log()).sum(dim=1).mean()), rel=1e-5)
    assert float(student.grad.abs().max()) < 1e-6


def test_a_sure_teacher_is_a_label():
    student, target = random(5, 4, seed=3), torch.tensor([2, 0, 1, 3, 0])
    teacher = 1e4 * F.one_hot(target, 4).float()
    loss = rival("lupi", "classification")(*of_outputs(student, teacher))
    torch.testing.assert_close(loss, F.cross_entropy(student, target))


def test_thresholds_have_the_binary_cross_entropy_of_each():
    student, teacher = random(5, 3, seed=4), random(5, 3, seed=5)
    p, q = 1 / (1 + np.exp(-teacher.double().numpy() / 2)), 1 / (1 + np.exp(-student.double().numpy()))
    expected = -(p * np.log(q) + (1 - p) * np.log(1 - q)).mean()
    assert float(rival("lupi", "ordinal")(*of_outputs(student, teacher))) == pytest.approx(expected, rel=1e-5)


def test_values_have_the_mean_squared_error_whatever_the_temperature():
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 3.0]])
    for temperature in (1.0, 5.0):
        lupi = rival("lupi", "regression", temperature=temperature)
        assert float(lupi(*of_outputs(student, teacher))) == pytest.approx((1 + 9) / 4)
