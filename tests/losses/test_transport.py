import math
from typing import NamedTuple

import numpy as np
import ot
import pytest
import torch
from geomloss import SamplesLoss
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from mtpkdot.losses import newton
from mtpkdot.losses.transport import SinkhornDivergence, half_squared_distances
from tests.loops import over
from tests.losses.reference import on_the_sphere, random, similarity_clouds, solve_divergence

EXACT = {"tol": 1e-11, "max_iter": 20_000}
OPTIONS = (
    {},
    {"relative": True},
    {"cost": "cosine"},
    {"reach": 0.5},
    {"cost": "cosine", "relative": True},
    {"reach": 0.5, "relative": True},
    {"reach": 2.0, "cost": "cosine"},
)
every_option = over("option", OPTIONS)
property_test = settings(deadline=None, max_examples=20, derandomize=True)


def clouds(*shape, seed=0, columns=None, dtype=torch.float64):
    """Two that overlap."""
    other = shape if columns is None else (*shape[:-2], columns, shape[-1])
    return random(*shape, seed=seed, dtype=dtype), random(*other, seed=seed + 1000, dtype=dtype) + 0.3


def divergence(x, y, *weights, eps=0.01, **settings):
    return SinkhornDivergence(eps, **settings)(x, y, *weights)


def solve(x, y, *weights, **settings):
    """The result, its value detached, and both gradients."""
    x, y = x.detach().clone().requires_grad_(), y.detach().clone().requires_grad_()
    found = divergence(x, y, *weights, **settings)
    found.value.sum().backward()
    return found, found.value.detach(), x.grad, y.grad


def assert_alike(found, expected, rtol=1e-8, atol=1e-10):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, torch.as_tensor(other), rtol=rtol, atol=atol)


# Against converged solutions


