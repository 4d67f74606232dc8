import math

import numpy as np
import pytest
import torch

from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals.cases import of_features, rival


def identity_heads(crd, dim):
    with torch.no_grad():
        for head in (crd.student_head, crd.teacher_head):
            head.weight.copy_(torch.eye(dim))
            head.bias.zero_()
    return crd


def test_the_loss_equals_its_formula():
    crd, student, teacher = rival("crd"), random(5, 6, seed=0), random(5, 5, seed=1)
    projected = [
        head(x).detach().double().numpy() for head, x in ((crd.student_head, student), (crd.teacher_head, teacher))
    ]
    s, t = ([v / np.linalg.norm(v) for v in rows] for rows in projected)
    terms = []
    for i in range(5):
        own = math.exp(s[i] @ t[i] / 0.07)
        terms.append(-math.log(own / sum(math.exp(s[i] @ t[j] / 0.07) for j in range(5))))
        terms.append(-math.log(own / sum(math.exp(s[j] @ t[i] / 0.07) for j in range(5))))
    assert float(crd(*of_features(student, teacher)).detach()) == pytest.approx(np.mean(terms), rel=1e-3)


def test_the_loss_equals_a_hand_computed_case():
    # Cosines 1 with the own and 0 with the other.
    crd = identity_heads(rival("crd", student_dim=2, teacher_dim=2, dim=2, temperature=0.5), 2)
    loss = crd(*of_features(torch.eye(2), 3 * torch.eye(2)))
    assert float(loss.detach()) == pytest.approx(math.log(1 + math.exp(-2)))


@over("n", [2, 5, 12])
def test_samples_that_cannot_be_told_apart_cost_the_logarithm_of_the_batch(n):
    crd = rival("crd")
    loss = crd(*of_features(torch.ones(n, 6), torch.ones(n, 5)))
    assert float(loss.detach()) == pytest.approx(math.log(n), rel=1e-4)


def test_projections_have_128_dimensions_and_are_both_learned():
    crd = rival("crd")
    assert {name: tuple(p.shape) for name, p in crd.named_parameters()} == {
        "student_head.weight": (128, 6),
        "student_head.bias": (128,),
        "teacher_head.weight": (128, 5),
        "teacher_head.bias": (128,),
    }


def test_a_low_temperature_overflows_nowhere():
    crd, student = rival("crd", temperature=1e-4), random(5, 6, seed=2).requires_grad_()
    loss = crd(*of_features(student, random(5, 5, seed=3)))
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
