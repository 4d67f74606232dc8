import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
import torch

from mtpkdot.losses.rivals import relational
from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals.cases import of_features, rival


def huber(x):
    return 0.5 * x**2 if abs(x) <= 1 else abs(x) - 0.5


def distance_term(student, teacher):
    clouds = [x.double().numpy() for x in (student, teacher)]
    pairs = list(permutations(range(len(student)), 2))
    apart = [{(i, j): np.linalg.norm(x[i] - x[j]) for i, j in pairs} for x in clouds]
    means = [np.mean(list(d.values())) for d in apart]
    return np.mean([huber(apart[0][pair] / means[0] - apart[1][pair] / means[1]) for pair in pairs])


def angle_term(student, teacher):
    def cosine(x, i, j, k):
        a, b = x[i] - x[j], x[k] - x[j]
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    s, t = (x.double().numpy() for x in (student, teacher))
    triples = permutations(range(len(s)), 3)
    return np.mean([huber(cosine(s, *triple) - cosine(t, *triple)) for triple in triples])


@over("shift", [0.0, 30.0])
@over("n", [3, 4, 7])
def test_both_terms_equal_their_formulas(n, shift):
    student, teacher = random(n, 6, seed=0) + shift, random(n, 5, seed=1) * 10
    given = of_features(student, teacher)
    assert float(rival("rkd", angle=0.0)(*given)) == pytest.approx(distance_term(student, teacher), rel=1e-3)
    assert float(rival("rkd", distance=0.0, angle=1.0)(*given)) == pytest.approx(angle_term(student, teacher), rel=1e-3)


def test_distances_weigh_one_and_angles_two():
    student, teacher = random(5, 6, seed=2), random(5, 5, seed=3)
    expected = distance_term(student, teacher) + 2 * angle_term(student, teacher)
    assert float(rival("rkd")(*of_features(student, teacher))) == pytest.approx(expected, rel=1e-4)


def test_the_distances_equal_a_hand_computed_case():
    # Sides 3, 4, 5 (mean 4) against an equilateral triangle: differences 1/4, 0 and 1/4.
    student = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    teacher = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
    given = of_features(student, teacher)
    distance = rival("rkd", student_dim=2, teacher_dim=2, angle=0.0)(*given)
    assert float(distance) == pytest.approx(2 * 0.5 * 0.25**2 / 3)
    # Cosines 0, 3/5 and 4/5 against 1/2 each.
    angle = rival("rkd", student_dim=2, teacher_dim=2, distance=0.0, angle=1.0)(*given)
    assert float(angle) == pytest.approx(0.5 * (0.5**2 + 0.1**2 + 0.3**2) / 3, rel=1e-4)


def test_large_differences_of_angles_count_linearly():
    # The angle at the middle sample is 180 degrees for one and 0 for the other: |-1 - 1| - 1/2 in two of six triples.
    student, teacher = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([[1.0], [0.0], [2.0]])
    loss = rival("rkd", student_dim=1, teacher_dim=1, distance=0.0, angle=1.0)(*of_features(student, teacher))
    assert float(loss) == pytest.approx(angle_term(student, teacher), rel=1e-5)
    assert float(loss) == pytest.approx((1.5 + 1.5 + 0) / 3)


@over("scale", [1e-9, 3.0, 1e9])
def test_motions_reflections_and_the_scale_of_the_student_change_nothing(scale):
    student, teacher = random(6, 6, seed=4), random(6, 5, seed=5)
    rotation = torch.linalg.qr(random(6, 6, seed=6)).Q
    loss = rival("rkd")(*of_features(student, teacher))
    moved = rival("rkd")(*of_features(-scale * (student @ rotation + 5), teacher))
    torch.testing.assert_close(moved, loss, rtol=1e-3, atol=1e-5)


def test_no_cosine_leaves_its_range_by_rounding():
    line = random(30, 1, seed=12) * random(1, 6, seed=13)
    line[1] = line[0] + 1e-6
    of_line = relational.cosines(relational.distances(line), 0, 30)
    assert float(of_line.abs().max()) == 1.0


@over("apart", [1e-18, 1e-12, 1e-8])
def test_samples_that_nearly_coincide_have_no_direction_and_no_huge_gradient(apart):
    student = random(5, 6, seed=14)
    student[0] = 0
    student[1] = apart
    student.requires_grad_()
    rival("rkd")(*of_features(student, random(5, 5, seed=15))).backward()
    assert float(student.grad.abs().max()) < 10


def test_two_samples_have_no_angle_and_one_distance_that_is_the_mean():
    student = random(2, 6, seed=7).requires_grad_()
    loss = rival("rkd")(*of_features(student, random(2, 5, seed=8)))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    assert float(student.grad.abs().max()) < 1e-6


def test_samples_that_coincide_make_no_angle():
    student = random(4, 6, seed=9)
    student[1] = student[0]
    teacher = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    terms = []
    s, t = student.double().numpy(), teacher.double().numpy()
    for i, j, k in permutations(range(4), 3):
        cosines = []
        for x in (s, t):
            a, b = x[i] - x[j], x[k] - x[j]
            norms = np.linalg.norm(a) * np.linalg.norm(b)
            cosines.append(a @ b / norms if norms else 0.0)
        terms.append(huber(cosines[0] - cosines[1]))
    loss = rival("rkd", teacher_dim=2, distance=0.0, angle=1.0)(*of_features(student, teacher))
    assert float(loss) == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("chunk", [1, 7 * 7, 3 * 7 * 7])
def test_chunks_change_neither_the_loss_nor_its_gradient(chunk, monkeypatch):
    student, teacher = random(7, 6, seed=10, dtype=torch.float64).requires_grad_(), random(7, 5, seed=11)
    found = []
    for size in (relational.CHUNK, chunk):
        monkeypatch.setattr(relational, "CHUNK", size)
        loss = rival("rkd")(*of_features(student, teacher))
        found.append((loss, torch.autograd.grad(loss, student)[0]))
    torch.testing.assert_close(found[1], found[0])


PEAK = """
import resource, torch
from mtpkdot.losses.rivals import RIVALS, Seen
def step(n):
    torch.manual_seed(0)
    student = torch.randn(n, 64, requires_grad=True)
    values, labelled = torch.zeros(n, 1), torch.ones(n, dtype=torch.bool)
    rival = RIVALS["rkd"]("regression", 64, 32)
    rival(Seen(student, values), Seen(torch.randn(n, 32), values), values, labelled).backward()
    assert student.grad.isfinite().all()
torch.set_num_threads(1)
step(8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(512)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the peak memory differs")
def test_a_batch_of_512_takes_less_than_a_gigabyte_forth_and_back():
    # One tensor of all angles alone has half a gigabyte, and several per model would live until the gradient.
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1e9 / 1024  # KiB