class Problem(NamedTuple):
    kind: str
    n: int
    m: int
    k: int
    digits: float
    spread: float
    far: float
    seed: int

    @property
    def eps(self):
        return 10**self.digits

    def clouds(self):
        """Exact in bfloat16, so that every precision is asked the same."""
        rng = np.random.default_rng(self.seed)
        x, y = rng.standard_normal((self.n, self.k)), rng.standard_normal((self.m, self.k)) + 0.3
        x, y, few = x * self.spread, y * self.spread, min(self.n, self.m) // 2
        if self.kind == "duplicates":
            x, y = x[rng.integers(0, self.n // 4 + 1, self.n)], y[rng.integers(0, self.m // 4 + 1, self.m)]
            y[:few] = x[:few]
        elif self.kind == "clusters":
            centres = 10 * self.spread * rng.standard_normal((4, self.k))
            x, y = centres[rng.integers(0, 4, self.n)] + 0.05 * x, centres[rng.integers(0, 4, self.m)] + 0.05 * y
        elif self.kind == "near":
            y = x[rng.permutation(np.resize(np.arange(self.n), self.m))] + 0.01 * y
        elif self.kind == "outlier":
            y[0] *= self.far / np.linalg.norm(y[0])
        elif self.kind != "even":
            x[:] = x[0]
            y[:] = y[0] if self.kind == "both collapsed" else y
        return tuple(torch.tensor(cloud).bfloat16().double() for cloud in (x, y))


KINDS = ("even", "duplicates", "collapsed", "both collapsed", "outlier", "clusters", "near")
sizes = st.integers(2, 200)
problems = st.builds(
    Problem,
    kind=st.sampled_from(KINDS),
    n=sizes,
    m=sizes,
    k=st.integers(1, 16),
    digits=st.floats(-3, 0),
    spread=st.sampled_from([0.03, 0.3, 1.0, 3.0]),
    far=st.sampled_from([1e1, 1e2, 1e3, 1e4]),
    seed=st.integers(0, 10_000),
) | st.builds(lambda problem: problem._replace(m=problem.n), st.deferred(lambda: problems))


def assert_as_exact(value, to_x, to_y, exact, rounding=0.0):
    """The bounds of the method; `rounding` is that of the type in which gradients are handed out."""
    assert abs(value.item() - exact.value) <= 1e-4 * abs(exact.value) + 1e-6 * exact.largest_cost + 1e-14
    for gradient, expected in ((to_x, exact.to_x), (to_y, exact.to_y)):
        error, size = np.linalg.norm(gradient.double().numpy() - expected), np.linalg.norm(expected)
        assert error <= (1e-4 + rounding) * size + 1e-6 * exact.largest_gradient + 1e-14


@settings(deadline=None, max_examples=50, derandomize=True)
@example(Problem("near", 58, 58, 14, -1.86, 0.3, 100.0, 97))
@given(problems)
def test_values_and_gradients_are_those_of_the_converged_solution_in_every_precision(problem):
    x, y = problem.clouds()
    exact = solve_divergence(x, y, problem.eps)
    for dtype, rounding in ((torch.float64, 0.0), (torch.float32, 0.0), (torch.bfloat16, 2**-8)):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float64):
            _, value, to_x, to_y = solve(x.to(dtype), y.to(dtype), eps=problem.eps)
        assert value.dtype == torch.promote_types(dtype, torch.float32)
        assert_as_exact(value, to_x, to_y, exact, rounding)


@property_test
@example(Problem("even", 4, 4, 6, -2.7, 0.3, 1.0, 4219))
@example(Problem("clusters", 2, 38, 5, -1.6, 0.3, 1.0, 5481))
@given(problems)
def test_rows_of_the_plan_are_exact_and_its_columns_err_by_no_more_than_reported(problem):
    x, y = problem.clouds()
    found = divergence(x, y, eps=problem.eps)
    assert (found.plan >= 0).all()
    np.testing.assert_allclose(found.plan.sum(dim=1), 1 / problem.n, rtol=1e-12)
    error = (found.plan.sum(dim=0) - 1 / problem.m).abs().sum()
    assert error <= found.marginal_error + 1e-14
    if problem.kind != "outlier":  # whose potentials may have too few digits behind the point
        assert found.marginal_error <= 1e-6
    assert found.iterations <= 1000


@property_test
@given(problems)
def test_the_divergence_is_symmetric_and_not_negative_and_its_gradients_cancel(problem):
    x, y = problem.clouds()
    found, value, to_x, to_y = solve(x, y, eps=problem.eps)
    swapped, back, to_y_too, to_x_too = solve(y, x, eps=problem.eps)
    size = torch.cdist(torch.cat([x, y]), torch.cat([x, y])).max().item()
    assert value >= -1e-9 * size**2
    assert_alike([back], [value], rtol=2e-4, atol=1e-6 * size**2)
    assert_alike([to_x_too, to_y_too], [to_x, to_y], rtol=2e-4, atol=1e-5 * size)
    assert_alike([swapped.plan.T], [found.plan], rtol=0, atol=1e-5)
    # A common translation changes nothing, so that the gradients of all points sum to 0.
    assert (to_x.sum(dim=0) + to_y.sum(dim=0)).abs().max() <= 1e-5 * size


@over("eps", [0.001, 0.01, 0.1, 1.0])
@over("columns", [24, 15])
def test_a_small_tolerance_reaches_the_converged_solution_to_ten_digits(eps, columns):
    x, y = clouds(24, 5, columns=columns)
    found, value, to_x, to_y = solve(x, y, eps=eps, **EXACT)
    exact = solve_divergence(x, y, eps)
    assert value.item() == pytest.approx(exact.value, rel=1e-10)
    assert_alike([to_x, to_y, found.plan], [exact.to_x, exact.to_y, exact.plan], rtol=1e-7, atol=1e-10)


@over("seed", range(3))
def test_similarity_clouds_need_few_iterations(seed):
    x, y = similarity_clouds(64, 30, seed)
    found, value, to_x, to_y = solve(x, y)
    assert found.marginal_error <= 1e-6
    assert found.iterations <= 200
    assert_as_exact(value, to_x, to_y, solve_divergence(x, y, 0.01))


# Against closed forms


def on_a_grid(mean, covariance, grid):
    away = grid - torch.tensor(mean, dtype=torch.float64)
    inverse = torch.linalg.inv(torch.tensor(covariance, dtype=torch.float64))
    return torch.exp(-torch.einsum("nk,kl,nl->n", away, inverse, away) / 2)


def between_gaussians(m, a, n, b, eps):
    """OT for half squared distances, of Janati et al., NeurIPS 2020, theorem 1, with their sigma^2 = eps."""

    def root(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return vectors * np.sqrt(values) @ vectors.T

    m, a, n, b = (np.array(v) for v in (m, a, n, b))
    identity = np.eye(len(m))
    d = root(4 * root(a) @ b @ root(a) + eps**2 * identity)
    log_det = np.linalg.slogdet(d + eps * identity)[1]
    constant = len(m) * eps * (1 - math.log(2 * eps))
    return (((m - n) ** 2).sum() + np.trace(a) + np.trace(b) - np.trace(d) + constant + eps * log_det) / 2


@over(
    "m, a, n, b, eps",
    [
        ([0.0], [[1.0]], [0.0], [[0.25]], 0.1),
        ([0.5], [[1.0]], [-0.5], [[1.0]], 0.2),
        ([0.3], [[0.5]], [-0.4], [[1.2]], 1.0),
        ([0.2, -0.3], [[0.6, 0.3], [0.3, 0.5]], [-0.2, 0.1], [[0.4, -0.1], [-0.1, 0.8]], 0.5),
    ],
)
def test_gaussians_diverge_by_the_closed_form(m, a, n, b, eps):
    line = torch.linspace(-8, 8, 300 if len(m) == 1 else 45, dtype=torch.float64)
    grid = torch.cartesian_prod(*[line] * len(m)).reshape(-1, len(m))
    masses = [on_a_grid(*gaussian, grid) for gaussian in ((m, a), (n, b))]
    points = [grid[mass > 1e-11 * mass.max()] for mass in masses]
    masses = [mass[mass > 1e-11 * mass.max()] for mass in masses]
    _, value, to_x, to_y = solve(*points, *masses, eps=eps, tol=1e-9)
    expected = (
        between_gaussians(m, a, n, b, eps)
        - (between_gaussians(m, a, m, a, eps) + between_gaussians(n, b, n, b, eps)) / 2
    )
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert_alike([to_x.sum(dim=0), to_y.sum(dim=0)], [np.subtract(m, n), np.subtract(n, m)], rtol=1e-5, atol=1e-6)


@property_test
@given(problems)
def test_identical_clouds_have_neither_divergence_nor_gradient(problem):
    x, _ = problem.clouds()
    for dtype in (torch.float64, torch.float32):
        _, value, to_x, to_y = solve(x.to(dtype), x.to(dtype), eps=problem.eps)
        size = torch.cdist(x, x).max().item()
        assert abs(value.item()) <= 1e-9 * (size**2 + problem.eps)
        assert max(to_x.norm(dim=1).sum().item(), to_y.norm(dim=1).sum().item()) <= 1e-5 * size + 1e-12


@over("seed", range(3))
def test_well_separated_points_go_where_their_neighbours_are(seed):
    x = 10 * torch.cartesian_prod(*[torch.arange(3, dtype=torch.float64)] * 3)
    x, step = x + random(27, 3, seed=seed), random(27, 3, seed=seed + 5, dtype=torch.float64)
    order = torch.randperm(27, generator=torch.Generator().manual_seed(seed))
    found, value, to_x, to_y = solve(x, (x + step)[order], eps=0.01)
    assert_alike([found.plan], [torch.eye(27, dtype=torch.float64)[:, order] / 27], atol=1e-9)
    assert_alike([value], [step.square().sum() / 2 / 27])
    assert_alike([to_x, to_y], [-step / 27, step[order] / 27], rtol=1e-6)


def test_a_point_is_worth_half_its_squared_distance():
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 6.0]])
    found, value, to_x, to_y = solve(x, y)
    assert_alike([value, to_x, to_y, found.plan], [torch.tensor(12.5), x - y, y - x, torch.ones(1, 1)], atol=1e-6)


