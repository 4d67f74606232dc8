import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses.similarity import (
    anchored,
    centroid_distance,
    choose_anchors,
    cosine_matrix,
    similarity_matrix,
    unit_rows,
)
from tests.loops import over
from tests.losses.reference import random

property_test = settings(deadline=None, max_examples=40, derandomize=True)


# cosine_matrix


@property_test
@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 10_000), st.sampled_from([1e-3, 1.0, 1e4]))
def test_cosine_matrix_equals_pairwise_cosine_similarity(batch, dim, seed, scale):
    features = random(batch, dim, seed=seed) * scale
    expected = F.cosine_similarity(features[:, None], features[None], dim=2)
    torch.testing.assert_close(cosine_matrix(features), expected, rtol=1e-5, atol=2e-6)


def test_cosine_matrix_has_a_unit_diagonal_and_is_symmetric():
    matrix = cosine_matrix(random(9, 5, seed=0))
    torch.testing.assert_close(matrix.diag(), torch.ones(9))
    torch.testing.assert_close(matrix, matrix.T)


def test_gradient_of_the_cosine_matrix_equals_finite_differences():
    features = random(4, 3, seed=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(cosine_matrix, features)


@over("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_zero_vector_is_similar_to_nothing_and_has_a_finite_gradient(dtype):
    features = random(4, 3, seed=2, dtype=dtype)
    features[1] = 0
    features.requires_grad_()
    matrix = cosine_matrix(features)
    assert torch.equal(matrix[1], torch.zeros(4, dtype=dtype))
    assert torch.equal(matrix[:, 1], torch.zeros(4, dtype=dtype))
    assert float(matrix[0, 0].detach()) == pytest.approx(1.0, abs=0.02)
    matrix.square().sum().backward()
    assert features.grad.isfinite().all()


def test_only_zero_vectors_give_zeros_and_zero_gradients():
    features = torch.zeros(3, 4, requires_grad=True)
    matrix = cosine_matrix(features)
    matrix.sum().backward()
    assert torch.equal(matrix, torch.zeros(3, 3))
    assert torch.equal(features.grad, torch.zeros(3, 4))


# unit_rows


def test_rows_of_any_leading_shape_become_unit_vectors_of_the_same_direction():
    rows = random(2, 3, 4, seed=0, dtype=torch.float64)
    torch.testing.assert_close(unit_rows(rows), F.normalize(rows, dim=-1))
    assert torch.autograd.gradcheck(unit_rows, rows.requires_grad_())


def test_a_row_shorter_than_the_limit_has_no_direction_and_no_gradient():
    rows = torch.tensor([[3e-9, 4e-9], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    unit = unit_rows(rows)
    unit[:, 0].sum().backward()
    torch.testing.assert_close(unit.detach(), torch.tensor([[0, 0], [0.6, 0.8]], dtype=torch.float64))
    torch.testing.assert_close(rows.grad, torch.tensor([[0, 0], [0.64, -0.48]], dtype=torch.float64) / 5)


# similarity_matrix


KERNELS = ("cosine", "centred", "rbf")
every_kernel = over("kernel", KERNELS)


def test_cosine_is_the_kernel_unless_another_is_asked_for():
    features = random(6, 4, seed=0)
    assert torch.equal(similarity_matrix(features), cosine_matrix(features))


@property_test
@given(st.integers(2, 30), st.integers(1, 20), st.integers(0, 10_000))
def test_the_centred_kernel_is_the_correlation_of_samples_about_the_mean_feature(batch, dim, seed):
    features = random(batch, dim, seed=seed, dtype=torch.float64) + 3
    centred = features - features.mean(dim=0)
    expected = F.cosine_similarity(centred[:, None], centred[None], dim=2)
    torch.testing.assert_close(similarity_matrix(features, "centred"), expected, rtol=1e-8, atol=1e-8)


@property_test
@given(st.integers(2, 30), st.integers(1, 20), st.integers(0, 10_000))
def test_the_rbf_kernel_falls_with_the_distance_in_units_of_its_mean_square(batch, dim, seed):
    features = random(batch, dim, seed=seed, dtype=torch.float64) + 3
    squares = torch.cdist(features, features).square()
    mean = squares.sum() / (batch * (batch - 1))
    torch.testing.assert_close(similarity_matrix(features, "rbf"), (-squares / (2 * mean)).exp())


def test_two_samples_are_each_others_unit_of_distance():
    for scale in (1e-6, 1.0, 1e6):
        matrix = similarity_matrix(random(2, 3, seed=1, dtype=torch.float64) * scale, "rbf")
        assert float(matrix[0, 1]) == pytest.approx(math.exp(-0.5))
        assert float(similarity_matrix(random(2, 3, seed=1) * scale, "centred")[0, 1]) == pytest.approx(-1)


@property_test
@given(st.sampled_from(KERNELS), st.integers(1, 30), st.integers(1, 20), st.integers(0, 10_000))
def test_every_kernel_is_symmetric_bounded_and_positive_semidefinite(kernel, batch, dim, seed):
    matrix = similarity_matrix(random(batch, dim, seed=seed, dtype=torch.float64), kernel)
    torch.testing.assert_close(matrix, matrix.T)
    assert float(matrix.abs().max()) <= 1 + 1e-12
    assert float(torch.linalg.eigvalsh(matrix).min()) > -1e-9


@every_kernel
def test_gradient_of_every_kernel_equals_finite_differences(kernel):
    features = random(5, 3, seed=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: similarity_matrix(x, kernel), features)


@every_kernel
@over("dtype", [torch.float32, torch.float64])
@over("scale", [1e-3, 1.0, 1e3])
def test_a_feature_space_has_no_unit_and_no_axes_and_but_for_cosines_no_origin(kernel, dtype, scale):
    features = random(8, 6, seed=2, dtype=torch.float64)
    rotation = torch.linalg.qr(random(6, 6, seed=3, dtype=torch.float64)).Q
    expected = similarity_matrix(features, kernel)
    moved = scale * (features @ rotation + (0 if kernel == "cosine" else torch.linspace(-2, 2, 6)))
    found = similarity_matrix(moved.to(dtype), kernel)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)


@every_kernel
@over("dtype", [torch.float32, torch.float64])
@over("batch", [0, 1, 2, 3, 33, 100])
@over("value", [0.0, 1e-30, 0.1, 1.0, 3.7, 1e3])
def test_samples_without_differences_have_a_structure_without_differences_and_no_gradient(kernel, dtype, batch, value):
    features = torch.full((batch, 7), value, dtype=dtype, requires_grad=True)
    matrix = similarity_matrix(features, kernel)
    (matrix * random(batch, batch, seed=1, dtype=dtype)).sum().backward()
    # Equal vectors have cosine 1, equal points distance 0; a point that is the mean has no direction from it.
    same = {"cosine": float(value > 1e-8), "centred": 0.0, "rbf": 1.0}[kernel]
    torch.testing.assert_close(matrix, torch.full_like(matrix, same))
    assert float(features.grad.abs().max() if batch else 0) <= 1e-4 / max(value, 1)


@every_kernel
@over("magnitude", [1e-30, 1e-12, 1e12, 1e25])
def test_no_magnitude_of_the_features_makes_a_similarity_or_its_gradient_not_a_number(kernel, magnitude):
    features = (random(5, 4, seed=4) * magnitude).requires_grad_()
    matrix = similarity_matrix(features, kernel)
    matrix.square().sum().backward()
    assert matrix.isfinite().all()
    assert features.grad.isfinite().all()


@every_kernel
def test_equal_samples_have_equal_rows_and_finite_gradients(kernel):
    features = random(4, 3, seed=5)[[0, 1, 1, 2, 3]].requires_grad_()
    matrix = similarity_matrix(features, kernel)
    matrix.square().sum().backward()
    torch.testing.assert_close(matrix[1], matrix[2], rtol=0, atol=1e-6)
    torch.testing.assert_close(features.grad[1], features.grad[2], rtol=1e-4, atol=1e-6)
    assert float(matrix[1, 2].detach()) == pytest.approx(1)


# choose_anchors


EXAMPLE = torch.tensor([[1.0, 0.3, -0.2, 0.1], [0.3, 1.0, 0.9, -0.5], [-0.2, 0.9, 1.0, 0.0], [0.1, -0.5, 0.0, 1.0]])


def test_anchors_are_the_columns_of_the_smallest_similarities_in_rising_order():
    assert torch.equal(choose_anchors(EXAMPLE, 2), torch.tensor([[2, 3], [3, 0], [0, 3], [1, 2]]))


def test_the_most_similar_are_others_in_falling_order():
    expected = torch.tensor([[1, 3], [2, 0], [1, 3], [0, 2]])
    assert torch.equal(choose_anchors(EXAMPLE, 2, "most"), expected)
    # A sample without a direction is not its own most similar one, nor is one that has a twin.
    assert torch.equal(choose_anchors(torch.ones(2, 2), 1, "most"), torch.tensor([[1], [0]]))
    assert torch.equal(choose_anchors(torch.zeros(2, 2), 1, "most"), torch.tensor([[1], [0]]))


def test_all_anchors_are_all_columns_whatever_their_number():
    for k in (1, 3, 99):
        assert torch.equal(choose_anchors(torch.eye(3), k, "all"), torch.tensor([[0, 1, 2]] * 3))


def test_random_anchors_are_other_samples_and_every_choice_is_as_likely():
    torch.manual_seed(0)
    counts = torch.zeros(5, 5)
    for _ in range(2000):
        anchors = choose_anchors(torch.eye(5), 2, "random")
        assert all(a != b for a, b in anchors.tolist())
        counts.scatter_add_(1, anchors, torch.ones(5, 2))
    assert torch.equal(counts.diag(), torch.zeros(5))
    # Each of the other four is chosen with probability 1/2: five standard deviations are 112.
    assert float((counts[~torch.eye(5, dtype=torch.bool)] - 1000).abs().max()) < 112


def test_random_anchors_do_not_look_at_the_similarities():
    chosen = []
    for similarity in (torch.eye(6), EXAMPLE.new_zeros(6, 6), -torch.eye(6), cosine_matrix(random(6, 3, seed=1))):
        torch.manual_seed(3)
        chosen.append(choose_anchors(similarity, 5, "random"))
    assert all(torch.equal(chosen[0], other) for other in chosen)


def test_ties_between_anchors_go_to_the_lower_column():
    similarity = torch.tensor([[0.5, 0.0, 0.5, 0.0, 0.0, 0.5]] * 6)
    assert choose_anchors(similarity, 5)[0].tolist() == [1, 3, 4, 0, 2]
    assert choose_anchors(similarity, 5, "most")[0].tolist() == [2, 5, 1, 3, 4]


def test_choosing_does_not_change_the_similarities_and_takes_no_gradient():
    for which in ("least", "most", "random", "all"):
        similarity = EXAMPLE.clone().requires_grad_()
        assert not choose_anchors(similarity, 2, which).requires_grad
        assert torch.equal(similarity, EXAMPLE)


@property_test
@given(st.integers(2, 40), st.integers(0, 10_000), st.sampled_from(["least", "most"]), st.data())
def test_no_other_column_is_better_than_the_anchors(batch, seed, which, data):
    similarity = cosine_matrix(random(batch, 4, seed=seed))
    k = data.draw(st.integers(1, batch - 1))
    anchors = choose_anchors(similarity, k, which)
    rank = similarity if which == "least" else -similarity
    for i, (row, chosen) in enumerate(zip(rank, anchors.tolist(), strict=True)):
        assert len(set(chosen)) == k
        excluded = {*chosen, i} if which == "most" else set(chosen)
        others = [float(row[j]) for j in range(batch) if j not in excluded]
        assert float(row[chosen].max()) <= min(others, default=2.0)
        assert row[chosen].tolist() == sorted(row[chosen].tolist())
        assert which == "least" or i not in chosen


@over("k", [0, -1, 4])
def test_as_many_anchors_as_samples_is_the_limit(k):
    assert choose_anchors(torch.eye(3), 3).shape == (3, 3)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.3"):
        choose_anchors(torch.eye(3), k)


@over("which", ["most", "random"])
@over("k", [0, 3])
def test_the_sample_itself_is_not_an_anchor_so_that_one_less_is_the_limit(which, k):
    assert choose_anchors(torch.eye(3), 2, which).shape == (3, 2)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.2 for a batch of 3"):
        choose_anchors(torch.eye(3), k, which)


# anchored


def test_both_matrices_are_shifted_by_their_own_minimum_and_read_at_the_teachers_anchors():
    teacher = torch.tensor([[1.0, 0.5, -0.5], [0.5, 1.0, 0.0], [-0.5, 0.0, 1.0]])
    student = torch.tensor([[1.0, -1.0, 0.2], [-1.0, 1.0, 0.4], [0.2, 0.4, 1.0]])
    of_teacher, of_student = anchored(teacher, student, choose_anchors(teacher, 2))
    torch.testing.assert_close(of_teacher, torch.tensor([[0.0, 1.0], [0.5, 1.0], [0.0, 0.5]]))
    torch.testing.assert_close(of_student, torch.tensor([[1.2, 0.0], [1.4, 0.0], [1.2, 1.4]]))


def test_the_shift_takes_the_minimum_of_the_whole_matrix_and_not_of_the_anchors():
    teacher = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.4], [0.5, 0.4, 1.0]])
    student = torch.tensor([[1.0, 0.9, 0.1], [0.9, 1.0, 0.8], [0.1, 0.8, 1.0]])
    _, of_student = anchored(teacher, student, choose_anchors(teacher, 1))  # the anchors 1, 0, 1 miss the minimum
    torch.testing.assert_close(of_student, torch.tensor([[0.8], [0.8], [0.7]]))


