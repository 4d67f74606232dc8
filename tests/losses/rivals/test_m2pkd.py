import math

import numpy as np
import pytest
import torch

from mtpkdot.losses.rivals import Seen
from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals.cases import rival

N = 8
SOME = torch.arange(N) % 3 != 1


def ccc(p, t):
    covariance = ((p - p.mean()) * (t - t.mean())).mean()
    return 2 * covariance / (p.var() + t.var() + (p.mean() - t.mean()) ** 2)


def given(answers, target, labelled, teacher_dim=6):
    student = Seen(random(N, 6, seed=0), random(N, 2, seed=1))
    return student, Seen(random(N, teacher_dim, seed=2), answers), target, labelled


def cosine_distance(student, teacher):
    pairs = zip(student.double().numpy(), teacher.double().numpy(), strict=True)
    return np.mean([1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in pairs])


def test_the_loss_is_the_cosine_distance_times_the_mean_concordance_of_the_labelled_rows():
    target = random(N, 2, seed=3)
    answers = target * torch.tensor([0.5, 0.9]) + 0.3 * random(N, 2, seed=4)
    student, teacher, *rest = given(answers, target, SOME)
    weight = np.mean([ccc(answers[SOME, k].double().numpy(), target[SOME, k].double().numpy()) for k in range(2)])
    assert 0.2 < weight < 0.99
    loss = rival("m2pkd", teacher_dim=6)(student, teacher, *rest)
    assert float(loss) == pytest.approx(weight * cosine_distance(student.feature, teacher.feature), rel=1e-4)


def test_a_teacher_that_is_right_teaches_with_the_whole_distance_on_all_rows():
    target = random(N, 2, seed=5)
    student, teacher, *rest = given(target.clone(), target, SOME)
    expected = cosine_distance(student.feature, teacher.feature)
    assert float(rival("m2pkd", teacher_dim=6)(student, teacher, *rest)) == pytest.approx(expected, rel=1e-4)


def test_a_target_on_which_the_teacher_is_opposed_to_the_truth_counts_zero_and_not_less():
    target = random(N, 2, seed=6)
    m2pkd = rival("m2pkd", teacher_dim=6)
    right = m2pkd(*given(target.clone(), target, SOME))
    half = m2pkd(*given(target * torch.tensor([1.0, -1.0]), target, SOME))
    assert float(half) == pytest.approx(0.5 * float(right), rel=1e-4)
    assert float(m2pkd(*given(-target, target, SOME))) == 0.0


@over("known", [0, 1])
def test_fewer_than_two_labels_show_nothing_of_the_teacher(known):
    target, labelled = random(N, 2, seed=7), torch.arange(N) < known
    answers, m2pkd = target.clone(), rival("m2pkd", teacher_dim=6)
    target[~labelled] = math.nan
    assert float(m2pkd(*given(answers, target, labelled))) == 0.0
    two = torch.arange(N) < 2
    assert float(m2pkd(*given(answers, answers, two))) > 0


def test_features_of_different_sizes_are_compared_through_a_learned_map():
    target = random(N, 2, seed=8)
    m2pkd = rival("m2pkd")
    student, teacher, *rest = given(target.clone(), target, SOME, teacher_dim=5)
    expected = cosine_distance(m2pkd.adapter(student.feature).detach(), teacher.feature)
    assert float(m2pkd(student, teacher, *rest).detach()) == pytest.approx(expected, rel=1e-4)
    assert not list(rival("m2pkd", teacher_dim=6).parameters())
