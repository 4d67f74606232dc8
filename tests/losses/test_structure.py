import numpy as np
import pytest
import torch
from geomloss import SamplesLoss
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses.similarity import anchored as package_anchored
from mtpkdot.losses.similarity import choose_anchors, similarity_matrix
from mtpkdot.losses.structure import StructuralTransport
from mtpkdot.losses.transport import SinkhornDivergence
from tests.loops import over
from tests.losses.reference import anchored, converged_divergence, random

property_test = settings(deadline=None, max_examples=25, derandomize=True)
EXACT = {"tol": 1e-11, "max_iter": 50_000}
MODES, KERNELS = ("rows", "paired", "gromov", "fused"), ("cosine", "centred", "rbf")
ANCHORS = ("least", "most", "random", "all")
# Every two values of mode, kernel and anchors meet; Gromov-Wasserstein has no anchors to choose.
CASES = [
    *((MODES[(i + j) % 2], kernel, anchors) for i, kernel in enumerate(KERNELS) for j, anchors in enumerate(ANCHORS)),
    *((mode, kernel, "least") for mode in MODES[2:] for kernel in KERNELS),
]
every_case = over("mode, kernel, anchors", CASES)
every_mode = over("mode", MODES)


def features(batch, seed, dim=16, dtype=torch.float32):
    return random(batch, dim, seed=seed, dtype=dtype) + 0.3


def compare(loss, student, teacher, *more):
    """The same random anchors at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return loss(student, teacher, *more)


def exact(mode, kernel="cosine", anchors="least", top_k=4, **settings):
    return StructuralTransport(top_k, mode=mode, kernel=kernel, anchors=anchors, eps=0.05, **EXACT, **settings)


def backward(structure):
    (structure.transport + structure.centroid).backward()


def terms_and_gradient(loss, student, teacher, *more):
    student = student.detach().clone().requires_grad_()
    structure = compare(loss, student, teacher, *more)
    backward(structure)
    return structure.transport.detach(), structure.centroid.detach(), student.grad


def assert_alike(found, expected, rtol=1e-8, atol=1e-9):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


def kernel_matrix(x, kernel):
    """Similarities in NumPy, of their definitions."""
    x = np.asarray(x, dtype=float)
    if kernel == "rbf":
        distances = ((x[:, None] - x) ** 2).sum(axis=2)
        return np.exp(-distances / (2 * distances[~np.eye(len(x), dtype=bool)].mean()))
    x = x - x.mean(axis=0) if kernel == "centred" else x
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T


def kernel_clouds(teacher, student, kernel, anchors, k):
    """Rows of both matrices at the teacher's anchors, in NumPy; not for random anchors."""
    matrices = [kernel_matrix(x, kernel) for x in (teacher, student)]
    rank = matrices[0] if anchors != "most" else -matrices[0] + np.diag([np.inf] * len(teacher))
    columns = np.argsort(rank, axis=1, kind="stable")[:, :k]
    columns = np.tile(np.arange(len(teacher)), (len(teacher), 1)) if anchors == "all" else columns
    return [np.take_along_axis(m - m.min(), columns, axis=1) for m in matrices]


# Parity


@over("seed", range(3))
@over("batch", [5, 31, 32, 48])
def test_transport_term_equals_the_converged_solution_on_the_anchored_matrices(batch, seed):
    student, teacher = features(batch, seed, dim=12), features(batch, seed + 100, dim=20)
    transport = StructuralTransport()(student, teacher).transport
    expected = converged_divergence(*anchored(teacher, student, min(30, batch - 1)), eps=0.01)
    assert float(transport) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@over("seed", range(4))
def test_transport_term_equals_that_of_the_released_code_within_its_solvers_error(seed):
    student, teacher = features(64, seed), features(64, seed + 100)
    clouds = [torch.tensor(cloud).float() for cloud in anchored(teacher, student, 30)]
    expected = SamplesLoss("sinkhorn", p=2, blur=0.1)(*clouds)
    assert float(StructuralTransport()(student, teacher).transport) == pytest.approx(float(expected), rel=0.02)