def test_the_students_gradient_flows_through_anchors_and_shift():
    teacher = cosine_matrix(random(4, 3, seed=3, dtype=torch.float64))
    student = cosine_matrix(random(4, 3, seed=4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: anchored(teacher, s, choose_anchors(teacher, 2))[1], student)


# centroid_distance


def test_centroid_distance_is_the_norm_of_the_difference_of_the_mean_rows():
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    student = torch.tensor([[1.0, 1.0], [0.6, 1.0]])
    # Mean rows (0.5, 0.5) and (0.8, 1.0).
    assert float(centroid_distance(teacher, student)) == pytest.approx((0.3**2 + 0.5**2) ** 0.5)


def test_gradient_of_the_centroid_distance_equals_finite_differences():
    teacher = random(4, 4, seed=5, dtype=torch.float64)
    student = random(4, 4, seed=6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: centroid_distance(teacher, s), student)


@over("dtype", [torch.float32, torch.float64])
def test_equal_matrices_are_at_distance_zero_with_zero_gradient(dtype):
    teacher = random(5, 5, seed=7, dtype=dtype)
    student = teacher.clone().requires_grad_()
    distance = centroid_distance(teacher, student)
    distance.backward()
    assert float(distance.detach()) == 0.0
    assert torch.equal(student.grad, torch.zeros(5, 5, dtype=dtype))


@over("gap", [1e-30, 1e-20, 1e-10, 1e-3])
def test_nearly_equal_matrices_have_a_bounded_gradient(gap):
    student = torch.full((3, 3), gap, requires_grad=True)
    centroid_distance(torch.zeros(3, 3), student).backward()
    assert student.grad.isfinite().all()
    assert float(student.grad.norm()) <= 3**-0.5 + 1e-6  # a mean row moves by 1/3 of each of its three entries


def test_every_row_counts_by_its_weight_in_the_centroids():
    teacher, student = random(3, 3, seed=1, dtype=torch.float64), random(3, 3, seed=2, dtype=torch.float64)
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    expected = (0.5 * (teacher - student)[0] + 0.2 * (teacher - student)[1] + 0.3 * (teacher - student)[2]).norm()
    torch.testing.assert_close(centroid_distance(teacher, student, weights), expected)
    even = centroid_distance(teacher, student, torch.full((3,), 1 / 3, dtype=torch.float64))
    torch.testing.assert_close(even, centroid_distance(teacher, student))
    assert torch.autograd.gradcheck(lambda s: centroid_distance(teacher, s, weights), student.requires_grad_())
