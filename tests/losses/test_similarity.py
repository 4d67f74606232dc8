import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses.similarity import anchored, centroid_distance, cosine_matrix, least_similar
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
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


# least_similar


def test_anchors_are_the_columns_of_the_smallest_similarities_in_rising_order():
    similarity = torch.tensor(
        [[1.0, 0.3, -0.2, 0.1], [0.3, 1.0, 0.9, -0.5], [-0.2, 0.9, 1.0, 0.0], [0.1, -0.5, 0.0, 1.0]]
    )
    expected = torch.tensor([[2, 3], [3, 0], [0, 3], [1, 2]])
    assert torch.equal(least_similar(similarity, 2), expected)


def test_ties_between_anchors_go_to_the_lower_column():
    similarity = torch.tensor([[0.5, 0.0, 0.5, 0.0, 0.0, 0.5]] * 6)
    assert least_similar(similarity, 5)[0].tolist() == [1, 3, 4, 0, 2]


@property_test
@given(st.integers(1, 40), st.integers(0, 10_000), st.data())
def test_no_other_column_is_less_similar_than_the_anchors(batch, seed, data):
    similarity = cosine_matrix(random(batch, 4, seed=seed))
    k = data.draw(st.integers(1, batch))
    anchors = least_similar(similarity, k)
    for row, chosen in zip(similarity, anchors, strict=True):
        assert len(set(chosen.tolist())) == k
        others = [float(row[j]) for j in range(batch) if j not in chosen.tolist()]
        assert float(row[chosen].max()) <= min(others, default=2.0)
        assert row[chosen].tolist() == sorted(row[chosen].tolist())


@pytest.mark.parametrize("k", [0, -1, 4])
def test_as_many_anchors_as_samples_is_the_limit(k):
    assert least_similar(torch.eye(3), 3).shape == (3, 3)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.3"):
        least_similar(torch.eye(3), k)


# anchored


def test_both_matrices_are_shifted_by_their_own_minimum_and_read_at_the_teachers_anchors():
    teacher = torch.tensor([[1.0, 0.5, -0.5], [0.5, 1.0, 0.0], [-0.5, 0.0, 1.0]])
    student = torch.tensor([[1.0, -1.0, 0.2], [-1.0, 1.0, 0.4], [0.2, 0.4, 1.0]])
    of_teacher, of_student = anchored(teacher, student, 2)
    torch.testing.assert_close(of_teacher, torch.tensor([[0.0, 1.0], [0.5, 1.0], [0.0, 0.5]]))
    torch.testing.assert_close(of_student, torch.tensor([[1.2, 0.0], [1.4, 0.0], [1.2, 1.4]]))


def test_the_shift_takes_the_minimum_of_the_whole_matrix_and_not_of_the_anchors():
    teacher = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.4], [0.5, 0.4, 1.0]])
    student = torch.tensor([[1.0, 0.9, 0.1], [0.9, 1.0, 0.8], [0.1, 0.8, 1.0]])
    _, of_student = anchored(teacher, student, 1)  # the anchors 1, 0, 1 miss the minimum
    torch.testing.assert_close(of_student, torch.tensor([[0.8], [0.8], [0.7]]))


def test_the_students_gradient_flows_through_anchors_and_shift():
    teacher = cosine_matrix(random(4, 3, seed=3, dtype=torch.float64))
    student = cosine_matrix(random(4, 3, seed=4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: anchored(teacher, s, 2)[1], student)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_matrices_are_at_distance_zero_with_zero_gradient(dtype):
    teacher = random(5, 5, seed=7, dtype=dtype)
    student = teacher.clone().requires_grad_()
    distance = centroid_distance(teacher, student)
    distance.backward()
    assert float(distance.detach()) == 0.0
    assert torch.equal(student.grad, torch.zeros(5, 5, dtype=dtype))


@pytest.mark.parametrize("gap", [1e-30, 1e-20, 1e-10, 1e-3])
def test_nearly_equal_matrices_have_a_bounded_gradient(gap):
    student = torch.full((3, 3), gap, requires_grad=True)
    centroid_distance(torch.zeros(3, 3), student).backward()
    assert student.grad.isfinite().all()
    assert float(student.grad.norm()) <= 3**-0.5 + 1e-6  # a mean row moves by 1/3 of each of its three entries
