import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses.hallucination import hallucination_loss, mmd
from tests.loops import over
from tests.losses.reference import random

property_test = settings(deadline=None, max_examples=40, derandomize=True)
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
SOME = torch.tensor([True, False, True, True, False])
NONE = torch.zeros(5, dtype=torch.bool)


# mmd


@over("distance", [0.01, 1.0, 30.0])
def test_mmd_of_two_points_is_that_of_the_formula(distance):
    # The bandwidth is the mean squared distance, here the one that there is: each kernel is exp(-1 / scale).
    expected = sum(2 - 2 * math.exp(-1 / scale) for scale in SCALES)
    value = mmd(torch.tensor([[0.0, 0.0]]), torch.tensor([[distance, 0.0]]))
    assert float(value) == pytest.approx(expected, rel=1e-4)


def test_mmd_of_unequal_samples_on_a_line_is_that_of_the_formula():
    # Points 0, 2 against 1: squared distances 4, 1, 1, whose mean is 2.
    def kernel(square):
        return sum(math.exp(-square / (2 * scale)) for scale in SCALES)

    expected = (2 * kernel(0) + 2 * kernel(4)) / 4 + kernel(0) - 2 * kernel(1)
    assert float(mmd(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0]]))) == pytest.approx(expected, rel=1e-5)


@property_test
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 8), st.integers(0, 10_000))
def test_mmd_is_nonnegative_symmetric_and_blind_to_order(n, m, dim, seed):
    x, y = random(n, dim, seed=seed), random(m, dim, seed=seed + 1) * 2
    value = mmd(x, y)
    assert float(value) >= -1e-5  # rounding
    torch.testing.assert_close(mmd(y, x), value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mmd(x.flip(0), y), value, rtol=1e-4, atol=1e-5)
    assert float(mmd(x, x.flip(0))) == pytest.approx(0.0, abs=1e-5)


@over("shift", [1.0, 100.0, 1000.0])
def test_mmd_does_not_change_under_a_common_shift(shift):
    x, y = (torch.round(random(20, 8, seed=s) * 256) / 256 for s in (0, 1))  # exact after the shift
    torch.testing.assert_close(mmd(x + shift, y + shift), mmd(x, y), rtol=1e-3, atol=1e-4)


def test_mmd_of_tight_samples_far_from_the_origin_is_not_lost_to_rounding():
    x, y = (100 + torch.round(random(20, 8, seed=s) * 64) / 4096 for s in (0, 1))
    torch.testing.assert_close(mmd(x, y), mmd(x.double(), y.double()).float(), rtol=1e-3, atol=1e-4)


@over("scale", [1e-2, 1e3])
def test_mmd_does_not_change_with_the_unit(scale):
    x, y = random(12, 4, seed=2), random(9, 4, seed=3) + 1
    torch.testing.assert_close(mmd(scale * x, scale * y), mmd(x, y), rtol=1e-4, atol=1e-5)


def test_mmd_grows_as_the_samples_move_apart():
    x, y = random(30, 4, seed=4), random(30, 4, seed=5)
    values = [float(mmd(x, y + shift)) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert values == sorted(values)
    assert values[-1] > 5 * values[0]


def test_the_bandwidth_is_a_constant_of_the_gradient():
    x, y = random(5, 2, seed=6, dtype=torch.float64).requires_grad_(), random(4, 2, seed=7, dtype=torch.float64)
    joint = torch.cat([x.detach(), y])
    bandwidth = torch.cdist(joint, joint).square().sum() / 72

    def fixed(x):
        def kernel(a, b):
            square = (a[:, None] - b[None]).square().sum(dim=2)
            return sum(torch.exp(-square / (bandwidth * scale)) for scale in SCALES).mean()

        return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)

    torch.testing.assert_close(mmd(x, y), fixed(x))
    torch.testing.assert_close(torch.autograd.grad(mmd(x, y), x), torch.autograd.grad(fixed(x), x))


@over("n", [1, 4])
def test_mmd_of_collapsed_samples_is_zero_with_finite_gradient(n):
    x = torch.ones(n, 3, requires_grad=True)
    value = mmd(x, torch.ones(n, 3))
    value.backward()
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-6)
    assert x.grad.isfinite().all()


# hallucination_loss


def test_mse_compares_sample_by_sample_where_both_are_present():
    made, real = random(5, 3, seed=8), random(5, 3, seed=9)
    expected = (made[[0, 2, 3]] - real[[0, 2, 3]]).square().mean()
    torch.testing.assert_close(hallucination_loss("mse", made, real, SOME), expected)


def test_mmd_compares_the_distributions_where_both_are_present():
    made, real = random(5, 3, seed=10), random(5, 3, seed=11)
    loss = hallucination_loss("mmd", made, real, SOME)
    torch.testing.assert_close(loss, mmd(made[[0, 2, 3]], real[[0, 2, 3]]))
    torch.testing.assert_close(hallucination_loss("mmd", made, real[[3, 1, 2, 0, 4]], SOME), loss)


@over("kind", ["mse", "mmd"])
def test_absent_samples_are_never_read_and_get_no_gradient(kind):
    made, real = random(5, 3, seed=12).requires_grad_(), random(5, 3, seed=13)
    clean = hallucination_loss(kind, made, real, SOME)
    real[~SOME] = math.nan
    dirty = hallucination_loss(kind, made, real, SOME)
    dirty.backward()
    assert float(dirty.detach()) == float(clean.detach())
    assert torch.equal(made.grad[~SOME], torch.zeros(2, 3))
    assert float(made.grad[SOME].abs().max()) > 0


@over("kind", ["mse", "mmd"])
def test_a_batch_without_both_modalities_has_zero_loss_and_zero_gradient(kind):
    made = random(5, 3, seed=14).requires_grad_()
    loss = hallucination_loss(kind, made, torch.full((5, 3), math.nan), NONE)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.equal(made.grad, torch.zeros(5, 3))


@over("kind", ["mse", "mmd"])
@over("garbage", [math.nan, math.inf])
def test_features_of_a_batch_without_both_modalities_are_never_read(kind, garbage):
    made = torch.full((5, 3), garbage, requires_grad=True)
    loss = hallucination_loss(kind, made, made.detach(), NONE)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.equal(made.grad, torch.zeros(5, 3))


def test_features_of_a_batch_without_both_modalities_may_be_too_large_to_sum():
    made = torch.full((1000, 3), 100.0, dtype=torch.float16)
    assert float(hallucination_loss("mse", made, made, torch.zeros(1000, dtype=torch.bool))) == 0.0


@over("present", [SOME, NONE])
@over("kind", ["mse", "mmd"])
def test_half_precision_features_give_a_single_precision_loss(kind, present):
    made, real = random(5, 3, seed=15, dtype=torch.bfloat16), random(5, 3, seed=16, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = hallucination_loss(kind, made, real, present)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, hallucination_loss(kind, made.float(), real.float(), present))