@over("kernel", KERNELS)
@over("anchors", ["least", "most", "all"])
def test_rows_and_pairs_of_every_kernel_equal_their_formulas(kernel, anchors):
    student, teacher = features(11, 1, dtype=torch.float64), features(11, 2, dim=9, dtype=torch.float64)
    clouds = kernel_clouds(teacher, student, kernel, anchors, 4)
    rows = compare(exact("rows", kernel, anchors), student, teacher).transport
    assert float(rows) == pytest.approx(converged_divergence(*clouds, eps=0.05), rel=1e-8)
    paired = compare(exact("paired", kernel, anchors), student, teacher).transport
    assert float(paired) == pytest.approx(((clouds[0] - clouds[1]) ** 2).sum(axis=1).mean() / 2, rel=1e-10)


@over("anchors", ["least", "all"])
def test_integer_weights_count_the_rows_as_often(anchors):
    student, teacher = features(7, 1, dtype=torch.float64), features(7, 2, dtype=torch.float64)
    times = np.array([1, 2, 1, 3, 1, 1, 2])
    clouds = [np.repeat(c, times, axis=0) for c in kernel_clouds(teacher, student, "cosine", anchors, 4)]
    weights = torch.tensor(times, dtype=torch.float64)
    rows = exact("rows", anchors=anchors)(student, teacher, weights).transport
    assert float(rows) == pytest.approx(converged_divergence(*clouds, eps=0.05), rel=1e-8)
    paired = exact("paired", anchors=anchors)(student, teacher, weights).transport
    assert float(paired) == pytest.approx(((clouds[0] - clouds[1]) ** 2).sum(axis=1).mean() / 2, rel=1e-10)


@over("kernel", KERNELS)
@over("weights", [torch.ones(12), torch.arange(1.0, 13.0)])
def test_centroid_term_equals_its_formula_on_the_full_unshifted_matrices(kernel, weights):
    student, teacher = features(12, 1), features(12, 101)
    difference = kernel_matrix(teacher, kernel) - kernel_matrix(student, kernel)
    expected = np.linalg.norm(weights.numpy() @ difference) / float(weights.sum())
    for mode in MODES:
        found = StructuralTransport(top_k=3, mode=mode, kernel=kernel)(student, teacher, weights).centroid
        assert float(found) == pytest.approx(expected, rel=1e-4)


def test_both_solvers_give_the_same_loss_and_gradient():
    terms, gradients = [], []
    for solver in ("native", "pot"):
        student = features(24, 3, dtype=torch.float64).requires_grad_()
        loss = StructuralTransport(top_k=10, eps=0.1, solver=solver, tol=1e-9, max_iter=50_000)
        structure = loss(student, features(24, 4))
        structure.transport.backward()
        terms.append(structure.transport.detach())
        gradients.append(student.grad)
    torch.testing.assert_close(*terms, rtol=1e-7, atol=0)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-9)


# Gradients


@every_case
def test_gradient_equals_finite_differences(mode, kernel, anchors):
    loss, teacher = exact(mode, kernel, anchors, top_k=3), features(6, 1, dim=4, dtype=torch.float64)
    student = features(6, 2, dim=3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: compare(loss, s, teacher).transport, student, atol=1e-6)
    if mode == "paired":  # the centroid term is the same in all modes
        assert torch.autograd.gradcheck(lambda s: compare(loss, s, teacher).centroid, student, atol=1e-6)


@every_case
def test_no_gradient_leads_along_the_scale_of_the_features(mode, kernel, anchors):
    # Euler: what does not change under scaling has a gradient orthogonal to the features.
    student, teacher = features(8, 1, dtype=torch.float64), features(8, 2, dtype=torch.float64)
    _, _, gradient = terms_and_gradient(exact(mode, kernel, anchors), student, teacher)
    assert abs(float((gradient * student).sum())) < 1e-8 * float(gradient.norm() * student.norm())


@every_case
def test_the_teacher_and_the_past_receive_no_gradient(mode, kernel, anchors):
    student, teacher, *past = (features(n, seed).requires_grad_() for seed, n in enumerate((8, 8, 3, 3)))
    structure = compare(exact(mode, kernel, anchors), student, teacher, None, tuple(past))
    backward(structure)
    assert [teacher.grad, *(x.grad for x in past)] == [None] * 3
    assert float(student.grad.abs().max()) > 0


