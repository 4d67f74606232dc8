"""Recordings are cut into the same windows whole and as they come, and values come back to their frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.data.media.windows import Cut, Excerpt, Windows, mean_of_each, shown_frames
from tests.data.helpers import quick

SMALL = {"frames": st.integers(1, 3), "frame_step": st.integers(1, 3), "clips": st.integers(1, 4)}


@st.composite
def layouts(draw):
    """Windows of any kind."""
    clips = draw(SMALL["clips"])
    return Windows(
        draw(SMALL["frames"]),
        draw(SMALL["frame_step"]),
        clips,
        draw(st.sampled_from([None, *range(1, clips + 1)])),
        draw(st.sampled_from(["repeat", "mask"])),
    )


FACES = st.lists(st.booleans(), max_size=60)


def times_of(present, rate=25):
    return np.cumsum(np.resize([1.0, 1.0, 2.0], len(present))) / rate


@quick
@given(st.lists(st.booleans(), min_size=1, max_size=14))
def test_absent_frames_are_filled_as_configured(present):
    known = np.array(present)
    there = [n for n, here in enumerate(present) if here]
    masked, repeated = shown_frames(known, repeat=False), shown_frames(known, repeat=True)
    for number in range(len(present)):
        earlier = [n for n in there if n <= number]
        assert masked[number] == (number if number in there else -1)
        assert repeated[number] == (earlier[-1] if earlier else there[0] if there else -1)


@quick
@given(layouts(), FACES)
def test_every_frame_is_in_a_window_and_no_window_is_empty(windows, present):
    count, span = len(present), windows.span
    steps = windows.steps(count)
    assert len(steps) == windows.count(count)
    covered = {step * span + k for step in steps.ravel().tolist() for k in range(span)}
    assert set(range(count)) <= covered
    assert (steps[:, 0] * span < count).all()
    if len(steps) > 1:  # the one before the last did not reach the end
        assert (steps[-2, -1] + 1) * span < count


@quick
@given(layouts(), FACES)
def test_a_step_shows_its_own_frames_as_they_are_counted_out(windows, present):
    known, times = np.array(present, dtype=bool), times_of(present)
    cut, repeat = windows.cut(times, known), windows.missing_frames == "repeat"
    there, last = np.flatnonzero(known), len(present) - 1
    for window, steps in enumerate(windows.steps(len(present)).tolist()):
        for place, step in enumerate(steps):
            begin = step * windows.span
            shown = cut.frames[window, place].tolist()
            assert cut.inside[window, place] == (begin <= last)
            if begin > last:
                assert set(shown) == {-1}
                continue
            end = min(begin + windows.span - 1, last)
            assert cut.middle[window, place] == (times[begin] + times[end]) / 2
            asked = [min(begin + k * windows.frame_step, last) for k in range(windows.frames)]
            if repeat and len(there):
                expected = [there[there <= n][-1] if (there <= n).any() else there[0] for n in asked]
                assert shown == expected
            else:
                seen = [n for n in asked if known[n]]
                for n, frame in zip(asked, shown, strict=True):
                    assert frame == ([m for m in seen if m <= n] or seen[:1] or [-1])[-1]
    assert (cut.mask == (cut.frames >= 0).any(axis=2)).all()


@quick
@given(layouts(), FACES)
def test_a_stream_gives_the_windows_of_the_whole_recording(windows, present):
    times, known = times_of(present), np.array(present, dtype=bool)
    whole = windows.cut(times, known)
    streamed = list(windows.stream(zip(times.tolist(), present, strict=True)))
    assert len(streamed) == len(whole.frames)
    for number, window in enumerate(streamed):
        np.testing.assert_array_equal(window.frames, whole.frames[number])
        np.testing.assert_array_equal(window.mask, whole.mask[number])
        np.testing.assert_array_equal(window.starts(0.2, 100.0), whole.starts(0.2, 100.0)[number])
        np.testing.assert_array_equal(window.covered(70, 50.0), whole.covered(70, 50.0)[number])


def test_a_stream_gives_a_window_with_its_last_frame():
    windows, given_out, seen = Windows(frames=2, clips=3, hop=1), [], 0

    def camera():
        nonlocal seen
        for number in range(11):
            seen = number + 1
            yield number / 25, number > 0

    for window in windows.stream(camera()):
        given_out.append((seen, window.frames[0, 1]))
    assert given_out == [(6, 1), (8, 3), (10, 5), (11, 7)]


@quick
@given(layouts(), st.integers(0, 40), st.integers(1, 2))
def test_values_of_steps_come_back_to_their_frames(windows, count, width):
    steps = windows.steps(count)
    random = np.random.default_rng(count)
    values = random.normal(size=(*steps.shape, width)).astype(np.float32)
    frames = windows.per_frame(values, count)
    assert frames.shape == (count, width)
    assert frames.dtype == values.dtype
    for frame in range(count):
        own = values[steps == frame // windows.span]
        np.testing.assert_allclose(frames[frame], own.mean(axis=0), rtol=1e-5)
        assert len(own) > 1 or (frames[frame] == own[0]).all()
    np.testing.assert_array_equal(windows.frames_of(steps[:1].ravel(), np.zeros(steps[:1].size, int))[0], [])


@quick
@given(layouts(), st.lists(st.sampled_from([np.nan, -1.0, 0.25, 3.0]), max_size=40))
def test_the_target_of_a_step_is_the_mean_of_its_annotated_frames(windows, values):
    both = np.stack([values, np.resize([0.5, 1.0], len(values))], axis=1)
    target, labelled = windows.step_means(both)
    steps = windows.steps(len(values))
    assert target.shape == (*steps.shape, 2)
    for place in np.ndindex(*steps.shape):
        own = both[steps[place] * windows.span : (steps[place] + 1) * windows.span]
        own = own[np.isfinite(own).all(axis=1)]
        assert labelled[place] == (len(own) > 0)
        expected = own.mean(axis=0) if len(own) else [np.nan, np.nan]
        np.testing.assert_allclose(target[place], expected, rtol=1e-6)


def test_pieces_of_sound_lie_around_the_middle_of_their_step():
    windows = Windows(frames=5, clips=3)
    cut = windows.cut(1.0 + np.arange(15) / 5, np.ones(15, dtype=bool))
    assert cut.middle.tolist() == [[1.4, 2.4, 3.4]]
    assert cut.starts(0.5, 100.0).tolist() == [[115, 215, 315]]
    assert cut.starts(0.5, 100.0, begin=1.0).tolist() == [[15, 115, 215]]
    assert cut.covered(241, 100.0).tolist() == [[True, True, False]]
    assert cut.covered(241, 100.0, begin=1.5).tolist() == [[False, True, True]]


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"frame_step": 0}, {"clips": 0}, {"hop": 0}, {"clips": 2, "hop": 3}])
def test_windows_that_lose_frames_are_refused(wrong):
    with pytest.raises(ValueError, match=r"or more|hop must be 1 to"):
        Windows(**wrong)


def test_equal_keys_share_their_mean_in_the_order_in_which_they_come():
    first, means = mean_of_each(np.array([5, 2, 5, 9]), np.array([[1.0], [2.0], [3.0], [4.0]], np.float32))
    assert first.tolist() == [0, 1, 3]
    assert means.tolist() == [[2.0], [2.0], [4.0]]
    values = np.array([[0.1], [0.2]], np.float32)
    assert mean_of_each(np.array([3, 1]), values)[1] is values


def test_an_excerpt_shows_evenly_spaced_frames_and_the_signals_between():
    excerpt, times = Excerpt(1.0, 2.0, 3), np.arange(75) / 25
    present = np.ones(75, dtype=bool)
    assert excerpt.pictures(times, present).tolist() == [25, 37, 49]
    present[37] = False
    assert excerpt.pictures(times, present).tolist() == [25, 36, 49]
    assert Excerpt(1.0, 2.0, 3, "mask").pictures(times, present).tolist() == [25, -1, 49]
    assert excerpt.pictures(times, present, np.arange(3)).tolist() == [0, 1, 2]
    assert excerpt.samples(512.0) == 512
    begin, rate = np.array([0.0, 0.5, 0.0, 0.0]), np.array([512.0, 512.0, 511.0, 512.0])
    starts = excerpt.starts(512.0, begin, rate, np.array([2000, 2000, 1000, 0]))
    assert starts.tolist() == [512, 256, 488, -1]
    assert excerpt.lacks(512.0, 0.0, 512.0, 1022, 2) == []
    assert excerpt.lacks(512.0, 0.0, 512.0, 1021, 2) == [("stop", 1021 / 512)]
    assert excerpt.lacks(512.0, 1.5, 512.0, 2000, 2) == [("start", 1.5)]
    with pytest.raises(ValueError, match="0 <= start < stop"):
        Excerpt(2.0, 2.0, 3)


def test_a_cut_of_one_window_has_no_leading_dimension():
    window = next(Windows(frames=1, clips=2).stream([(0.0, True), (0.1, False)]))
    assert isinstance(window, Cut)
    assert (window.frames.shape, window.mask.tolist()) == ((2, 1), [True, True])
