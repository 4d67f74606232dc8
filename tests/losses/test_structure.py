import numpy as np
import pytest
import torch
from geomloss import SamplesLoss
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses.similarity import anchored as package_anchored
from mtpkdot.losses.similarity import cosine_matrix
from mtpkdot.losses.structure import StructuralTransport
from mtpkdot.losses.transport import sinkhorn_divergence
from tests.losses.reference import anchored, converged_divergence, random

property_test = settings(deadline=None, max_examples=25, derandomize=True)
EXACT = {"tol": 1e-9, "max_iter": 50_000}


def features(batch, seed, dim=16, dtype=torch.float32):
    return random(batch, dim, seed=seed, dtype=dtype) + 0.3


def backward(structure):
    (structure.transport + structure.centroid).backward()


# Parity


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch", [5, 31, 32, 48])
def test_transport_term_equals_the_converged_solution_on_the_anchored_matrices(batch, seed):
    student, teacher = features(batch, seed, dim=12), features(batch, seed + 100, dim=20)
    transport = StructuralTransport()(student, teacher).transport
    expected = converged_divergence(*anchored(teacher, student, min(30, batch - 1)), eps=0.01)
    assert float(transport) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_transport_term_equals_that_of_the_released_code_within_its_solvers_error(seed):
    student, teacher = features(64, seed), features(64, seed + 100)
    clouds = [torch.tensor(cloud).float() for cloud in anchored(teacher, student, 30)]
    expected = SamplesLoss("sinkhorn", p=2, blur=0.1)(*clouds)
    assert float(StructuralTransport()(student, teacher).transport) == pytest.approx(float(expected), rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_centroid_term_equals_its_formula_on_the_full_unshifted_matrices(seed):
    student, teacher = features(12, seed), features(12, seed + 100)
    unit_s, unit_t = (x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (student, teacher))
    expected = np.linalg.norm((unit_t @ unit_t.T).mean(axis=0) - (unit_s @ unit_s.T).mean(axis=0))
    assert float(StructuralTransport(top_k=3)(student, teacher).centroid) == pytest.approx(float(expected), rel=1e-4)


def test_gradient_of_both_terms_equals_finite_differences():
    loss, teacher = StructuralTransport(top_k=4, **EXACT), features(7, 1, dtype=torch.float64)
    student = features(7, 2, dim=3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher).transport, student, atol=1e-5)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher).centroid, student)


def test_both_solvers_give_the_same_loss_and_gradient():
    terms, gradients = [], []
    for solver in ("native", "pot"):
        student = features(24, 3, dtype=torch.float64).requires_grad_()
        structure = StructuralTransport(top_k=10, eps=0.1, solver=solver, **EXACT)(student, features(24, 4))
        structure.transport.backward()
        terms.append(structure.transport.detach())
        gradients.append(student.grad)
    torch.testing.assert_close(*terms, rtol=1e-7, atol=0)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-9)


# Invariances


