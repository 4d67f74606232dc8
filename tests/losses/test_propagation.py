"""Labels that spread along similarities."""

import numpy as np

from mtpkdot.losses.propagation import spread_labels
from tests.loops import over


def clusters(rows=60, seed=0):
    """Three directions, far from each other."""
    random = np.random.default_rng(seed)
    which = np.arange(rows) % 3
    return np.eye(3)[which] * 5 + random.normal(size=(rows, 3)) * 0.1, which


def test_one_label_reaches_its_whole_cluster():
    features, which = clusters()
    labelled = np.zeros(60, dtype=bool)
    labelled[:3] = True
    answers = spread_labels(features, np.eye(3)[which], labelled, 8, 0.95)
    assert (answers.argmax(axis=1) == which).all()
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)


def test_spread_labels_solve_the_equation():
    features, which = clusters(24)
    labelled = np.arange(24) < 6
    targets = np.eye(3)[which]
    answers = spread_labels(features, targets, labelled, 23, 0.5)
    # With all as neighbours the graph is complete: S = (1 - I) / 23.
    whole = (np.ones((24, 24)) - np.eye(24)) / 23
    spread = np.linalg.solve(np.eye(24) - 0.5 * whole, np.where(labelled[:, None], np.c_[targets, np.ones(24)], 0.0))
    np.testing.assert_allclose(answers, spread[:, :3] / spread[:, 3:], atol=1e-6)


def test_targets_without_a_label_are_not_read():
    features, which = clusters()
    labelled = np.arange(60) < 9
    targets = np.eye(3)[which]
    lost = np.where(labelled[:, None], targets, np.nan)
    np.testing.assert_array_equal(
        spread_labels(features, lost, labelled, 8, 0.9), spread_labels(features, targets, labelled, 8, 0.9)
    )


def test_values_spread_as_classes_do():
    features, which = clusters()
    labelled = np.arange(60) < 12
    answers = spread_labels(features, which[:, None].astype(float), labelled, 8, 0.9)
    np.testing.assert_allclose(answers[:, 0], which, atol=0.05)


def test_samples_that_no_label_reaches_get_the_mean():
    features = (
        np.r_[np.eye(2)[[0] * 6] * 3, np.eye(2)[[1] * 6] * 3] + np.random.default_rng(0).normal(size=(12, 2)) * 0.01
    )
    labelled = np.arange(12) < 2
    answers = spread_labels(features, np.array([[1.0], [3.0]] + [[0.0]] * 10), labelled, 3, 0.9)
    np.testing.assert_allclose(answers[6:], 2.0)


@over("rows", [2, 3])
def test_a_few_samples_are_enough(rows):
    features, which = clusters(rows)
    answers = spread_labels(features, np.eye(3)[which], np.arange(rows) < 1, 10, 0.9)
    assert np.isfinite(answers).all()


def test_zero_features_give_no_nan():
    answers = spread_labels(np.zeros((8, 3)), np.ones((8, 1)), np.arange(8) < 2, 3, 0.9)
    np.testing.assert_allclose(answers, 1.0)
