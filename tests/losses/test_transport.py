import numpy as np
import ot
import pytest
import torch
from geomloss import SamplesLoss
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses.transport import half_squared_distances, sinkhorn_divergence
from tests.losses.reference import converged_divergence, random, similarity_clouds

EXACT = {"tol": 1e-9, "max_iter": 50_000}
property_test = settings(deadline=None, max_examples=25, derandomize=True)


def solve(x, y, **settings):
    """Value and both gradients."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = sinkhorn_divergence(x, y, **settings).value
    value.backward()
    return value.detach(), x.grad, y.grad


def diameter(*clouds):
    points = torch.cat(clouds).double()
    return float(torch.cdist(points, points).max())


@st.composite
def pairs_of_clouds(draw):
    n, k, seed = draw(st.integers(2, 40)), draw(st.integers(1, 8)), draw(st.integers(0, 10_000))
    spread = draw(st.sampled_from([0.01, 0.3, 1.0, 3.0]))
    return random(n, k, seed=seed) * spread, random(n, k, seed=seed + 1) * spread + 0.1


# Values


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("batch", "k"), [(8, 7), (32, 30), (48, 30)])
def test_default_settings_reach_the_converged_value_to_four_digits(seed, batch, k):
    x, y = similarity_clouds(batch, k, seed)
    value = float(sinkhorn_divergence(x, y).value)
    assert value == pytest.approx(converged_divergence(x, y, 0.01), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("eps", [0.01, 0.1, 1.0])
def test_a_small_tolerance_reaches_the_converged_value_to_nine_digits(eps):
    x, y = similarity_clouds(24, 12, seed=5, dtype=torch.float64)
    assert float(sinkhorn_divergence(x, y, eps, **EXACT).value) == pytest.approx(
        converged_divergence(x, y, eps), rel=1e-9
    )


@pytest.mark.parametrize("seed", range(4))
def test_value_equals_that_of_the_released_solver_within_its_error(seed):
    x, y = similarity_clouds(48, 30, seed)
    theirs = SamplesLoss("sinkhorn", p=2, blur=0.1)(x, y)
    assert float(sinkhorn_divergence(x, y).value) == pytest.approx(float(theirs), rel=0.02)


@pytest.mark.parametrize("seed", range(2))
def test_gradient_equals_that_of_the_released_solver_when_it_anneals_slowly(seed):
    x, y = similarity_clouds(32, 30, seed)
    _, ours, _ = solve(x, y)
    theirs = x.clone().requires_grad_()
    SamplesLoss("sinkhorn", p=2, blur=0.1, scaling=0.99)(theirs, y).backward()
    assert float((ours - theirs.grad).norm() / ours.norm()) < 0.05


@pytest.mark.parametrize("eps", [0.1, 0.5])
def test_value_equals_the_primal_objective_of_another_library(eps):
    x, y = similarity_clouds(16, 8, seed=6, dtype=torch.float64)
    weight = np.full(16, 1 / 16)

    def primal(a, b):
        cost = half_squared_distances(a, b).numpy()
        plan = ot.bregman.sinkhorn_log(weight, weight, cost, eps, numItermax=5000, stopThr=1e-9)
        return (plan * cost).sum() + eps * (plan * np.log(plan * 16**2)).sum()

    expected = primal(x, y) - (primal(x, x) + primal(y, y)) / 2
    assert float(sinkhorn_divergence(x, y, eps, **EXACT).value) == pytest.approx(expected, abs=1e-7)


def test_two_points_apart_by_much_more_than_the_blur_cost_their_matching():
    x = torch.tensor([[0.0], [10.0]])
    value = sinkhorn_divergence(x, x + 1, eps=0.01).value
    assert float(value) == pytest.approx(0.5, abs=1e-4)  # |1|^2 / 2 per point


def test_a_single_point_costs_half_its_squared_distance():
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 6.0]])
    value, to_x, to_y = solve(x, y)
    assert float(value) == pytest.approx(12.5)
    torch.testing.assert_close(to_x, x - y)
    torch.testing.assert_close(to_y, y - x)


def test_half_squared_distances_are_those_of_the_definition():
    x, y = random(2, 5, 3, seed=0, dtype=torch.float64), random(2, 4, 3, seed=1, dtype=torch.float64)
    expected = (x[:, :, None] - y[:, None]).square().sum(dim=3) / 2
    torch.testing.assert_close(half_squared_distances(x, y), expected)


# Gradients


@pytest.mark.parametrize("eps", [0.05, 0.1, 1.0])
def test_every_partial_derivative_equals_its_finite_difference(eps):
    x, y = (cloud.requires_grad_() for cloud in similarity_clouds(5, 3, seed=1, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x, y: sinkhorn_divergence(x, y, eps, **EXACT).value, (x, y), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("eps", [0.01, 0.1])
def test_directional_derivatives_equal_finite_differences(seed, eps):
    x, y = similarity_clouds(20, 10, seed, dtype=torch.float64)
    to_x, to_y = random(20, 10, seed=seed, dtype=torch.float64), random(20, 10, seed=seed + 9, dtype=torch.float64)
    step = 1e-5

    def value(sign):
        return sinkhorn_divergence(x + sign * step * to_x, y + sign * step * to_y, eps, **EXACT).value

    _, of_x, of_y = solve(x, y, eps=eps, **EXACT)
    slope = (of_x * to_x).sum() + (of_y * to_y).sum()
    torch.testing.assert_close(slope, (value(1) - value(-1)) / (2 * step), rtol=1e-5, atol=1e-7)


def test_the_default_tolerance_leaves_the_gradient_within_a_percent():
    x, y = similarity_clouds(40, 30, seed=2)
    _, rough, _ = solve(x, y)
    _, exact, _ = solve(x.double(), y.double(), **EXACT)
    assert float((rough - exact).norm() / exact.norm()) < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_both_solvers_agree_on_value_and_gradients(seed):
    x, y = similarity_clouds(24, 20, seed, dtype=torch.float64)
    for ours, theirs in zip(solve(x, y, **EXACT), solve(x, y, solver="pot", **EXACT), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


# What a divergence must satisfy


@property_test
@given(pairs_of_clouds(), st.floats(0.01, 1.0))
def test_it_is_finite_nonnegative_and_symmetric(clouds, eps):
    x, y = clouds
    value, of_x, of_y = solve(x, y, eps=eps)
    swapped, _, _ = solve(y, x, eps=eps)
    scale = diameter(x, y) ** 2 + 1e-3
    assert float(value) >= -1e-5 * scale
    assert float(swapped) == pytest.approx(float(value), abs=1e-2 * scale)  # unequal sides where not yet converged
    assert of_x.isfinite().all()
    assert of_y.isfinite().all()


def test_it_is_symmetric_to_rounding_once_converged():
    x, y = similarity_clouds(24, 12, seed=3, dtype=torch.float64)
    (ab, of_a, of_b), (ba, of_b_too, of_a_too) = solve(x, y, **EXACT), solve(y, x, **EXACT)
    torch.testing.assert_close(ab, ba, rtol=1e-9, atol=0)
    torch.testing.assert_close(of_a, of_a_too, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(of_b, of_b_too, rtol=1e-6, atol=1e-9)


@property_test
@given(pairs_of_clouds(), st.floats(0.01, 1.0))
def test_identical_clouds_have_no_divergence_and_no_gradient(clouds, eps):
    x, _ = clouds
    value, of_x, of_y = solve(x, x, eps=eps)
    assert float(value) == pytest.approx(0.0, abs=1e-5 * diameter(x) ** 2 + 1e-6)
    # The tolerance on the marginals allows each point this much.
    assert float(of_x.abs().sum()) < 1e-3 * diameter(x) + 1e-6
    assert float(of_y.abs().sum()) < 1e-3 * diameter(x) + 1e-6


@property_test
@given(pairs_of_clouds(), st.integers(0, 100))
def test_reordering_the_points_of_one_cloud_changes_nothing(clouds, seed):
    x, y = clouds
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    value, of_x, of_y = solve(x.double(), y.double())
    again, of_x_again, of_y_again = solve(x.double(), y.double()[order])
    torch.testing.assert_close(value, again, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(of_x, of_x_again, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(of_y[order], of_y_again, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("shift", [1.0, 100.0, 10_000.0])
def test_a_common_shift_changes_nothing(shift):
    x, y = similarity_clouds(32, 16, seed=4, dtype=torch.float64)
    torch.testing.assert_close(
        sinkhorn_divergence(x + shift, y + shift, **EXACT).value, sinkhorn_divergence(x, y, **EXACT).value
    )


def test_a_common_shift_costs_single_precision_little():
    x, y = (torch.round(cloud * 64) / 64 for cloud in similarity_clouds(32, 16, seed=4))  # exact after the shift
    shifted, plain = sinkhorn_divergence(x + 1024, y + 1024).value, sinkhorn_divergence(x, y).value
    torch.testing.assert_close(shifted, plain, rtol=1e-4, atol=1e-4)


def test_moving_one_whole_cloud_costs_half_the_squared_shift():
    x = random(16, 4, seed=0, dtype=torch.float64) * 0.2
    value = sinkhorn_divergence(x, x + 3.0, eps=0.05, **EXACT).value
    assert float(value) == pytest.approx(0.5 * 4 * 9, rel=1e-6)


# Degenerate clouds


@pytest.mark.parametrize("n", [1, 2, 3, 17])
@pytest.mark.parametrize("solver", ["native", "pot"])
def test_collapsed_and_duplicated_clouds_have_finite_gradients(n, solver):
    spread, point = random(n, 4, seed=n), torch.ones(n, 4)
    twice = spread[torch.arange(n) // 2]
    for x, y in [(point, spread), (spread, point), (point, point), (point, 2 * point), (twice, spread), (twice, twice)]:
        for part in solve(x, y, solver=solver):
            assert part.isfinite().all()
    value, of_x, of_y = solve(point, point, solver=solver)
    assert (float(value), float(of_x.abs().max()), float(of_y.abs().max())) == (0.0, 0.0, 0.0)
    assert float(solve(point, 2 * point, solver=solver)[0]) == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize("distance", [1e2, 1e4, 3e4, 1e5, 1e6])
def test_a_far_outlier_leaves_value_and_gradient_finite_and_in_proportion(distance):
    for seed in range(6):
        x, y = random(24, 4, seed=seed), random(24, 4, seed=seed + 50)
        y[0] = distance * random(4, seed=seed + 99)
        value, *gradients = solve(x, y, max_iter=50)
        assert value.isfinite()
        for gradient in gradients:
            # Plans have mass 1: no two of them can pull all points together by more than twice the diameter.
            assert float(gradient.norm(dim=1).sum()) <= 2.02 * diameter(x, y)


# Precision, record and arguments


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_precision(dtype):
    x, y = similarity_clouds(16, 8, seed=0, dtype=dtype)
    value, of_x, _ = solve(x, y)
    assert value.dtype == torch.float32
    assert of_x.dtype == dtype
    torch.testing.assert_close(value, sinkhorn_divergence(x.float(), y.float()).value)


def test_double_precision_is_kept():
    x, y = similarity_clouds(16, 8, seed=0, dtype=torch.float64)
    assert sinkhorn_divergence(x, y).value.dtype == torch.float64
    assert sinkhorn_divergence(x.float(), y).value.dtype == torch.float64


def test_autocast_does_not_change_the_result():
    x, y = similarity_clouds(16, 8, seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = sinkhorn_divergence(x, y).value
    assert inside.dtype == torch.float32
    assert torch.equal(inside, sinkhorn_divergence(x, y).value)


@pytest.mark.parametrize("solver", ["native", "pot"])
def test_the_record_tells_a_converged_solution_from_an_interrupted_one(solver):
    x, y = similarity_clouds(24, 12, seed=1, dtype=torch.float64)
    converged = sinkhorn_divergence(x, y, tol=1e-6, max_iter=10_000, solver=solver)
    assert float(converged.marginal_error) < 1e-5
    assert 1 < converged.iterations < 10_000
    interrupted = sinkhorn_divergence(x, y, eps=1e-3, tol=1e-6, max_iter=1, solver=solver)
    assert float(interrupted.marginal_error) > 1e-2
    assert interrupted.iterations == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("batch", "k"), [(16, 15), (64, 30)])
def test_similarity_clouds_converge_within_a_hundred_sweeps(batch, k, seed):
    solved = sinkhorn_divergence(*similarity_clouds(batch, k, seed))
    assert float(solved.marginal_error) < 2e-3
    assert solved.iterations <= 100


@pytest.mark.parametrize(
    ("x", "y"),
    [(torch.zeros(3, 2), torch.zeros(4, 2)), (torch.zeros(3, 2), torch.zeros(3, 1)), (torch.zeros(3), torch.zeros(3))],
)
def test_clouds_of_different_shapes_are_refused(x, y):
    with pytest.raises(ValueError, match="one shape"):
        sinkhorn_divergence(x, y)


@pytest.mark.parametrize("eps", [0.0, -0.1])
def test_regularisation_must_be_positive(eps):
    with pytest.raises(ValueError, match="eps must be positive"):
        sinkhorn_divergence(torch.zeros(3, 2), torch.zeros(3, 2), eps)
