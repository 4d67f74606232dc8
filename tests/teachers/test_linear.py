import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from mtpkdot.teachers import LinearTeacher, Rows, Targets
from mtpkdot.teachers.calibration import held_out_score
from mtpkdot.teachers.rows import Scaling
from tests.teachers.worlds import hidden, parts, two_views


def fitted(rows: Rows, targets: Targets, task: str = "classification", held_out: Rows | None = None, **options):
    teacher = LinearTeacher(list(rows.values), **options)
    teacher.fit(task, rows, targets, rows if held_out is None else held_out)
    return teacher


@pytest.mark.parametrize("strength", [1e-3, 1e-1])
def test_it_is_the_logistic_regression_of_scikit_learn(strength):
    rows = two_views()
    teacher = fitted(rows, Targets.of_labels("classification", rows, 3), strengths=[strength])
    x = Scaling.fit(rows, ["face", "voice"])(rows).numpy()
    theirs = LogisticRegression(C=1 / (strength * len(x)), tol=1e-8, max_iter=1000).fit(x, rows.target)
    assert np.allclose(teacher.output(rows).softmax(dim=1), theirs.predict_proba(x), atol=2e-3)


@pytest.mark.parametrize("wide", [False, True])
def test_it_is_the_ridge_regression_of_scikit_learn(wide):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(20, 40 if wide else 5, generator=random)
    rows = Rows.of({"face": x}, torch.randn(20, 2, generator=random))
    teacher = fitted(rows, Targets.of_labels("regression", rows, 2), "regression", strengths=[0.1])
    scaled = Scaling.fit(rows, ["face"])(rows).numpy()
    theirs = Ridge(alpha=0.1 * 20).fit(scaled, rows.target)
    assert np.allclose(teacher.output(rows), theirs.predict(scaled), atol=1e-6)


def test_probabilities_count_as_their_share_of_rows():
    """A row of probability .75 and .25 is three rows of one class and one of the other."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=random)
    rows = Rows.of({"face": x}, torch.zeros(30, dtype=torch.int64))
    columns = torch.tensor([[0.75, 0.25], [0.25, 0.75]]).double().repeat(15, 1)
    soft = fitted(rows, Targets(columns, torch.ones(30).double()), strengths=[0.01])
    classes = torch.tensor([[0, 0, 0, 1], [1, 1, 1, 0]]).repeat(15, 1).flatten()
    often = Rows.of({"face": x.repeat_interleave(4, dim=0)}, classes)
    hard = fitted(often, Targets.of_labels("classification", often, 2), strengths=[0.01])
    assert torch.allclose(soft.output(rows).softmax(1), hard.output(rows).softmax(1), atol=1e-3)


def test_ordered_classes_have_a_regression_per_threshold():
    rows = two_views()
    teacher = fitted(rows, Targets.of_labels("ordinal", rows, 2), "ordinal", strengths=[0.01])
    x = Scaling.fit(rows, ["face", "voice"])(rows).numpy()
    for threshold in range(2):
        theirs = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-8).fit(x, rows.target > threshold)
        assert np.allclose(teacher.output(rows)[:, threshold].sigmoid(), theirs.predict_proba(x)[:, 1], atol=2e-3)


def test_the_penalty_is_the_one_with_the_highest_likelihood_on_held_out_people():
    training, held_out = parts(two_views(), 8)
    targets = Targets.of_labels("classification", training, 3)
    strengths = [1e-4, 1e-2, 1.0]
    scores = {
        strength: held_out_score(
            "classification",
            fitted(training, targets, held_out=held_out, strengths=[strength]).output(held_out),
            held_out.target,
        )
        for strength in strengths
    }
    best = max(scores, key=lambda strength: scores[strength])
    chosen = fitted(training, targets, held_out=held_out, strengths=strengths)
    alone = fitted(training, targets, held_out=held_out, strengths=[best])
    assert len(set(scores.values())) == 3
    assert torch.allclose(chosen.output(held_out), alone.output(held_out), rtol=0.02, atol=0.02)


def test_rows_without_a_label_are_not_learned_from():
    rows = hidden(two_views(), 4)
    targets = Targets.of_labels("classification", rows, 3)
    teacher = fitted(rows, targets, strengths=[0.01])
    other = Rows(rows.values, rows.present, rows.target.roll(1), rows.labelled, rows.people)
    assert torch.equal(
        teacher.output(rows),
        fitted(
            other, Targets(torch.where(rows.labelled[:, None], targets.columns, 0.5), targets.weight), strengths=[0.01]
        ).output(rows),
    )