@over("n", [1, 2, 17])
@over("m", [1, 2, 9])
@over("eps", [1e-3, 1.0])
def test_collapsed_clouds_are_worth_the_distance_of_their_places(n, m, eps):
    x, y = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[0.0, 2.0, 2.0]])
    found, value, to_x, to_y = solve(x.expand(n, 3), y.expand(m, 3), eps=eps)
    assert_alike([value, found.plan], [torch.tensor(2.5), torch.full((n, m), 1 / n / m)], rtol=1e-6)
    assert_alike([to_x, to_y], [((x - y) / n).expand(n, 3), ((y - x) / m).expand(m, 3)], rtol=1e-5, atol=1e-7)
    _, value, to_x, to_y = solve(x.expand(n, 3), x.expand(m, 3), eps=eps)
    assert_alike([value, to_x, to_y], [torch.tensor(0.0), torch.zeros(n, 3), torch.zeros(m, 3)], atol=1e-9)


@every_option
def test_clouds_without_points_or_coordinates_are_refused_or_worth_nothing(option):
    for n, m, k in ((0, 3, 2), (3, 0, 2), (0, 0, 2), (3, 2, 0)):
        x, y = torch.zeros(n, k), torch.zeros(m, k)
        try:
            found, value, to_x, to_y = solve(x, y, **option)
        except ValueError as refusal:
            assert str(refusal)  # noqa: PT017 (either is right)
        else:
            assert (value.item(), found.plan.shape, to_x.shape, to_y.shape) == (0.0, (n, m), (n, k), (m, k))


def test_half_squared_distances_are_those_of_the_definition():
    x, y = clouds(2, 5, 3, columns=4)
    expected = (x[:, :, None] - y[:, None]).square().sum(dim=3) / 2
    torch.testing.assert_close(half_squared_distances(x, y), expected)


# How it moves


@over("shift", [1.0, 100.0, 10_000.0])
def test_a_common_translation_changes_nothing(shift):
    x, y = clouds(32, 6, columns=20)
    moved, plain = solve(x + shift, y + shift, eps=0.1, **EXACT), solve(x, y, eps=0.1, **EXACT)
    assert_alike(moved[1:], plain[1:], rtol=1e-6, atol=1e-9)


