import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mtpkdot.losses.newton import newton
from mtpkdot.losses.sinkhorn import between, kernel, within
from tests.loops import over
from tests.losses.reference import random, solve_transport

property_test = settings(deadline=None, max_examples=40, derandomize=True)
TOL = 1e-9


def costs(count, n, m, seed=0, spread=1.0):
    """Half squared distances of a few pairs of clouds."""
    x, y = random(count, n, 3, seed=seed, dtype=torch.float64), random(count, m, 3, seed=seed + 1, dtype=torch.float64)
    return spread**2 * torch.cdist(x, y + 0.3).square() / 2


def costs_inside(count, n, seed=0, spread=1.0):
    x = spread * random(count, n, 3, seed=seed, dtype=torch.float64)
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square() / 2


def weights(count, n, seed=0):
    share = random(count, n, seed=seed, dtype=torch.float64).abs() + 0.1
    return share / share.sum(dim=1, keepdim=True)


def same(eps, count):
    return torch.full((count, 1), eps, dtype=torch.float64)


def plan(cost, g, a, b, eps):
    """That of the best rows for a column potential, by the definition."""
    exponent = (g[:, None] - cost) / eps[:, :, None]
    return a[:, :, None] * torch.softmax(exponent + b.log()[:, None], dim=2)


def error(cost, g, a, b, eps):
    return (plan(cost, g, a, b, eps).sum(dim=1) - b).abs().sum(dim=1)


@property_test
@given(
    st.integers(1, 30), st.integers(1, 30), st.floats(-3, 0), st.sampled_from([0.01, 1.0, 100.0]), st.integers(0, 99)
)
def test_rows_of_a_kernel_have_mass_one_and_its_potential_is_the_soft_minimum(n, m, digits, spread, seed):
    cost, b, eps = costs(3, n, m, seed, spread), weights(3, m, seed), same(10**digits, 3)
    g = spread * random(3, m, seed=seed + 7, dtype=torch.float64)
    found, f = kernel(cost, g, b, eps)
    assert found.shape == (3, n, m)
    torch.testing.assert_close((found * b[:, None]).sum(dim=2), torch.ones(3, n, dtype=torch.float64))
    minimum = -eps * torch.logsumexp((g[:, None] - cost) / eps[:, :, None] + b.log()[:, None], dim=2)
    torch.testing.assert_close(f, minimum, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found * b[:, None], plan(cost, g, torch.ones(3, n), b, eps), rtol=1e-6, atol=1e-12)


@over("tol", [1e-4, 1e-6])
@over("eps", [0.2, 1.0])
@over("m", [20, 13])
def test_sweeps_between_clouds_that_overlap_at_the_scale_of_eps_reach_the_converged_plan(tol, eps, m):
    cost, a, b, eps = costs(3, 20, m, spread=0.5), weights(3, 20), weights(3, m, seed=1), same(eps, 3)
    found, told, sweeps, _ = between(cost, a, b, eps, tol, 1000)
    assert (told <= tol).all()
    assert 0 < sweeps < 1000
    for i in range(3):
        exact = solve_transport(cost[i].numpy(), a[i].numpy(), b[i].numpy(), eps[i].item())
        np.testing.assert_allclose(plan(cost, found.g, a, b, eps)[i], exact.plan, atol=10 * tol)
        np.testing.assert_allclose(found.plan[i], exact.plan, atol=10 * tol)


@over("eps", [1e-3, 0.05, 1.0])
@over("spread", [0.01, 1.0])
def test_sweeps_within_a_cloud_reach_the_converged_plan_whatever_eps_is(eps, spread):
    cost, a, eps = costs_inside(3, 20, spread=spread), weights(3, 20), same(eps, 3)
    swept, _, sweeps, _ = within(cost, a, eps, TOL, 1000)
    assert sweeps < 200
    found = swept.plan
    torch.testing.assert_close(plan(cost, swept.g, a, a, eps), found, rtol=0, atol=10 * TOL)
    assert (error(cost, swept.g, a, a, eps) <= 2 * TOL).all()
    torch.testing.assert_close(found, found.mT, rtol=0, atol=10 * TOL)  # one potential serves both sides
    for i in range(3):
        exact = solve_transport(cost[i].numpy(), a[i].numpy(), a[i].numpy(), eps[i].item())
        np.testing.assert_allclose(found[i], exact.plan, atol=1e-7)