@every_case
def test_identical_structures_have_no_loss_and_no_gradient(mode, kernel, anchors):
    teacher = features(9, 8, dtype=torch.float64)
    rotation = torch.linalg.qr(random(16, 16, seed=7, dtype=torch.float64)).Q
    loss, other = exact(mode, kernel, anchors), features(9, 10, dtype=torch.float64)
    unit = float(terms_and_gradient(loss, other, teacher)[2].abs().max())
    # As it is, the centroid's norm has a kink at zero: rounding is a direction for it once the features are rotated.
    for student, centroid in ((teacher, True), (2.5 * teacher @ rotation, False)):
        student = student.clone().requires_grad_()
        structure = compare(loss, student, teacher)
        (structure.transport + (structure.centroid if centroid else 0)).backward()
        assert float(structure.transport.detach()) == pytest.approx(0.0, abs=1e-12)
        assert float(structure.centroid.detach()) == pytest.approx(0.0, abs=1e-12)
        assert float(student.grad.abs().max()) < 1e-8 * unit


@over("batch", [2, 3, 16, 64])
def test_a_student_with_the_teachers_structure_has_no_loss_and_no_gradient_in_single_precision(batch):
    teacher = features(batch, 8)
    for mode in MODES:
        _, _, unit = terms_and_gradient(StructuralTransport(mode=mode), features(batch, 9), teacher)
        transport, centroid, gradient = terms_and_gradient(StructuralTransport(mode=mode), teacher, teacher)
        assert float(transport) == pytest.approx(0.0, abs=1e-6)
        assert float(centroid) == 0.0
        assert float(gradient.abs().max()) < 1e-3 * float(unit.abs().max())


@over("mode, kernel", [(m, k) for m in MODES for k in KERNELS if k != "rbf" or m in ("rows", "paired")])
def test_following_the_gradient_brings_the_student_to_the_teachers_structure(mode, kernel):
    teacher, student = features(16, 9), features(16, 10).requires_grad_()
    loss = StructuralTransport(top_k=8, mode=mode, kernel=kernel)
    optimizer = torch.optim.Adam([student], lr=0.05)
    first = float(loss(student, teacher).transport.detach())
    for _ in range(40 if mode in ("rows", "paired") else 120):
        optimizer.zero_grad()
        backward(loss(student, teacher))
        optimizer.step()
    assert float(loss(student, teacher).transport.detach()) < 0.2 * first


# Invariances


@property_test
@given(
    st.integers(2, 24),
    st.integers(0, 10_000),
    st.sampled_from([0.01, 0.1, 1.0]),
    st.sampled_from([case for case in CASES if case[2] != "random"]),
)
def test_terms_are_finite_nonnegative_and_blind_to_the_order_of_the_samples(batch, seed, eps, case):
    mode, kernel, anchors = case
    loss = StructuralTransport(top_k=5, eps=eps, mode=mode, kernel=kernel, anchors=anchors)
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


@every_case
def test_scale_rotation_and_width_of_a_feature_space_do_not_matter(mode, kernel, anchors):
    loss = exact(mode, kernel, anchors)
    student, teacher = features(9, 5, dim=8, dtype=torch.float64), features(9, 6, dim=8, dtype=torch.float64)
    expected = compare(loss, student, teacher)
    rotation = torch.linalg.qr(random(8, 8, seed=7, dtype=torch.float64)).Q
    maps = [lambda x: 1e-3 * x, lambda x: 1e3 * x, lambda x: x @ rotation, lambda x: torch.cat([x, 0 * x], dim=1)]
    # Cosines do not see the length of a sample, the others not the origin.
    maps.append((lambda x: x * torch.linspace(0.1, 9, 9)[:, None]) if kernel == "cosine" else (lambda x: x + 5))
    for changed in maps:
        for structure in (compare(loss, changed(student), teacher), compare(loss, student, changed(teacher))):
            torch.testing.assert_close(structure.transport, expected.transport, rtol=1e-8, atol=1e-10)
            torch.testing.assert_close(structure.centroid, expected.centroid, rtol=1e-8, atol=1e-10)


