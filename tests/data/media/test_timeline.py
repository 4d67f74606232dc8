"""Frames, rows and seconds come onto one time line by rule, and every difference is said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.data.media.timeline import USUAL_RATE, align, frame_step, shortfall

RATES = [15, 24, 25, 30, 30000 / 1001, 60]


@given(st.sampled_from(RATES), st.sampled_from(RATES), st.floats(8, 300), st.floats(0, 5))
def test_a_video_encoded_again_keeps_every_frame_at_its_time(original, new, seconds, begin):
    count, frames = round(seconds * original), round(seconds * new)
    aligned = align(count, True, begin + np.arange(frames) / new)
    # Up to three frames more or less go by number; both counts are rounded, so that the rates may differ by four.
    np.testing.assert_allclose(aligned.times, begin + np.arange(count) / original, atol=4.01 / min(original, new))
    assert aligned.shown == (count if abs(frames - count) > 3 else frames)
    assert not aligned.unclear
    assert (aligned.remark is None) == (frames == count)


@given(st.sampled_from([25.0, 30.0]), st.integers(200, 4000), st.floats(0.62, 0.75))
def test_a_video_that_was_cut_goes_by_number(rate, count, share):
    # Shares at which the rows would have a usual rate over what is left cannot be told from another encoding.
    frames = round(count * share)
    implied = count / (frames / rate)
    aligned = align(count, True, np.arange(frames) / rate)
    if min(abs(np.array([*RATES, 10, 12, 12.5, 20, 24 / 1.001, 48, 50, 60 / 1.001]) / implied - 1)) > 0.02:
        assert aligned.unclear
        assert aligned.shown == frames
        assert f"{frames} frames for {count}" in aligned.remark
        np.testing.assert_allclose(aligned.times, np.arange(count) / rate, atol=1e-6)


@given(st.integers(5, 3000), st.integers(-3, 3))
def test_a_few_frames_more_or_less_go_by_number(count, more):
    frames = count + more
    aligned = align(count, True, np.arange(frames) / 25)
    np.testing.assert_allclose(aligned.times, np.arange(count) / 25, atol=1e-9)
    assert not aligned.unclear
    assert (aligned.remark is None) == (frames == count)


def test_crops_that_end_before_the_video_say_nothing_of_its_rate():
    # 1000 crops of 1200 frames: the face was lost, also where the share is that of two usual rates.
    video = np.arange(1200) / 30
    aligned = align(1000, False, video)
    assert (aligned.remark, aligned.shown) == (None, 1200)
    np.testing.assert_array_equal(aligned.times, video[:1000])
    assert align(1000, True, video).remark is not None
    # 1100 rows would be 27.5 a second, which no camera takes: what the video has more is a question to the user.
    assert align(1100, True, video).unclear
    assert not align(1100, False, video).unclear


def test_without_a_video_the_usual_rate_is_taken():
    for video in (None, np.array([0.0])):
        aligned = align(4, True, video)
        np.testing.assert_allclose(aligned.times, np.arange(4) / USUAL_RATE)
        assert aligned.shown == 0
    assert align(0, False, np.arange(5) / 25).times.shape == (0,)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (np.arange(0, 5.5, 0.04), None),
        (np.arange(0, 5.5, 0.1), None),
        (np.arange(0, 4.5, 0.04), ("stop", 4.52)),
        (np.arange(2.5, 5.5, 0.04), ("start", 2.5)),
        (np.array([0.0, 0.5, 1.0, 1.5, 5.5, 6.0]), ("none", 2.0)),
        (np.array([1.0]), ("stop", 1.1)),
    ],
)
def test_missing_frames_of_a_window_are_named(times, expected):
    found = shortfall(times, 2.0, 5.0, 0.1)
    assert (found and found[0]) == (expected and expected[0])
    if expected:
        assert found[1] == pytest.approx(expected[1], abs=0.05)


def test_the_step_is_the_usual_one():
    assert frame_step(np.array([0.0, 0.04, 0.08, 1.0, 1.04])) == pytest.approx(0.04)