@settings(deadline=None, max_examples=150, derandomize=True)
@example(2, 2, -1.0, 118, 1e-6, 5000)
@example(5, 5, -2.0, 35, 1e-6, 5000)
@given(
    st.integers(2, 30),
    st.integers(2, 30),
    st.sampled_from([-2.0, -1.0, -0.5, 0.0]),
    st.integers(0, 200),
    st.sampled_from([1e-3, 1e-6, 1e-9]),
    st.sampled_from([40, 200, 5000]),
)
def test_no_error_is_larger_than_reported(n, m, digits, seed, tol, limit):
    cost, inside, eps = costs(1, n, m, seed), costs_inside(1, n, seed), same(10**digits, 1)
    a, b = weights(1, n, seed), weights(1, m, seed + 1)
    for (found, told, _, _), matrix, columns in (
        (between(cost, a, b, eps, tol, limit), cost, b),
        (within(inside, a, eps, tol, limit), inside, a),
    ):
        # Not a number where sweeps are no way. The last sweep may make the error smaller than it was when measured.
        assert told.isnan() or error(matrix, found.g, a, columns, eps) <= told * (1 + 1e-6) + 1e-13
        assert told.isnan() or (found.plan.sum(dim=1) - columns).abs().sum() <= told * (1 + 1e-6) + 1e-13


@over("limit", [1, 7, 25])
def test_sweeps_stop_at_their_limit_with_a_finite_potential_and_report_the_error(limit):
    eps = same(1e-3, 2)
    for found, told, sweeps, _ in (
        between(costs(2, 30, 25), weights(2, 30), weights(2, 25), eps, TOL, limit),
        within(costs_inside(2, 30), weights(2, 30), eps, TOL, limit),
    ):
        assert sweeps <= limit
        for part in (found.f, found.g, found.plan):
            assert part[told.isfinite()].isfinite().all()


@property_test
@given(st.integers(2, 40), st.integers(2, 40), st.floats(-0.5, 0), st.integers(0, 99))
def test_sweeps_and_newtons_method_agree_where_problems_are_easy(n, m, digits, seed):
    cost, a, b, eps = costs(2, n, m, seed, 0.5), weights(2, n, seed), weights(2, m, seed + 1), same(10**digits, 2)
    swept, _, _, _ = between(cost, a, b, eps, 1e-6, 5000)
    stepped, _ = newton(cost, a, b, eps, 1e-12, 200)
    torch.testing.assert_close(plan(cost, swept.g, a, b, eps), plan(cost, stepped, a, b, eps), rtol=0, atol=1e-5)
    inside = costs_inside(2, n, seed, 0.5)
    stepped, _ = newton(inside, a, a, eps, 1e-12, 200)
    for other in (within(inside, a, eps, 1e-6, 5000)[0], between(inside, a, a, eps, 1e-6, 5000)[0]):
        torch.testing.assert_close(
            plan(inside, stepped, a, a, eps), plan(inside, other.g, a, a, eps), rtol=0, atol=1e-5
        )


def test_a_batch_is_solved_as_its_problems_are_alone():
    cost, a, b = costs(4, 12, 9, spread=0.5), weights(4, 12), weights(4, 9)
    eps = torch.tensor([[1.0], [0.5], [0.3], [0.2]], dtype=torch.float64)
    together = plan(cost, between(cost, a, b, eps, 1e-6, 1000)[0].g, a, b, eps)
    for i in range(4):
        alone = [part[i : i + 1] for part in (cost, a, b, eps)]
        found = plan(alone[0], between(*alone, 1e-6, 1000)[0].g, *alone[1:])
        torch.testing.assert_close(together[i : i + 1], found, rtol=0, atol=1e-5)


def test_nothing_is_learnt_from_what_rounding_leaves():
    cost, a, eps = costs_inside(2, 2, 78, 0.5), weights(2, 2, 78), same(10**-0.2430946807803615, 2)
    found, told, _, solved = between(cost, a, a, eps, 1e-6, 5000)
    assert solved
    assert (told <= 1e-6).all()
    assert found.plan.isfinite().all()