def test_a_common_translation_costs_single_precision_nothing_that_its_inputs_have():
    x, y = (torch.round(cloud * 64) / 64 for cloud in clouds(32, 6, dtype=torch.float32))  # exact after the shift
    assert_alike(solve(x + 1024, y + 1024)[1:], solve(x, y)[1:], rtol=1e-5, atol=1e-6)


def test_translating_one_cloud_adds_the_terms_of_the_expanded_square():
    x, y = clouds(20, 4, columns=13)
    step = random(4, seed=3, dtype=torch.float64)
    grows = step @ (y.mean(dim=0) - x.mean(dim=0)) + step.square().sum() / 2
    there = divergence(x, y + step, eps=0.1, **EXACT)
    here = divergence(x, y, eps=0.1, **EXACT)
    assert_alike([there.value, there.plan], [here.value + grows, here.plan])


@over("scale", [1e-3, 0.1, 7.0, 1e3])
@over("relative", [False, True])
def test_value_and_eps_grow_with_the_square_of_the_scale(scale, relative):
    x, y = clouds(20, 4, columns=13)
    here = divergence(x, y, eps=0.05, relative=relative, **EXACT)
    there = divergence(scale * x, scale * y, eps=0.05 * (1 if relative else scale**2), relative=relative, **EXACT)
    assert_alike([there.value, there.plan], [scale**2 * here.value, here.plan], atol=1e-9 * min(1, scale**2))


