"""Expressions: stationary courses, and movements that add up."""

import numpy as np
import pytest

from mtpkdot.data.synthetic.expressions import head_motion, idle, neutral, of_affect, of_pain, trait, wander


def test_a_course_is_smooth_with_the_promised_mean_and_variance_from_its_first_value():
    random = np.random.default_rng(0)
    courses = np.array([wander(60, 25, 0.5, random) for _ in range(3000)])
    np.testing.assert_allclose(courses.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(courses.std(axis=0), 1, atol=0.08)
    assert np.diff(courses, axis=1).std() < 0.15


def test_a_slower_course_moves_less_between_frames():
    fast, slow = (np.diff(wander(2000, 25, seconds, np.random.default_rng(1))).std() for seconds in (0.2, 2.0))
    assert slow < 0.3 * fast


def test_adding_a_neutral_face_changes_nothing():
    pain = of_pain(np.linspace(0, 1, 9))
    for first, second in zip(pain.plus(neutral(9)), pain, strict=True):
        np.testing.assert_allclose(first, second)
    for first, second in zip(of_pain(np.zeros(4)), neutral(4), strict=True):
        np.testing.assert_array_equal(first, second)


def test_bounds_hold_for_the_strongest_expression():
    random = np.random.default_rng(2)
    extreme = of_pain(np.ones(50)).plus(idle(50, 25, random, 10)).plus(trait(50, random, 5)).within_bounds()
    for control in extreme:
        assert np.abs(control).max() <= 1.4
    for control in (extreme.eyes, extreme.mouth_open, extreme.wrinkle):
        assert control.min() >= 0


def test_pain_lowers_the_brows_and_closes_the_eyes():
    course = of_pain(np.array([0.0, 0.5, 1.0]))
    assert (np.diff(course.eyes) < 0).all()
    assert (np.diff(course.brow_height) < 0).all()
    assert (np.diff(course.frown) > 0).all()
    assert (np.diff(course.wrinkle) > 0).all()


def test_valence_is_on_the_mouth_and_arousal_hardly():
    zero, rising = np.zeros(5), np.linspace(-1, 1, 5)
    valence, arousal = of_affect(rising, zero), of_affect(zero, rising)
    assert (np.diff(valence.mouth_curve) > 0).all()
    assert np.ptp(arousal.mouth_curve) == 0
    assert 0 < np.ptp(arousal.eyes) < np.ptp(valence.mouth_curve)


def test_a_still_head_keeps_its_resting_pose():
    pose = head_motion(30, 25, np.random.default_rng(3), amount=0)
    for course in pose:
        assert np.ptp(course) == 0
    moving = head_motion(30, 25, np.random.default_rng(3))
    assert np.ptp(moving.x) > 0.01
    assert moving.scale == pytest.approx(1, abs=0.3)
