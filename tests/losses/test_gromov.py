from itertools import permutations

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses.gromov import gromov_wasserstein
from mtpkdot.losses.similarity import similarity_matrix
from tests.loops import over
from tests.losses.reference import random

property_test = settings(deadline=None, max_examples=25, derandomize=True)
KERNELS = ("cosine", "centred", "rbf")
PRICES = (None, 0.1, 0.5, 1.0)


def structures(batch, seed, kernel="cosine", dtype=torch.float64):
    return [similarity_matrix(random(batch, 5, seed=seed + i, dtype=dtype) + 0.3, kernel) for i in (0, 1000)]


def even(batch, dtype=torch.float64):
    return torch.full((batch,), 1 / batch, dtype=dtype)


def uneven(batch, seed=0):
    weights = torch.rand(batch, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.2
    return weights / weights.sum()


def objective(teacher, student, plan, price=None):
    """The definition, term by term."""
    difference = (teacher[:, None, :, None] - student[None, :, None, :]) ** 2
    structure = float(np.einsum("ijkl,ij,kl->", difference, plan, plan))
    price = price or 0.0
    return (1 - price) * structure + price * float(plan.sum() - np.trace(plan))


def best_over_permutations(teacher, student, price=None):
    size = len(teacher)
    return min(objective(teacher, student, np.eye(size)[list(p)] / size, price) for p in permutations(range(size)))


# Values


@pytest.mark.parametrize("price", PRICES)
@property_test
@given(st.integers(2, 8), st.integers(0, 500), st.sampled_from(KERNELS), st.booleans())
def test_the_value_is_the_definitions_at_a_plan_with_the_weights_as_marginals(price, batch, seed, kernel, weighted):
    teacher, student = structures(batch, seed, kernel)
    weights = uneven(batch, seed) if weighted else even(batch)
    value, plan, steps = gromov_wasserstein(teacher, student, weights, price)
    torch.testing.assert_close(plan.sum(dim=1), weights)
    torch.testing.assert_close(plan.sum(dim=0), weights)
    assert float(plan.min()) >= 0
    expected = objective(teacher.numpy(), student.numpy(), plan.numpy(), price)
    assert float(value) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert float(value) >= -1e-12
    assert steps >= 2


@pytest.mark.parametrize("price", PRICES)
@property_test
@given(st.integers(2, 5), st.integers(0, 500), st.sampled_from(KERNELS))
def test_no_plan_is_better_than_the_best_permutation_and_the_found_one_no_worse_than_the_pairing(
    price, batch, seed, kernel
):
    # Similarities are positive semidefinite, hence the objective concave and least at a vertex: a permutation.
    teacher, student = structures(batch, seed, kernel)
    value = float(gromov_wasserstein(teacher, student, even(batch), price)[0])
    assert value >= best_over_permutations(teacher.numpy(), student.numpy(), price) - 1e-12
    assert value <= objective(teacher.numpy(), student.numpy(), np.eye(batch) / batch, price) + 1e-12


@pytest.mark.parametrize("price", [None, 0.1, 0.5])  # POT's own value divides by 1 - price
@property_test
@given(st.integers(2, 12), st.integers(0, 500), st.sampled_from(KERNELS), st.booleans())
def test_pot_finds_no_better_value_from_the_pairing_or_from_no_knowledge(price, batch, seed, kernel, weighted):
    teacher, student = structures(batch, seed, kernel)
    weights = uneven(batch, seed) if weighted else even(batch)
    arrays = teacher.numpy(), student.numpy(), weights.numpy(), weights.numpy()
    theirs = []
    for start in (np.diag(arrays[2]), np.outer(arrays[2], arrays[2])):
        if price is None:
            theirs.append(ot.gromov.gromov_wasserstein2(*arrays, symmetric=True, G0=start, max_iter=500))
        else:
            cost = 1 - np.eye(batch)
            theirs.append(
                ot.gromov.fused_gromov_wasserstein2(
                    cost, *arrays, alpha=1 - price, symmetric=True, G0=start, max_iter=500
                )
            )
    value = float(gromov_wasserstein(teacher, student, weights, price)[0])
    assert value <= min(theirs) + 1e-10


def test_two_samples_have_a_closed_form():
    # Both plans without mixing cost ((T_12 - S_12)^2 + (T_21 - S_21)^2) / 4.
    teacher, student = (torch.tensor([[1.0, c], [c, 1.0]], dtype=torch.float64) for c in (0.7, -0.2))
    assert float(gromov_wasserstein(teacher, student, even(2))[0]) == pytest.approx(0.9**2 / 2)
    assert float(gromov_wasserstein(teacher, student, even(2), 0.3)[0]) == pytest.approx(0.7 * 0.9**2 / 2)


def test_with_a_full_price_the_pairing_is_kept_for_nothing_whatever_the_structures():
    teacher, student = structures(6, 3)
    value, plan, _ = gromov_wasserstein(teacher, student.requires_grad_(), uneven(6), 1.0)
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(plan, torch.diag(uneven(6)))
    assert float(student.grad.abs().max()) == 0


# Structures that are the same


@over("price", PRICES)
@over("kernel", KERNELS)
def test_the_same_structure_is_at_distance_zero_with_zero_gradient(price, kernel):
    teacher, _ = structures(7, 1, kernel)
    for weights in (even(7), uneven(7)):
        student = teacher.clone().requires_grad_()
        value, plan, _ = gromov_wasserstein(teacher, student, weights, price)
        value.backward()
        assert float(value.detach()) == pytest.approx(0, abs=1e-12)
        assert float(student.grad.abs().max()) < 1e-12
        torch.testing.assert_close(plan, torch.diag(weights))


@property_test
@given(st.integers(2, 20), st.integers(0, 500), st.sampled_from(KERNELS))
def test_a_reordered_structure_is_at_distance_zero_and_the_plan_finds_the_order(batch, seed, kernel):
    teacher, _ = structures(batch, seed, kernel)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    value, plan, _ = gromov_wasserstein(teacher, teacher[order][:, order], even(batch))
    assert float(value) == pytest.approx(0, abs=1e-12)
    if batch > 2:  # two samples have the same structure either way
        torch.testing.assert_close(plan[order], torch.eye(batch, dtype=torch.float64) / batch)


@over("kernel", KERNELS)
def test_a_reordered_structure_is_recognised_through_noise(kernel):
    for seed in range(20):
        features = random(10, 5, seed=seed, dtype=torch.float64) + 0.3
        order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))
        noisy = features + 0.01 * random(10, 5, seed=seed + 1, dtype=torch.float64)
        teacher, student = similarity_matrix(features, kernel), similarity_matrix(noisy, kernel)
        known = objective(teacher.numpy(), student.numpy(), np.eye(10) / 10)
        value, _, _ = gromov_wasserstein(teacher, student[order][:, order], even(10))
        assert float(value) <= known + 1e-12, f"seed {seed}"