@every_option
def test_reordering_the_points_reorders_plan_and_gradients(option):
    x, y = clouds(12, 4, columns=9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    found, value, to_x, to_y = solve(x, y, eps=0.1, **EXACT, **option)
    again, *others = solve(x, y[order], eps=0.1, **EXACT, **option)
    assert_alike([again.plan, *others], [found.plan[:, order], value, to_x, to_y[order]])


# Weights


def without(*parts, spare):
    kept = [i for i in range(len(parts[0])) if i not in spare]
    return [part[kept] for part in parts]


@every_option
@over("held", [0.0, 1e8, math.inf, math.nan])
def test_a_point_without_weight_might_as_well_be_missing_whatever_it_holds(option, held):
    x, y = clouds(9, 3, columns=7)
    a, b = random(9, seed=5).abs().double() + 0.1, random(7, seed=6).abs().double() + 0.1
    spare, none = [0, 4], [2]
    kept = [*without(x, a, spare=spare), *without(y, b, spare=none)]
    expected = solve(kept[0], kept[2], kept[1], kept[3], eps=0.1, **EXACT, **option)
    x[spare], a[spare], y[none], b[none] = held, 0, held, 0
    found, value, to_x, to_y = solve(x, y, a, b, eps=0.1, **EXACT, **option)
    assert_alike([value, *without(to_x, spare=spare), *without(to_y, spare=none)], expected[1:])
    assert_alike([without(without(found.plan, spare=spare)[0].T, spare=none)[0].T], [expected[0].plan])
    assert not found.plan[spare].any()
    assert not found.plan[:, none].any()
    assert not to_x[spare].any()
    assert not to_y[none].any()


@every_option
def test_a_point_of_weight_three_is_three_points_in_one_place(option):
    x, y = clouds(6, 3, columns=5)
    times, often = torch.tensor([1, 3, 1, 2, 1, 1]), torch.tensor([2, 1, 1, 1, 3])
    found, value, to_x, to_y = solve(x, y, times.double(), often.double(), eps=0.1, **EXACT, **option)
    each, each_y = (torch.arange(len(t)).repeat_interleave(t) for t in (times, often))
    _, expected, of_x, of_y = solve(x[each], y[each_y], eps=0.1, **EXACT, **option)
    gathered = torch.zeros_like(x).index_add(0, each, of_x), torch.zeros_like(y).index_add(0, each_y, of_y)
    assert_alike([value, to_x, to_y], [expected, *gathered])
    if "reach" not in option:
        assert_alike(
            [found.plan.sum(dim=1), found.plan.sum(dim=0)], [(t / t.sum()).double() for t in (times, often)], rtol=1e-6
        )


@every_option
def test_weights_may_be_in_any_unit(option):
    x, y = clouds(6, 3, columns=5)
    a, b = random(6, seed=5).abs().double(), random(5, seed=6).abs().double()
    plain = solve(x, y, a / a.sum(), b / b.sum(), eps=0.1, **EXACT, **option)
    scaled = solve(x, y, a * 1e6, b * 1e-6, eps=0.1, **EXACT, **option)
    assert_alike(scaled[1:], plain[1:])
    equal, none = solve(x, y, torch.full((6,), 5), None, eps=0.1, **option), solve(x, y, eps=0.1, **option)
    assert_alike(equal[1:], none[1:], rtol=1e-4, atol=1e-6)


@every_option
@over("a, b", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_a_cloud_without_weight_is_worth_nothing_and_disturbs_no_other(option, a, b):
    x, y = clouds(2, 6, 3, columns=5)
    a, b = torch.tensor([a, 1.0])[:, None].expand(2, 6), torch.tensor([b, 1.0])[:, None].expand(2, 5)
    found, value, to_x, to_y = solve(x, y, a, b, eps=0.1, **EXACT, **option)
    assert (value[0].item(), to_x[0].abs().max().item(), to_y[0].abs().max().item()) == (0.0, 0.0, 0.0)
    assert not found.plan[0].any()
    assert_alike([value[1], to_x[1], to_y[1]], solve(x[1], y[1], eps=0.1, **EXACT, **option)[1:])


@every_option
def test_a_point_without_weight_far_from_all_others_disturbs_none(option):
    rng = np.random.default_rng(4)
    x, y = (torch.tensor(10.0 * rng.integers(0, 3, (n, 1)) + rng.standard_normal((n, 8))) for n in (4, 7))
    b = torch.arange(7) % 4
    found, value, to_x, to_y = solve(x, y, None, b, eps=2e-3, **option)
    expected = solve(x, y[b > 0], None, b[b > 0], eps=2e-3, **option)
    assert found.marginal_error <= 1e-6
    assert_alike([value, to_x, to_y[b > 0]], expected[1:], rtol=1e-4, atol=1e-5)


def test_masks_are_weights():
    x, y = clouds(6, 3)
    mask = torch.tensor([True, True, False, True, False, True])
    assert_alike([divergence(x, y, mask, mask, **EXACT).value], [divergence(x[mask], y[mask], **EXACT).value])


# Batches


@every_option
@over("columns, weighted", [(8, False), (5, True)])
def test_a_batch_is_the_loop_over_it(option, columns, weighted):
    x, y = clouds(2, 3, 8, 4, columns=columns)
    spread = 10.0 ** torch.arange(-3, 3).reshape(2, 3, 1, 1)
    precise = {"eps": 0.05, "tol": 1e-9, **option}
    x, y = x * spread, y * spread
    weights = [random(2, 3, n, seed=n).abs().double() for n in (8, columns)] if weighted else [None, None]
    found, value, to_x, to_y = solve(x, y, *weights, **precise)
    assert found.plan.shape == (2, 3, 8, columns)
    assert found.marginal_error.shape == value.shape == (2, 3)
    for i in np.ndindex(2, 3):
        alone, *parts = solve(x[i], y[i], *(w if w is None else w[i] for w in weights), **precise)
        scale = spread[i].item()
        ours = value[i] / scale**2, to_x[i] / scale, to_y[i] / scale, found.plan[i]
        assert_alike(ours, (parts[0] / scale**2, parts[1] / scale, parts[2] / scale, alone.plan), 1e-6, 1e-8)


def test_hard_and_easy_problems_in_one_batch_are_all_solved():
    cases = [Problem(kind, 40, 40, 3, -3, 1.0, 1e3, seed) for seed, kind in enumerate(KINDS)]
    x, y = (torch.stack(side) for side in zip(*(case.clouds() for case in cases), strict=True))
    _, value, to_x, to_y = solve(x, y, eps=1e-3)
    for i in range(len(cases)):
        assert_as_exact(value[i], to_x[i], to_y[i], solve_divergence(x[i], y[i], 1e-3))


# Options


@over("eps", [1e-3, 0.05, 1.0])
def test_relative_eps_is_a_share_of_the_largest_cost_of_any_two_points(eps):
    x, y = clouds(15, 3, columns=10)
    for p, q in ((x, y), (x, 5 * y), (5 * x, y)):
        together = torch.cat([p, q])
        largest = half_squared_distances(together, together).max().item()
        found = divergence(p, q, eps=eps, relative=True, **EXACT)
        assert_alike([found.value], [divergence(p, q, eps=eps * largest, **EXACT).value])


def test_relative_eps_of_clouds_in_one_place_does_not_fail():
    x = torch.ones(4, 3)
    _, *parts = solve(x, x, relative=True)
    assert_alike(parts, [torch.tensor(0.0), torch.zeros(4, 3), torch.zeros(4, 3)])


@over("lengths", [1e-4, 1.0, 1e4])
def test_cosine_cost_is_the_euclidean_cost_of_directions(lengths):
    x, y = (lengths * cloud for cloud in clouds(12, 4, columns=9))
    p, q = x.clone().requires_grad_(), y.clone().requires_grad_()
    unit = torch.nn.functional.normalize
    found = divergence(unit(p, dim=1), unit(q, dim=1), eps=0.05, **EXACT)
    found.value.backward()
    again, *parts = solve(x, y, eps=0.05, cost="cosine", **EXACT)
    assert_alike([again.plan, *parts], [found.plan, found.value.detach(), p.grad, q.grad], atol=1e-9 / lengths)


@over("dtype", [torch.float32, torch.float64])
def test_zero_vectors_have_no_direction_and_cost_a_half(dtype):
    x, y = clouds(8, 3, columns=6, dtype=dtype)
    x[:3], y[0] = 0, 0
    _, value, *gradients = solve(x, y, eps=0.05, cost="cosine")
    exact = solve_divergence(*(on_the_sphere(cloud.double().numpy()) for cloud in (x, y)), 0.05)
    assert value.item() == pytest.approx(exact.value, rel=1e-5)
    assert all(gradient.isfinite().all() for gradient in gradients)
    _, value, *gradients = solve(torch.zeros(4, 3), torch.zeros(5, 3), cost="cosine")
    assert max(part.abs().max().item() for part in (value, *gradients)) <= 1e-12


@over("eps", [0.01, 0.3])
@over("reach", [0.1, 2.0, 50.0])
def test_free_marginals_of_two_points_have_the_value_and_gradient_of_the_closed_form(eps, reach):
    x, y = torch.tensor([[0.0, 0.0]], dtype=torch.float64), torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    found, value, to_x, to_y = solve(x, y, eps=eps, reach=reach, **EXACT)
    # Minimising p C + eps kl(p) + 2 reach kl(p) with kl(p) = p log p - p + 1; both onto themselves keep 1 at no cost.
    mass = math.exp(-2.5 / (eps + 2 * reach))
    assert value.item() == pytest.approx((eps + 2 * reach) * (1 - mass), rel=1e-9)
    assert_alike(
        [found.plan, to_x, to_y], [torch.tensor([[mass]], dtype=torch.float64), mass * (x - y), mass * (y - x)]
    )


@over("eps, reach", [(0.05, 0.2), (0.5, 0.2), (0.5, 3.0)])
def test_free_marginals_equal_those_of_another_library(eps, reach):
    x, y = (cloud.numpy() for cloud in clouds(10, 3, columns=7))
    a, b = (random(n, seed=n).abs().double().numpy() + 0.1 for n in (10, 7))
    a, b = a / a.sum(), b / b.sum()

    def kl(p, q):
        return (p * np.log(np.maximum(p, 1e-300) / q) - p + q).sum()

    def transport(p, q, v, w):
        cost = half_squared_distances(torch.tensor(p), torch.tensor(q)).numpy()
        plan = ot.unbalanced.sinkhorn_stabilized_unbalanced(v, w, cost, eps, reach, stopThr=1e-11, numItermax=20_000)
        marginals = kl(plan.sum(axis=1), v) + kl(plan.sum(axis=0), w)
        return (plan * cost).sum() + eps * kl(plan, np.outer(v, w)) + reach * marginals, plan

    (across, plan), (in_x, _), (in_y, _) = (transport(*args) for args in ((x, y, a, b), (x, x, a, a), (y, y, b, b)))
    found = divergence(*(torch.tensor(v) for v in (x, y, a, b)), eps=eps, reach=reach, **EXACT)
    assert_alike([found.value, found.plan], [across - (in_x + in_y) / 2, torch.tensor(plan)], rtol=1e-6, atol=1e-8)


def test_free_marginals_become_fixed_ones_as_their_price_grows():
    x, y = clouds(12, 3, columns=9)
    fixed = solve(x, y, eps=0.1, **EXACT)
    errors = []
    for reach in (1e2, 1e4, 1e6):
        found, value, to_x, to_y = solve(x, y, eps=0.1, reach=reach, tol=1e-8)
        errors.append(abs(value - fixed[1]).item())
    assert errors[0] > 50 * errors[1] > 2500 * errors[2]  # of first order in 1 / reach
    assert_alike([found.plan, value, to_x, to_y], [fixed[0].plan, *fixed[1:]], rtol=1e-4, atol=1e-6)


@property_test
@given(problems, st.sampled_from([1e-2, 1.0, 100.0]))
def test_free_marginals_are_never_without_a_finite_answer(problem, reach):
    x, y = problem.clouds()
    found, value, to_x, to_y = solve(x.float(), y.float(), eps=problem.eps, reach=reach)
    assert all(part.isfinite().all() for part in (value, to_x, to_y, found.plan, found.marginal_error))
    assert (found.plan.sum() <= 1 + 1e-6).item()
    size = torch.cdist(torch.cat([x, y]), torch.cat([x, y])).max().item()
    assert -1e-6 * size**2 <= value.item() <= 2 * reach + problem.eps + 1e-6  # the price of moving nothing at all


# Gradients


# Every two values meet. A relative eps counts as a constant, although it is not.
@over("option, swap", [(option, i % 2) for i, option in enumerate(o for o in OPTIONS if "relative" not in o)])
@over("eps, weighted", [(0.05, False), (1.0, True)])
def test_every_partial_derivative_equals_its_finite_difference(option, swap, eps, weighted):
    weighted = weighted != swap
    x, y = (cloud.requires_grad_() for cloud in clouds(4, 2, columns=3))
    weights = [random(n, seed=n).abs().double() + 0.1 for n in (4, 3)] if weighted else []
    loss = SinkhornDivergence(eps, **option, **EXACT)
    assert torch.autograd.gradcheck(lambda x, y: loss(x, y, *weights).value, (x, y), atol=1e-7, rtol=1e-5)


@over("seed", range(3))
@over("eps", [0.001, 0.01, 0.1])
def test_directional_derivatives_equal_finite_differences(seed, eps):
    x, y = similarity_clouds(20, 10, seed, dtype=torch.float64)
    to_x, to_y = random(20, 10, seed=seed, dtype=torch.float64), random(20, 10, seed=seed + 9, dtype=torch.float64)

    def value(step):
        return divergence(x + step * to_x, y + step * to_y, eps=eps, **EXACT).value

    _, _, of_x, of_y = solve(x, y, eps=eps, **EXACT)
    slope = (of_x * to_x).sum() + (of_y * to_y).sum()
    torch.testing.assert_close(slope, (value(1e-5) - value(-1e-5)) / 2e-5, rtol=1e-5, atol=1e-7)


def nodes(value):
    seen, ahead = set(), [value.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead.extend(after for after, _ in node.next_functions)
    return len(seen)


@every_option
def test_nothing_of_the_iteration_is_recorded(option):
    x, y = (cloud.requires_grad_() for cloud in clouds(20, 3, columns=15))
    short, long = (divergence(x, y, eps=e, tol=t, **option) for e, t in ((1.0, 1e-1), (1e-3, 1e-10)))
    assert short.iterations < long.iterations
    assert nodes(short.value) == nodes(long.value) <= 30
    assert not any(part.requires_grad for part in (long.plan, long.marginal_error))


@every_option
def test_only_the_cloud_that_asks_gets_a_gradient_and_weights_never(option):
    x, y = clouds(6, 3, columns=5)
    a, b = torch.ones(6, requires_grad=True), torch.ones(5, requires_grad=True)
    _, _, *expected = solve(x, y, a, b, eps=0.1, **EXACT, **option)
    for asks in ((True, False), (False, True)):
        p, q = x.clone().requires_grad_(asks[0]), y.clone().requires_grad_(asks[1])
        divergence(p, q, a, b, eps=0.1, **EXACT, **option).value.backward()
        assert (p.grad is not None, q.grad is not None) == asks
        asked = 0 if asks[0] else 1
        assert_alike([(p, q)[asked].grad], [expected[asked]])
    assert a.grad is b.grad is None
    assert not divergence(x, y, a, b, **option).value.requires_grad


def test_one_cloud_on_both_sides_gets_both_pulls():
    x = random(8, 3, seed=0, dtype=torch.float64).requires_grad_()
    shift = torch.tensor([0.5, 0.0, -0.5], dtype=torch.float64, requires_grad=True)
    divergence(x, x + shift, eps=0.1, **EXACT).value.backward()
    assert_alike([x.grad, shift.grad], [torch.zeros(8, 3).double(), shift.detach()])  # |shift|^2 / 2, wherever x is


# Other people's solvers


@over("option", [{}, {"relative": True}, {"cost": "cosine"}])
@over("weighted", [False, True])
def test_both_solvers_agree(option, weighted):
    x, y = clouds(2, 14, 4, columns=11)
    weights = [random(2, n, seed=n).abs().double() + 0.1 for n in (14, 11)] if weighted else []
    ours = solve(x, y, *weights, eps=0.5, **EXACT, **option)
    theirs = solve(x, y, *weights, eps=0.5, solver="pot", **EXACT, **option)
    assert_alike([ours[0].plan, *ours[1:]], [theirs[0].plan, *theirs[1:]], rtol=1e-5, atol=1e-7)


@over("eps", [0.1, 0.5])
def test_value_equals_the_primal_objective_of_another_library(eps):
    x, y = similarity_clouds(16, 8, seed=6, dtype=torch.float64)
    weight = np.full(16, 1 / 16)

    def primal(a, b):
        cost = half_squared_distances(a, b).numpy()
        plan = ot.bregman.sinkhorn_log(weight, weight, cost, eps, numItermax=5000, stopThr=1e-9)
        return (plan * cost).sum() + eps * (plan * np.log(plan * 16**2)).sum()

    expected = primal(x, y) - (primal(x, x) + primal(y, y)) / 2
    assert divergence(x, y, eps=eps, **EXACT).value.item() == pytest.approx(expected, abs=1e-7)


@over("seed", range(3))
@over("blur", [0.1, 0.5])
def test_value_equals_that_of_the_papers_solver_within_its_error(seed, blur):
    x, y = similarity_clouds(48, 30, seed)
    theirs = SamplesLoss("sinkhorn", p=2, blur=blur)(x, y)
    assert divergence(x, y, eps=blur**2).value.item() == pytest.approx(theirs.item(), rel=0.02)


def test_gradient_equals_that_of_the_papers_solver_when_it_anneals_slowly():
    x, y = similarity_clouds(32, 30, 0)
    _, _, ours, _ = solve(x, y)
    theirs = x.clone().requires_grad_()
    SamplesLoss("sinkhorn", p=2, blur=0.1, scaling=0.99)(theirs, y).backward()
    assert (ours - theirs.grad).norm() / ours.norm() < 0.05


# Precision, record and arguments


@over("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_everything_below_double_precision_comes_out_in_single_precision(dtype):
    x, y = similarity_clouds(16, 8, seed=0, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found, value, to_x, _ = solve(x, y)
    assert (value.dtype, found.plan.dtype, found.marginal_error.dtype) == (torch.float32,) * 3
    assert to_x.dtype == dtype
    assert torch.equal(value, divergence(x.float(), y.float()).value)
    assert value.item() == pytest.approx(divergence(x.double(), y.double()).value.item(), rel=1e-6)


def test_double_precision_is_kept():
    x, y = similarity_clouds(16, 8, seed=0, dtype=torch.float64)
    assert divergence(x, y).value.dtype == torch.float64
    assert divergence(x.float(), y).value.dtype == torch.float64


@every_option
@over("limit", [1, 3, 10])
def test_an_interrupted_solution_is_finite_and_says_so(option, limit):
    x, y = clouds(60, 3, columns=50)
    found = divergence(x, y, eps=1e-3, max_iter=limit, **option)
    assert found.value.isfinite()
    assert found.iterations <= 3 * limit  # of each of the three problems
    assert found.marginal_error > 1e-6
    if "reach" not in option:
        assert found.marginal_error >= (found.plan.sum(dim=0) - 1 / 50).abs().sum() - 1e-12
    solved = divergence(x, y, eps=1e-3, max_iter=5000, **option)
    assert solved.marginal_error <= 1e-6
    assert limit < solved.iterations < 5000


def test_a_solution_reported_as_converged_has_converged():
    x, y = torch.tensor([[-0.6], [0.2]]), torch.tensor([[-0.9], [0.9]])
    for tol in (1e-3, 1e-6, 1e-9):
        found = divergence(x.double(), y.double(), eps=0.1, tol=tol)
        assert found.marginal_error <= tol or found.iterations == 1000


@over("limit", [1, 10])
def test_the_other_solver_says_so_too(limit):
    x, y = clouds(20, 3)
    found = divergence(x, y, eps=1e-2, max_iter=limit, solver="pot")
    assert found.iterations <= 3 * limit  # of each of the three problems
    assert found.marginal_error > 1e-3
    assert divergence(x, y, eps=1.0, max_iter=5000, solver="pot").marginal_error < 1e-5


class Synchronisations(TorchDispatchMode):
    """Counts what makes the host wait for a device: values that are read, and sizes that depend on values."""

    READS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "unique", "_linalg_check_errors")
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        by_mask = name.startswith("index") and len(args) > 1 and isinstance(args[1], (list, tuple))
        masks = [part for part in args[1] if part is not None and part.dtype == torch.bool] if by_mask else []
        self.count += name in self.READS or bool(masks)
        return function(*args, **(kwargs or {}))


@every_option
@pytest.mark.parametrize("eps", [0.1, 1e-3])
def test_the_host_waits_at_most_once_in_ten_iterations(option, eps, monkeypatch):
    monkeypatch.setattr(newton, "_FREE", set())  # as on a GPU
    x, y = clouds(60, 3, columns=50)
    with Synchronisations() as waits:
        found = divergence(x, y, eps=eps, tol=1e-9, **option)
    assert found.iterations >= 20
    assert 10 * waits.count <= found.iterations


@over(
    "bad",
    [
        *({name: value} for name in ("eps", "reach", "tol") for value in (0.0, -0.1, math.nan)),
        {"max_iter": 0},
        {"max_iter": -5},
        {"cost": "manhattan"},
        {"solver": "guess"},
        {"solver": "pot", "reach": 1.0},
    ],
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        SinkhornDivergence(**bad)(torch.ones(2, 2), torch.ones(2, 2))


@over("x, y", [((3, 2), (3, 1)), ((3,), (3,)), ((2, 3, 2), (3, 2)), ((2, 3, 2), (3, 3, 2)), ((), (2, 2))])
def test_clouds_that_do_not_fit_are_refused(x, y):
    with pytest.raises(ValueError, match="clouds"):
        divergence(torch.zeros(x), torch.zeros(y))


@over("a, b", [((4,), None), (None, (1,)), ((3, 1), None), ((2, 3), None), ((), ())])
def test_weights_that_do_not_fit_are_refused(a, b):
    with pytest.raises(ValueError, match="weights"):
        divergence(torch.zeros(3, 2), torch.zeros(3, 2), *(w if w is None else torch.ones(w) for w in (a, b)))
