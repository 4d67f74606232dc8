import math

import numpy as np
import pytest
import torch

from mtpkdot.losses.task import output_loss
from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals.cases import of_outputs, rival

ALL = torch.ones(5, dtype=torch.bool)
SOME = torch.tensor([True, False, True, True, False])
TARGET = torch.tensor([2, 0, 1, 3, 0])


def dkd(**settings):
    return rival("dkd", "classification", **settings)


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def published(student, teacher, target, temperature, alpha, beta):
    terms = []
    for s, t, y in zip(student.double().numpy(), teacher.double().numpy(), target.tolist(), strict=True):
        p, q = (np.exp(x / temperature) / np.exp(x / temperature).sum() for x in (t, s))
        others = [k for k in range(len(s)) if k != y]
        true = divergence([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        rest = divergence([p[k] / (1 - p[y]) for k in others], [q[k] / (1 - q[y]) for k in others])
        terms.append(alpha * true + beta * rest)
    return temperature**2 * np.mean(terms)


@over("temperature, alpha, beta", [(4.0, 1.0, 8.0), (1.0, 1.0, 0.0), (2.0, 0.0, 3.0)])
def test_the_loss_equals_its_formula_on_labelled_rows(temperature, alpha, beta):
    student, teacher = random(5, 4, seed=0) * 2, random(5, 4, seed=1) * 2
    loss = dkd(temperature=temperature, alpha=alpha, beta=beta)(*of_outputs(student, teacher, TARGET, SOME))
    expected = published(student[SOME], teacher[SOME], TARGET[SOME], temperature, alpha, beta)
    assert float(loss) == pytest.approx(expected, rel=1e-3)


def test_the_defaults_are_temperature_four_alpha_one_and_beta_eight():
    given = of_outputs(random(5, 4, seed=0), random(5, 4, seed=1), TARGET, SOME)
    assert torch.equal(dkd()(*given), dkd(temperature=4.0, alpha=1.0, beta=8.0)(*given))


def test_two_classes_have_the_plain_divergence_and_nothing_among_the_rest():
    student, teacher = random(5, 2, seed=2), random(5, 2, seed=3)
    given = of_outputs(student, teacher, TARGET % 2, ALL)
    torch.testing.assert_close(dkd(beta=100.0)(*given), output_loss("classification", student, teacher, ALL, 4.0))
    assert float(dkd(alpha=0.0)(*given)) == 0.0


def test_one_class_has_nothing_to_teach():
    output = random(5, 1, seed=4).requires_grad_()
    loss = dkd()(*of_outputs(output, random(5, 1, seed=5), torch.zeros(5, dtype=torch.long), ALL))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not output.grad.any()


def test_the_divergence_is_that_of_the_true_class_and_of_the_rest_weighted_by_the_teachers_doubt():
    # KL = TCKD + (1 - p_true) NCKD: the identity that the paper starts from, for one row.
    student, teacher, known = random(1, 4, seed=6), random(1, 4, seed=7), torch.tensor([True])
    doubt = 1 - float(torch.softmax(teacher / 4, dim=1)[0, 2])
    loss = dkd(beta=doubt)(*of_outputs(student, teacher, torch.tensor([2]), known))
    torch.testing.assert_close(loss, output_loss("classification", student, teacher, known, 4.0), rtol=1e-4, atol=1e-6)


def test_the_gradient_of_unlabelled_rows_is_zero():
    student = random(5, 4, seed=8).requires_grad_()
    dkd()(*of_outputs(student, random(5, 4, seed=9), TARGET, SOME)).backward()
    assert torch.equal(student.grad[~SOME], torch.zeros(2, 4))
    assert (student.grad[SOME].abs().amax(dim=1) > 0).all()


@over("sure", [1e3, 1e6])
def test_models_that_are_very_sure_of_opposite_classes_have_a_finite_loss(sure):
    student = torch.tensor([[sure, 0.0, 0.0], [0.0, sure, -sure]], requires_grad=True)
    teacher = torch.tensor([[0.0, sure, 0.0], [sure, 0.0, -sure]])
    loss = dkd()(*of_outputs(student, teacher, torch.tensor([0, 1]), torch.tensor([True, True])))
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