@property_test
@given(st.integers(2, 40), st.integers(0, 10_000), st.sampled_from([0.01, 0.1, 1.0]))
def test_terms_are_finite_nonnegative_and_blind_to_the_order_of_the_samples(batch, seed, eps):
    loss = StructuralTransport(top_k=5, eps=eps)
    student, teacher = features(batch, seed).requires_grad_(), features(batch, seed + 1)
    structure = loss(student, teacher)
    assert float(structure.transport.detach()) >= -1e-5
    assert float(structure.centroid.detach()) >= 0.0
    backward(structure)
    assert student.grad.isfinite().all()
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    again = loss(student[order], teacher[order])
    torch.testing.assert_close(again.transport, structure.transport, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(again.centroid, structure.centroid, rtol=1e-4, atol=1e-6)


def test_the_teachers_rows_may_be_paired_with_any_samples_of_the_student():
    clouds = package_anchored(*(cosine_matrix(features(20, s, dtype=torch.float64)) for s in (1, 2)), 10)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    paired = sinkhorn_divergence(*clouds, **EXACT).value
    torch.testing.assert_close(sinkhorn_divergence(clouds[0][order], clouds[1], **EXACT).value, paired)


def test_length_rotation_and_width_of_features_do_not_matter():
    loss, student, teacher = StructuralTransport(top_k=6), features(16, 5, dim=8), features(16, 6)
    expected = loss(student, teacher)
    rotation = torch.linalg.qr(random(8, 8, seed=7)).Q
    lengths = torch.linspace(0.1, 10, 16)[:, None]
    for changed in (student * lengths, student @ rotation, torch.cat([student, torch.zeros(16, 3)], dim=1)):
        structure = loss(changed, teacher)
        torch.testing.assert_close(structure.transport, expected.transport, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(structure.centroid, expected.centroid, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [2, 3, 16, 64])
def test_a_student_with_the_teachers_structure_has_no_loss_and_no_gradient(batch):
    teacher = features(batch, 8)
    student = teacher.clone().requires_grad_()
    structure = StructuralTransport()(student, teacher)
    backward(structure)
    assert float(structure.transport.detach()) == pytest.approx(0.0, abs=1e-6)
    assert float(structure.centroid.detach()) == 0.0
    assert float(student.grad.abs().max()) < 1e-3 * float(gradient_towards(features(batch, 9), teacher).abs().max())


def gradient_towards(teacher, student):
    student = student.clone().requires_grad_()
    backward(StructuralTransport()(student, teacher))
    return student.grad


def test_following_the_gradient_brings_the_student_to_the_teachers_structure():
    teacher, student = features(16, 9), features(16, 10).requires_grad_()
    loss, optimizer = StructuralTransport(top_k=8), torch.optim.Adam([student], lr=0.05)
    first = float(loss(student, teacher).transport.detach())
    for _ in range(60):
        optimizer.zero_grad()
        backward(loss(student, teacher))
        optimizer.step()
    assert float(loss(student, teacher).transport.detach()) < 0.1 * first


def test_only_the_anchors_of_the_least_similar_are_compared():
    student, teacher = features(20, 11), features(20, 12)
    for k in (1, 5, 19, 30):
        expected = converged_divergence(*anchored(teacher, student, min(k, 19)), eps=0.01)
        assert float(StructuralTransport(top_k=k)(student, teacher).transport) == pytest.approx(expected, abs=1e-4)


# Degenerate batches


@pytest.mark.parametrize("batch", [1, 2, 3, 10])
@pytest.mark.parametrize("kind", ["zeros", "constant", "opposite", "duplicates", "one huge", "one zero", "tiny"])
def test_degenerate_features_of_either_side_have_finite_terms_and_gradients(batch, kind):
    random_features = features(batch, 13)
    degenerate = {
        "zeros": torch.zeros(batch, 16),
        "constant": torch.ones(batch, 16),
        "opposite": torch.ones(batch, 16) * (-1.0) ** torch.arange(batch)[:, None],
        "duplicates": random_features[torch.arange(batch) // 2],
        "one huge": torch.cat([random_features[:1] * 1e12, random_features[1:]]),
        "one zero": torch.cat([random_features[:1] * 0, random_features[1:]]),
        "tiny": random_features * 1e-12,
    }[kind]
    for student, teacher in [(degenerate, random_features), (random_features, degenerate), (degenerate, degenerate)]:
        student = student.clone().requires_grad_()
        structure = StructuralTransport()(student, teacher)
        assert structure.transport.isfinite()
        assert structure.centroid.isfinite()
        backward(structure)
        assert student.grad.isfinite().all()


def test_one_sample_has_no_structure_to_compare():
    student = features(1, 14).requires_grad_()
    structure = StructuralTransport()(student, features(1, 15))
    assert (float(structure.transport.detach()), float(structure.centroid.detach())) == (0.0, 0.0)
    assert structure.iterations == 0
    backward(structure)
    assert torch.equal(student.grad, torch.zeros(1, 16))


# Precision, gradient paths and arguments


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 12])
def test_half_precision_features_give_single_precision_terms(dtype, batch):
    student, teacher = features(batch, 16, dtype=dtype).requires_grad_(), features(batch, 17, dtype=dtype)
    structure = StructuralTransport()(student, teacher)
    exact = StructuralTransport()(student.float(), teacher.float())
    assert structure.transport.dtype == structure.centroid.dtype == torch.float32
    torch.testing.assert_close(structure.transport, exact.transport)
    backward(structure)
    assert student.grad.dtype == dtype
    assert student.grad.isfinite().all()


def test_autocast_does_not_lower_the_precision():
    student, teacher = features(12, 18), features(12, 19)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = StructuralTransport()(student, teacher)
    outside = StructuralTransport()(student, teacher)
    assert torch.equal(inside.transport, outside.transport)
    assert torch.equal(inside.centroid, outside.centroid)


def test_the_teacher_receives_no_gradient():
    student, teacher = features(8, 20).requires_grad_(), features(8, 21).requires_grad_()
    backward(StructuralTransport()(student, teacher))
    assert teacher.grad is None
    assert float(student.grad.abs().max()) > 0


def test_batches_of_different_samples_are_refused():
    with pytest.raises(ValueError, match="same samples"):
        StructuralTransport()(features(4, 22), features(5, 23))


def test_at_least_one_anchor_is_needed():
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        StructuralTransport(top_k=0)


@pytest.mark.parametrize("eps", [0.0, -0.1])
def test_regularisation_must_be_positive_before_any_batch_is_seen(eps):
    with pytest.raises(ValueError, match="eps must be positive"):
        StructuralTransport(eps=eps)