@over("kernel", KERNELS)
def test_the_teachers_rows_may_be_paired_with_any_samples_of_the_student(kernel):
    matrices = [similarity_matrix(features(20, seed, dtype=torch.float64), kernel) for seed in (1, 2)]
    theirs, own = package_anchored(*matrices, choose_anchors(matrices[0], 10))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    divergence = SinkhornDivergence(**EXACT)
    torch.testing.assert_close(divergence(theirs[order], own).value, divergence(theirs, own).value)
    # Which row is whose is what the pairing compares.
    paired, permuted = ((rows - own).square().sum(dim=1).mean() / 2 for rows in (theirs, theirs[order]))
    assert float(permuted) != pytest.approx(float(paired), rel=1e-3)


@over("kernel", KERNELS)
def test_relabelled_samples_of_the_teacher_cost_a_pairing_but_not_a_comparison_of_structures(kernel):
    # The student has the teacher's structure but for a little, under other names.
    teacher = features(10, 1, dtype=torch.float64)
    student = teacher + 0.02 * features(10, 2, dtype=torch.float64)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    values = {}
    for mode in MODES:
        loss = exact(mode, kernel)
        values[mode] = [float(loss(student, theirs).transport) for theirs in (teacher, teacher[order])]
    assert values["gromov"][0] == pytest.approx(values["gromov"][1], rel=1e-9)
    assert values["gromov"][0] > 0
    for mode in ("paired", "fused"):
        assert values[mode][1] > 10 * values[mode][0]


@over("anchors", ["most", "random", "least"])
def test_as_many_anchors_as_other_samples_leave_no_choice(anchors):
    # A distance of rows adds up over columns: their order is nothing to it.
    student, teacher = features(7, 11, dtype=torch.float64), features(7, 12, dtype=torch.float64)
    found = compare(exact("paired", anchors=anchors, top_k=50), student, teacher).transport
    of_teacher, of_student = (kernel_matrix(x, "cosine") for x in (teacher, student))
    difference = (of_teacher - of_teacher.min() - of_student + of_student.min()) ** 2
    assert float(found) == pytest.approx((difference.sum() - np.trace(difference)) / 14)


# Weights


@every_case
def test_a_sample_without_weight_is_as_if_it_were_not_there(mode, kernel, anchors):
    loss = exact(mode, kernel, anchors)
    student, teacher = features(9, 1, dtype=torch.float64), features(9, 2, dtype=torch.float64)
    weights = torch.tensor([1.0, 0.0, 2.0, 1.5, 0.0, 1.0, 0.3, 1.0, 1.0])
    student[1], teacher[1], student[4] = torch.nan, torch.nan, torch.inf
    there = weights > 0
    *terms, gradient = terms_and_gradient(loss, student, teacher, weights)
    assert_alike(
        [*terms, gradient[there]], terms_and_gradient(loss, student[there], teacher[there], weights[there]), 0, 1e-12
    )
    assert torch.equal(gradient[~there], torch.zeros(2, 16, dtype=torch.float64))


@every_case
@over("unit", [1e-6, 0.1, 1e6])
def test_weights_have_no_unit(mode, kernel, anchors, unit):
    loss = exact(mode, kernel, anchors)
    student, teacher = features(7, 1, dtype=torch.float64), features(7, 2, dtype=torch.float64)
    weights = torch.linspace(0.5, 2, 7, dtype=torch.float64)
    expected = terms_and_gradient(loss, student, teacher, weights)
    assert_alike(terms_and_gradient(loss, student, teacher, unit * weights), expected)
    even = terms_and_gradient(loss, student, teacher, torch.full((7,), unit))
    assert_alike(even, terms_and_gradient(loss, student, teacher))


def twice(x):
    return torch.cat([x, x[:1]])