@over("price", [None, 0.3])
def test_a_common_relabelling_changes_nothing(price):
    teacher, student = structures(9, 5)
    weights = uneven(9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    value, plan, _ = gromov_wasserstein(teacher, student, weights, price)
    again, relabelled, _ = gromov_wasserstein(teacher[order][:, order], student[order][:, order], weights[order], price)
    torch.testing.assert_close(again, value)
    torch.testing.assert_close(relabelled, plan[order][:, order])


def test_teacher_and_student_may_change_places():
    for seed in range(10):
        teacher, student = structures(6, seed)
        there, back = (gromov_wasserstein(*pair, even(6))[0] for pair in ((teacher, student), (student, teacher)))
        torch.testing.assert_close(there, back)


def test_a_sample_of_double_weight_counts_as_two():
    # The structures are near each other, so that it is plain which plan is best and no start misses it.
    features = random(5, 5, seed=2, dtype=torch.float64) + 0.3
    near = features + 0.05 * random(5, 5, seed=3, dtype=torch.float64)
    teacher, student = similarity_matrix(features), similarity_matrix(near)
    weights = torch.tensor([2.0, 1, 1, 1, 1], dtype=torch.float64) / 6
    index = torch.tensor([0, 1, 2, 3, 4, 0])
    for price in PRICES:
        once = gromov_wasserstein(teacher, student, weights, price)[0]
        twice = gromov_wasserstein(teacher[index][:, index], student[index][:, index], even(6), price)[0]
        torch.testing.assert_close(twice, once, rtol=1e-8, atol=1e-12)
        even_ones = gromov_wasserstein(teacher, student, even(5), price)[0]
        assert price == 1 or float(once) != pytest.approx(float(even_ones), rel=1e-3)


# Gradients


@over("price", PRICES)
@over("kernel", ["cosine", "centred"])
def test_gradient_equals_finite_differences(price, kernel):
    teacher, _ = structures(6, 3, kernel)
    features = random(6, 3, seed=4, dtype=torch.float64).requires_grad_()
    for weights in (even(6), uneven(6)):
        assert torch.autograd.gradcheck(
            lambda x, w=weights: gromov_wasserstein(teacher, similarity_matrix(x, kernel), w, price)[0],
            features,
            atol=1e-7,
        )


def test_the_teacher_receives_no_gradient():
    teacher, student = (x.requires_grad_() for x in structures(5, 1))
    gromov_wasserstein(teacher, student, even(5))[0].backward()
    assert teacher.grad is None
    assert float(student.grad.abs().max()) > 0


# Degenerate structures, precision and arguments


@over("price", PRICES)
@over("dtype", [torch.float32, torch.float64])
@over("batch", [1, 2, 3, 30])
def test_structures_without_differences_have_finite_distances_and_gradients(price, dtype, batch):
    plain, _ = structures(batch, 1, dtype=dtype)
    flat = [
        torch.zeros(batch, batch, dtype=dtype),
        torch.ones(batch, batch, dtype=dtype),
        torch.eye(batch, dtype=dtype),
    ]
    for strange in flat:
        for teacher, student in ((plain, strange), (strange, plain), (strange, strange)):
            student = student.clone().requires_grad_()
            value, plan, _ = gromov_wasserstein(teacher, student, even(batch, dtype), price)
            value.backward()
            assert value.dtype == plan.dtype == dtype
            assert value.isfinite()
            assert student.grad.isfinite().all()
            if teacher is strange and student.equal(strange):
                assert float(value.detach()) == pytest.approx(0, abs=1e-6)
                assert float(student.grad.abs().max()) < 1e-6


def test_single_precision_is_near_double_precision():
    for seed in range(10):
        teacher, student = structures(12, seed)
        for price in PRICES:
            double = float(gromov_wasserstein(teacher, student, even(12), price)[0])
            single = float(gromov_wasserstein(teacher.float(), student.float(), even(12, torch.float32), price)[0])
            assert single == pytest.approx(double, rel=1e-4, abs=1e-6)


@over("price", [0.0, -0.5, 1.5])
def test_a_price_outside_its_range_is_refused(price):
    with pytest.raises(ValueError, match=r"pairing must lie in \(0, 1\], not"):
        gromov_wasserstein(torch.eye(3), torch.eye(3), even(3), price)
