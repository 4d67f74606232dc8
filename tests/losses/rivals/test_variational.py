import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals.cases import of_features, rival


def test_the_loss_equals_the_mean_negative_log_likelihood_without_its_constant():
    vid, student, teacher = rival("vid"), random(4, 6, seed=0), random(4, 5, seed=1)
    with torch.no_grad():
        vid.alpha.copy_(torch.tensor([-3.0, -1.0, 0.0, 1.0, 5.0]))
    alpha = vid.alpha.detach().double().numpy()
    means = vid.regressor(student).detach().double().numpy()
    terms = []
    for mean, t in zip(means, teacher.double().numpy(), strict=True):
        for d in range(5):
            variance = math.log1p(math.exp(alpha[d])) + 1e-5
            density = math.exp(-((t[d] - mean[d]) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
            terms.append(-math.log(density) - 0.5 * math.log(2 * math.pi))
    assert float(vid(*of_features(student, teacher)).detach()) == pytest.approx(np.mean(terms), rel=1e-4)


@over("variance", [2e-5, 0.01, 1.0, 5.0, 300.0])
def test_the_variance_starts_at_its_setting(variance):
    vid = rival("vid", variance=variance)
    torch.testing.assert_close(F.softplus(vid.alpha.detach()) + 1e-5, torch.full((5,), variance), rtol=1e-3, atol=0)
    student = random(4, 6, seed=2)
    mean = vid.regressor(student).detach()
    assert float(vid(*of_features(student, mean)).detach()) == pytest.approx(0.5 * math.log(variance), abs=1e-3)


def test_the_variance_starts_at_five():
    assert torch.equal(rival("vid").alpha, rival("vid", variance=5.0).alpha)


def test_the_variance_that_costs_least_is_the_mean_squared_error_of_each_dimension():
    vid, student, teacher = rival("vid"), random(20, 6, seed=3), random(20, 5, seed=4)
    error = (vid.regressor(student).detach() - teacher).square().mean(dim=0)
    with torch.no_grad():
        vid.alpha.copy_(torch.log(torch.expm1(error - 1e-5)))
    vid(*of_features(student, teacher)).backward()
    assert float(vid.alpha.grad.abs().max()) < 1e-5


def test_a_hidden_layer_makes_the_mean_nonlinear():
    linear, mlp, x = rival("vid"), rival("vid", hidden=16), random(4, 6, seed=5)
    assert sum(p.numel() for p in linear.parameters()) == 6 * 5 + 5 + 5
    assert sum(p.numel() for p in mlp.parameters()) == 6 * 16 + 16 + 16 * 5 + 5 + 5

    def bend(regressor):
        return float((regressor(x) + regressor(-x) - 2 * regressor(torch.zeros(1, 6))).abs().max().detach())

    assert bend(linear.regressor) < 1e-6
    assert bend(mlp.regressor) > 1e-3


def test_very_sure_variances_stay_finite():
    vid = rival("vid")
    with torch.no_grad():
        vid.alpha.fill_(-1000.0)
    loss = vid(*of_features(random(4, 6, seed=6), random(4, 5, seed=7)))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in vid.parameters())