@every_mode
def test_a_sample_seen_twice_is_one_of_double_weight_where_it_is_nobodys_anchor(mode):
    # For cosines: the batch's mean and its spread, which the other kernels take, count samples and not weights.
    # The last two are opposite to the rest and so everybody's least similar; the first is like the rest.
    teacher = torch.tensor([[1.0, 0.1], [1.0, 0.5], [1.0, 0.4], [1.0, -0.3], [-1.0, -0.9], [-1.0, 0.8]]).double()
    assert not {0, 6} & set(choose_anchors(similarity_matrix(twice(teacher)), 1).flatten().tolist())
    loss, student = exact(mode, top_k=1), features(6, 5, dtype=torch.float64).requires_grad_()
    once = loss(student, teacher, torch.tensor([2.0, 1, 1, 1, 1, 1])).transport
    doubled = loss(twice(student), twice(teacher)).transport
    assert_alike([doubled], [once], atol=0)
    gradients = [torch.autograd.grad(value, student)[0] for value in (doubled, once)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)
    assert float(once.detach()) != pytest.approx(float(loss(student, teacher).transport.detach()), rel=1e-3)


def test_with_all_anchors_a_sample_seen_twice_is_a_column_twice_as_well():
    student, teacher = features(6, 3, dtype=torch.float64), features(6, 4, dtype=torch.float64)
    of_teacher, of_student = (kernel_matrix(x, "cosine") for x in (teacher, student))
    square = (of_teacher - of_teacher.min() - of_student + of_student.min()) ** 2
    times = np.array([2.0, 1, 1, 1, 1, 1])
    loss = exact("paired", anchors="all")
    assert float(loss(twice(student), twice(teacher)).transport) == pytest.approx(times @ square @ times / 14)
    weighted = loss(student, teacher, torch.from_numpy(times)).transport
    assert float(weighted) == pytest.approx((times @ square).sum() / 14)


@every_mode
@over("past", [None, 3])
def test_a_batch_without_any_weight_has_no_loss_and_no_gradient(mode, past):
    earlier = None if past is None else (features(past, 5), features(past, 6))
    *terms, gradient = terms_and_gradient(exact(mode), features(5, 3), features(5, 4), torch.zeros(5), earlier)
    assert [float(term) for term in terms] == [0.0, 0.0]
    assert torch.equal(gradient, torch.zeros(5, 16))


# Degenerate batches


KINDS = ["zeros", "constant", "opposite", "duplicates", "one huge", "one zero", "tiny", "nearly constant"]


