import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses.newton import newton
from mtpkdot.losses.sinkhorn import between, kernel
from tests.loops import over
from tests.losses.reference import random, solve_transport

property_test = settings(deadline=None, max_examples=40, derandomize=True)
TOL = 1e-9


def costs(x, y):
    return (x[:, :, None] - y[:, None]).square().sum(dim=3) / 2


def clustered(n, m, seed=0):
    """Tight clusters far apart, in other shares on the two sides: mass must go where sweeps hardly carry it."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((3, 2))
    x, y = (centres[rng.integers(0, 3, k)] + 0.1 * rng.standard_normal((k, 2)) for k in (n, m))
    return costs(torch.tensor(x)[None], torch.tensor(y)[None])


def even(count, n):
    return torch.full((count, n), 1 / n, dtype=torch.float64)


def weights(count, n, seed=0):
    share = random(count, n, seed=seed, dtype=torch.float64).abs() + 0.1
    return share / share.sum(dim=1, keepdim=True)


def same(eps, count):
    return torch.full((count, 1), eps, dtype=torch.float64)


def plan(cost, g, a, b, eps, reach=None):
    """That of the best rows for a column potential: `f = -d eps log sum_j b_j exp((g_j - C_ij) / eps)`."""
    damping = 1.0 if reach is None else reach / (reach + eps)
    soft = torch.logsumexp((g[:, None] - cost) / eps[:, :, None] + b.log()[:, None], dim=2)
    f = -damping * eps * soft
    return a[:, :, None] * b[:, None] * torch.exp((f[:, :, None] + g[:, None] - cost) / eps[:, :, None]), f


def error(cost, g, a, b, eps):
    return (plan(cost, g, a, b, eps)[0].sum(dim=1) - b).abs().sum(dim=1)


@property_test
@given(st.integers(1, 40), st.integers(1, 40), st.floats(-3, 0), st.sampled_from([0.01, 0.3, 3.0]), st.integers(0, 99))
def test_newton_solves_problems_to_the_tolerance(n, m, digits, spread, seed):
    x, y = (spread * random(2, k, 3, seed=seed + k, dtype=torch.float64) for k in (n, m))
    cost, a, b, eps = costs(x, y), weights(2, n, seed), weights(2, m, seed + 1), same(10**digits, 2)
    g, steps = newton(cost, a, b, eps, TOL, 500)
    assert steps < 500
    assert (error(cost, g, a, b, eps) <= 2 * TOL).all()
    for i in range(2):
        exact = solve_transport(cost[i].numpy(), a[i].numpy(), b[i].numpy(), eps[i].item())
        np.testing.assert_allclose(plan(cost, g, a, b, eps)[0][i], exact.plan, atol=1e-6)


@over("seed", range(4))
@over("m", [30, 19])
def test_newton_solves_in_few_steps_problems_that_thousands_of_sweeps_do_not(seed, m):
    cost, a, b, eps = clustered(30, m, seed), even(1, 30), even(1, m), same(1e-3, 1)
    swept, _, _, _ = between(cost, a, b, eps, TOL, 2000)
    assert not error(cost, swept.g, a, b, eps) <= 1e-6
    g, steps = newton(cost, a, b, eps, TOL, 300)
    assert error(cost, g, a, b, eps) <= 2 * TOL
    assert steps < 300
    exact = solve_transport(cost[0].numpy(), a[0].numpy(), b[0].numpy(), 1e-3)
    np.testing.assert_allclose(plan(cost, g, a, b, eps)[0][0], exact.plan, atol=1e-7)


@over("distance", [1e1, 1e2, 1e3])
def test_a_far_point_does_not_prevent_a_solution(distance):
    x, y = (random(1, 15, 3, seed=seed, dtype=torch.float64) for seed in (0, 1))
    y[0, 0] *= distance
    cost, a, eps = costs(x, y), even(1, 15), same(0.01, 1)
    g, steps = newton(cost, a, a, eps, 1e-7, 500)
    assert steps < 500
    assert error(cost, g, a, a, eps) <= 2e-7


def test_a_cost_of_1e12_eps_is_solved_as_far_as_its_rounding_allows():
    x = random(1, 40, 3, seed=0, dtype=torch.float64)
    y = random(1, 30, 3, seed=1, dtype=torch.float64)
    y[0, 0] *= 6e4
    cost, a, b, eps = costs(x, y), even(1, 40), even(1, 30), same(1.5e-3, 1)
    assert cost.max() / eps > 1e12
    assert error(cost, newton(cost, a, b, eps, 1e-7, 500)[0], a, b, eps) <= 1e-4


def test_tiny_weights_do_not_prevent_a_solution():
    grid = torch.linspace(-8, 8, 161, dtype=torch.float64)[None, :, None]
    a, b = ((-(grid[..., 0] - mean).square() / (2 * width**2)).exp() for mean, width in ((0, 1), (0.5, 0.7)))
    a, b = a / a.sum(), b / b.sum()
    assert b.min() < 1e-30
    g, steps = newton(costs(grid, grid), a, b, same(0.1, 1), TOL, 500)
    assert steps <= 150
    assert error(costs(grid, grid), g, a, b, same(0.1, 1)) <= 2 * TOL


@over("reach", [None, 0.5])
def test_columns_without_weight_are_as_if_they_were_not_there(reach):
    cost, a, eps = clustered(30, 20), even(1, 30), same(1e-3, 1)
    b = torch.where(torch.arange(20) % 3 == 0, 0.0, weights(1, 20))
    b, held = b / b.sum(), b[0] > 0
    g, _ = newton(cost, a, b, eps, TOL, 500, reach)
    less, _ = newton(cost[:, :, held], a, b[:, held], eps, TOL, 500, reach)
    found, expected = (kernel(cost[:, :, held], u, b[:, held], eps)[0] * b[:, held] for u in (g[:, held], less))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@over("limit", [1, 5])
def test_newton_stops_at_its_limit_with_a_finite_potential(limit):
    cost, a, b = clustered(30, 20), even(1, 30), even(1, 20)
    g, steps = newton(cost, a, b, same(1e-3, 1), TOL, limit)
    assert steps <= limit
    assert g.isfinite().all()


def test_a_batch_of_hard_and_easy_problems_is_solved_whole():
    cost, a, b = torch.cat([clustered(30, 20), clustered(30, 20).mul(1e-4)]), even(2, 30), even(2, 20)
    eps = torch.tensor([[1e-3], [1.0]], dtype=torch.float64)
    g, _ = newton(cost, a, b, eps, TOL, 500)
    assert (error(cost, g, a, b, eps) <= 2 * TOL).all()


@property_test
@given(st.integers(1, 30), st.integers(1, 30), st.floats(-3, 0), st.floats(-2, 2), st.integers(0, 99))
def test_free_marginals_are_what_the_potentials_leave_of_the_weights(n, m, digits, magnitude, seed):
    x, y = (random(2, k, 3, seed=seed + k, dtype=torch.float64) for k in (n, m))
    cost, a, b, eps, reach = (
        costs(x, y),
        weights(2, n, seed),
        weights(2, m, seed + 1),
        same(10**digits, 2),
        10**magnitude,
    )
    g, steps = newton(cost, a, b, eps, TOL, 500, reach)
    assert steps < 500
    found, f = plan(cost, g, a, b, eps, reach)
    # Where the primal objective is stationary (Sejourne et al., arXiv 1910.12958, proposition 2).
    torch.testing.assert_close(found.sum(dim=2), a * torch.exp(-f / reach), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(found.sum(dim=1), b * torch.exp(-g / reach), rtol=0, atol=2 * TOL)


@over("reach", [0.1, 10.0])
def test_a_far_point_is_left_behind_where_that_is_cheaper(reach):
    x, y = random(1, 30, 3, seed=0, dtype=torch.float64), random(1, 20, 3, seed=1, dtype=torch.float64)
    y[0, 0] += 1e6
    cost, a, b, eps = costs(x, y), even(1, 30), even(1, 20), same(2e-3, 1)
    g, steps = newton(cost, a, b, eps, 1e-7, 500, reach)
    found, f = plan(cost, g, a, b, eps, reach)
    assert steps < 500
    assert (found.sum(dim=1) - b * (-g / reach).exp()).abs().sum() <= 2e-7
    assert (found.sum(dim=2) - a * (-f / reach).exp()).abs().sum() <= 2e-7
    assert found[0, :, 0].sum() <= 1e-12


@over("reach", [0.1, 10.0])
def test_free_marginals_of_two_points_equal_the_closed_form(reach):
    cost, one, eps = torch.full((1, 1, 1), 2.5, dtype=torch.float64), even(1, 1), same(0.1, 1)
    g, _ = newton(cost, one, one, eps, TOL, 100, reach)
    assert plan(cost, g, one, one, eps, reach)[0].item() == pytest.approx(math.exp(-2.5 / (0.1 + 2 * reach)), rel=1e-7)


def test_a_start_near_the_solution_saves_steps():
    x, y = (random(1, 40, 3, seed=k, dtype=torch.float64) for k in (0, 1))
    problem = costs(x, y), even(1, 40), even(1, 40), same(0.02, 1)
    solved, steps = newton(*problem, TOL, 500)
    near = solved + 1e-6 * random(1, 40, seed=2, dtype=torch.float64)
    again, spared = newton(*problem, TOL, 500, start=(near, error(problem[0], near, *problem[1:])))
    assert spared <= 5 < steps
    torch.testing.assert_close(plan(problem[0], again, *problem[1:])[0], plan(problem[0], solved, *problem[1:])[0])


@over("bad, off", [(math.nan, 0.0), (math.inf, 0.0), (7.0, math.nan), (7.0, 1.0)])
def test_a_start_that_is_not_finite_is_not_used(bad, off):
    x, y = (random(1, 20, 3, seed=k, dtype=torch.float64) for k in (0, 1))
    problem = costs(x, y), even(1, 20), even(1, 20), same(0.02, 1)
    start = torch.full((1, 20), bad, dtype=torch.float64), torch.full((1,), off, dtype=torch.float64)
    assert torch.equal(newton(*problem, TOL, 500, start=start)[0], newton(*problem, TOL, 500)[0])