def degenerate(kind, batch, dtype=torch.float32):
    plain = features(batch, 13, dtype=dtype)
    return {
        "zeros": torch.zeros_like(plain),
        "constant": torch.full_like(plain, 0.1),
        "opposite": torch.ones_like(plain) * (-1.0) ** torch.arange(batch)[:, None],
        "duplicates": plain[torch.arange(batch) // 2],
        "one huge": torch.cat([plain[:1] * 1e12, plain[1:]]),
        "one zero": torch.cat([plain[:1] * 0, plain[1:]]),
        "tiny": plain * 1e-12,
        "nearly constant": 1 + 1e-6 * plain,
    }[kind]


def assert_defined(mode, kernel, anchors, batch, kind, dtype=torch.float32):
    plain, strange = features(batch, 14, dtype=dtype), degenerate(kind, batch, dtype)
    for student, teacher in [(strange, plain), (plain, strange), (strange, strange)]:
        loss = StructuralTransport(mode=mode, kernel=kernel, anchors=anchors)
        transport, centroid, gradient = terms_and_gradient(loss, student, teacher)
        assert transport.isfinite()
        assert centroid.isfinite()
        assert gradient.isfinite().all()
        assert transport.dtype == torch.promote_types(dtype, torch.float32)


@every_case
@over("kind", KINDS)
def test_degenerate_features_of_either_side_have_finite_terms_and_gradients(mode, kernel, anchors, kind):
    for batch in (0, 1, 2, 3, 10) if anchors == "least" else (2, 5):
        assert_defined(mode, kernel, anchors, batch, kind)
    if anchors == "least":
        assert_defined(mode, kernel, anchors, 10, kind, torch.float64)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_defined(mode, kernel, anchors, 5, kind, torch.bfloat16)


@every_mode
@over("kernel", KERNELS)
def test_collapsed_features_on_both_sides_are_identical_structures(mode, kernel):
    for dtype in (torch.float32, torch.float64):
        for value in (0.1, 1.0, 3.7, 100.0):
            student, teacher = torch.full((33, 16), value, dtype=dtype), torch.full((33, 12), 1.0, dtype=dtype)
            transport, centroid, gradient = terms_and_gradient(
                StructuralTransport(mode=mode, kernel=kernel), student, teacher
            )
            assert float(transport) == pytest.approx(0, abs=1e-6)
            assert float(centroid) == pytest.approx(0, abs=1e-6)
            assert float(gradient.abs().max()) < 1e-3


@every_mode
@over("weights", [None, [0, 0, 3.0, 0]])
def test_one_sample_has_no_structure_to_compare(mode, weights):
    for batch in (0, 1) if weights is None else (4,):
        student = features(batch, 14).requires_grad_()
        structure = exact(mode)(student, features(batch, 15), None if weights is None else torch.tensor(weights))
        backward(structure)
        assert (float(structure.transport.detach()), float(structure.centroid.detach())) == (0.0, 0.0)
        assert structure.iterations == 0
        assert torch.equal(student.grad, torch.zeros(batch, 16))


# Precision, gradient paths and arguments


@over("dtype", [torch.float16, torch.bfloat16])
@over("batch", [1, 12])
@every_mode
def test_half_precision_features_give_single_precision_terms(dtype, batch, mode):
    student, teacher = features(batch, 16, dtype=dtype).requires_grad_(), features(batch, 17, dtype=dtype)
    structure = StructuralTransport(mode=mode)(student, teacher)
    exact = StructuralTransport(mode=mode)(student.float(), teacher.float())
    assert structure.transport.dtype == structure.centroid.dtype == torch.float32
    torch.testing.assert_close(structure.transport, exact.transport)
    backward(structure)
    assert student.grad.dtype == dtype
    assert student.grad.isfinite().all()


@every_case
def test_autocast_does_not_lower_the_precision(mode, kernel, anchors):
    student, teacher = features(12, 18), features(12, 19)
    loss = StructuralTransport(top_k=5, mode=mode, kernel=kernel, anchors=anchors)
    student.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = compare(loss, student, teacher)
    backward(inside)
    *outside, gradient = terms_and_gradient(loss, student, teacher)
    assert torch.equal(student.grad, gradient)
    assert torch.equal(inside.transport, outside[0])
    assert torch.equal(inside.centroid, outside[1])


@every_case
def test_single_precision_is_near_double_precision(mode, kernel, anchors):
    student, teacher = features(12, 18), features(12, 19)
    loss = StructuralTransport(top_k=5, mode=mode, kernel=kernel, anchors=anchors)
    single, double = (terms_and_gradient(loss, student.to(t), teacher.to(t)) for t in (torch.float32, torch.float64))
    assert [x.dtype for x in double] == [torch.float64] * 3
    for one, other in zip(single, double, strict=True):
        assert float((one - other).abs().max()) < 1e-4 * float(other.abs().max())


@over("weights", [None, torch.ones(3), torch.ones(4, 1), torch.ones(())])
def test_batches_and_weights_of_different_samples_are_refused(weights):
    with pytest.raises(ValueError, match="same samples, not 4, 5" if weights is None else "same samples, not 4, 4 and"):
        StructuralTransport()(features(4, 22), features(5 if weights is None else 4, 23), weights)


@over(
    "settings, message",
    [
        ({"top_k": 0}, "top_k must be a whole number of at least 1"),
        ({"top_k": 2.5}, "top_k must be a whole number"),
        ({"mode": "row"}, "mode must be one of rows, paired"),
        ({"kernel": "linear"}, "kernel must be one of cosine"),
        ({"anchors": "nearest"}, "anchors must be one of least"),
        ({"eps": 0.0}, "eps"),
        ({"eps": -0.1}, "eps"),
        *(({"pairing": price}, r"pairing must lie in \(0, 1\]") for price in (0.0, -0.1, 1.01)),
    ],
)
def test_settings_out_of_range_are_refused_before_any_batch_is_seen(settings, message):
    with pytest.raises(ValueError, match=message):
        StructuralTransport(**settings)
