"""A face is followed as its looks say, with those that come later or without; crops are square and exact."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.data.media.boxes import Box
from mtpkdot.data.media.decode import iter_frames, iter_lazy_frames
from mtpkdot.data.media.faces import CausalSearch, SmoothSearch, centre_box, crop, find_boxes
from tests.data.helpers import complaint, quick
from tests.data.media_helpers import CLIPS, needs_clips

SEARCHES = {"every": st.integers(1, 6), "hold": st.integers(0, 20), "confirm": st.integers(1, 4)}
# 0 is a frame without a face.
COURSES = st.lists(st.sampled_from([0, 10, 12, 20, 21, 120]), max_size=60)


class Script:
    """A detector that reads the face's place off the picture, or sees none where the first pixel is 0."""

    def detect(self, frame, near=None):
        value = float(frame[0, 0, 0])
        return Box(value, 2 * value, 50, 60) if value else None


def find(values, **options):
    return find_boxes((np.full((2, 2, 3), value, np.uint8) for value in values), Script(), **options)


def present(boxes):
    return "".join(".x"[int(there)] for there in ~np.isnan(boxes[:, 0]))


def test_every_frame_has_its_box_and_only_some_are_looked_at():
    boxes = find([10] + [99] * 3 + [14] + [99] * 3 + [18] + [99] * 2, every=4, confirm=1)
    assert boxes.shape == (11, 4)
    assert np.all(np.diff(boxes[:9, 0]) > 0)
    assert np.all(boxes[:, 0] < 19)
    np.testing.assert_allclose(boxes[:, 2:], [[50, 60]] * 11)


def test_a_still_face_keeps_its_box_and_one_wild_find_does_not_move_it():
    values = [20, 20, 20, 200, 20, 20, 20]
    np.testing.assert_array_equal(find(values, every=1), [[20, 40, 50, 60]] * 7)


@pytest.mark.parametrize(
    ("seen", "options", "expected"),
    [
        ("xxxx..xxxx", {"every": 1, "hold": 2}, "xxxxxxxxxx"),
        ("xxxx...xxx", {"every": 1, "hold": 2}, "xxxx...xxx"),
        ("..........", {"every": 1, "hold": 2}, ".........."),
        ("....x.....", {"every": 1, "hold": 2}, ".........."),
        ("....x.....", {"every": 1, "hold": 2, "confirm": 1}, "....x....."),
        ("x", {"every": 1, "hold": 2}, "x"),
        ("", {"every": 1, "hold": 2}, ""),
        # Looks at 0, 5, 10 and 15; halfway between a look with and one without a face it ends.
        ("xxxxxxxxx...........", {"every": 5, "hold": 0}, "xxxxxxxx............"),
        ("..........xxxxxxxxxx", {"every": 5, "hold": 0}, "........xxxxxxxxxxxx"),
    ],
)
def test_a_face_lost_for_longer_than_hold_is_absent(seen, options, expected):
    assert present(find([30 if mark == "x" else 0 for mark in seen], **options)) == expected


def test_steps_that_make_no_sense_are_refused():
    for options in ({"every": 0}, {"hold": -1}, {"confirm": 0}):
        with pytest.raises(ValueError, match="every and confirm"):
            find([1], **options)


def reference_boxes(values, every, hold, confirm):
    """Boxes (n, 4) from all looks of a recording at once."""
    looks = values[::every]
    found = np.flatnonzero(looks)
    boxes = np.array([[v, 2 * v, 50, 60] for v in looks if v], float).reshape(-1, 4)
    result = np.full((len(values), 4), np.nan)
    for part in np.split(np.arange(len(found)), np.flatnonzero(np.diff(found) * every > max(hold + 1, every)) + 1):
        if len(part) == 0 or len(part) < min(confirm, len(looks)):
            continue
        padded = np.pad(boxes[part], ((1, 1), (0, 0)), mode="edge")
        median = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
        padded = np.pad(median, ((1, 1), (0, 0)), mode="edge")
        smooth = padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4
        half, first, last = (every - 1) // 2, found[part[0]], found[part[-1]]
        begin = first * every - half if first else 0
        end = len(values) if last == len(looks) - 1 else last * every + half + 1
        for column in range(4):
            result[begin:end, column] = np.interp(np.arange(begin, end), found[part] * every, smooth[:, column])
    return result


@settings(quick, max_examples=300)
@given(COURSES, st.fixed_dictionaries(SEARCHES))
def test_box_after_box_is_what_all_looks_together_say(values, options):
    np.testing.assert_allclose(find(values, **options), reference_boxes(values, **options), rtol=1e-12)


@quick
@given(COURSES, st.fixed_dictionaries(SEARCHES))
def test_a_box_is_known_a_few_looks_after_its_frame(values, options):
    search, decided = SmoothSearch(Script(), **options), 0
    apart = max(options["hold"] + 1, options["every"])
    for number, value in enumerate(values):
        decided += len(search.update(np.full((1, 1, 3), value, np.uint8)))
        assert decided <= number + 1
        # Until it is confirmed, or until two finds more are there for it to be smoothed with.
        assert number + 1 - decided <= (max(options["confirm"], 3) + 1) * apart + options["every"]
    assert decided + len(search.finish()) == len(values)


def causal(values, **options):
    search = CausalSearch(Script(), **options)
    return [search.update(np.full((1, 1, 3), value, np.uint8)) for value in values]


@quick
@given(COURSES, COURSES, st.fixed_dictionaries(SEARCHES))
def test_without_looking_ahead_what_follows_changes_nothing(values, after, options):
    assert causal(values + after, **options)[: len(values)] == causal(values, **options)


@quick
@given(COURSES, st.fixed_dictionaries(SEARCHES))
def test_without_looking_ahead_a_box_is_the_middle_of_finds_that_were_there(values, options):
    for number, box in enumerate(causal(values, **options)):
        lately = [value for value in values[: number + 1 : options["every"]] if value][-3:]
        if box is not None:
            assert min(lately) <= box.left <= max(lately)
            assert (box.top, box.width, box.height) == (2 * box.left, 50, 60)


@pytest.mark.parametrize(
    ("seen", "options", "expected"),
    [
        ("xxxx..xxxx", {"every": 1, "hold": 2}, "xxxxxxxxxx"),
        ("xxxx...xxx", {"every": 1, "hold": 2}, "xxxxxx..xx"),
        ("....x.....", {"every": 1, "hold": 2}, ".........."),
        ("....x.....", {"every": 1, "hold": 2, "confirm": 1}, "....xxx..."),
        # What the very first look sees is not waited for.
        ("x", {"every": 1}, "x"),
        ("x.........", {"every": 1, "hold": 2}, "x........."),
        ("..........xxxxxxxxxx", {"every": 5, "hold": 0}, "...............xxxxx"),
        ("xxxxxxxxx...........", {"every": 5, "hold": 0}, "xxxxxxxxxx.........."),
    ],
)
def test_without_looking_ahead_a_face_begins_when_it_is_confirmed_and_ends_after_hold(seen, options, expected):
    boxes = causal([30 if mark == "x" else 0 for mark in seen], **options)
    assert "".join(".x"[box is not None] for box in boxes) == expected


def test_without_looking_ahead_one_wild_find_does_not_move_a_box_and_two_of_three_do():
    assert causal([20, 20, 20, 200, 20, 20], every=1) == [Box(20, 40, 50, 60)] * 6
    assert [box.left for box in causal([10, 10, 10, 30, 30, 30], every=1)] == [10, 10, 10, 10, 30, 30]


@pytest.mark.parametrize("kind", [SmoothSearch, CausalSearch])
def test_only_pictures_that_are_looked_at_are_made(kind):
    made, search = [], kind(Script(), every=4)

    def picture(number):
        made.append(number)
        return np.full((2, 2, 3), 9, np.uint8)

    for number in range(10):
        search.update(lambda number=number: picture(number))
    assert made == [0, 4, 8]


@needs_clips
@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("faces/single_face.mp4", 1.0, 1.0),
        ("faces/no_face.mp4", 0.0, 0.0),
        ("grid/bbaf2n.mpg", 1.0, 1.0),
        ("grid/swiz3n.mpg", 1.0, 1.0),
    ],
)
def test_faces_of_real_clips(detector, name, least, most):
    boxes = find_boxes((frame.rgb for frame in iter_lazy_frames(CLIPS / name)), detector)
    assert least <= np.mean(~np.isnan(boxes[:, 0])) <= most


@needs_clips
@pytest.mark.parametrize(("name", "first", "last"), [("face_noface.mov", 0, 72), ("noface_face.mov", 97, 168)])
def test_a_face_that_comes_or_goes_does_so_at_the_right_time(detector, name, first, last):
    boxes = find_boxes((frame.rgb for frame in iter_lazy_frames(CLIPS / "faces" / name)), detector)
    there = np.flatnonzero(~np.isnan(boxes[:, 0]))
    assert abs(there[0] - first) <= 5
    assert abs(there[-1] - last) <= 5
    assert len(there) == there[-1] - there[0] + 1


@needs_clips
def test_frames_that_wait_keep_their_pictures():
    path = CLIPS / "grid" / "bbaf2n.mpg"
    for frame, (time, picture) in zip(list(iter_lazy_frames(path)), iter_frames(path), strict=True):
        assert frame.time == time
        np.testing.assert_array_equal(frame.rgb(), picture)


def test_a_crop_of_its_own_size_is_the_picture_itself():
    frame = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    np.testing.assert_array_equal(crop(frame, Box(10, 5, 20, 20), 20, margin=0), frame[5:25, 10:30])
    np.testing.assert_array_equal(crop(frame, Box(14, 9, 12, 8), 24, margin=0.5), frame[1:25, 8:32])
    np.testing.assert_array_equal(crop(frame, centre_box(40, 60), 40, margin=0), frame[:, 10:50])


def test_beyond_the_picture_its_edge_is_repeated():
    frame = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    cut = crop(frame, Box(-5, -5, 10, 10), 10, margin=0)
    np.testing.assert_array_equal(cut[5:, 5:], frame[:5, :5])
    np.testing.assert_array_equal(cut[:5, :5], np.broadcast_to(frame[0, 0], (5, 5, 3)))
    np.testing.assert_array_equal(cut[5:, 0], frame[:5, 0])
    far = crop(frame, Box(55, 30, 20, 20), 20, margin=0)
    np.testing.assert_array_equal(far[:10, :5], frame[30:, 55:])
    np.testing.assert_array_equal(far[-1, -1], frame[-1, -1])


def test_shrinking_a_fine_chequer_gives_grey():
    chequer = (np.indices((96, 96)).sum(0) % 2 * 255).astype(np.uint8)
    small = crop(np.repeat(chequer[..., None], 3, 2), centre_box(96, 96), 32, margin=0)
    assert np.abs(small.astype(int) - 127).max() < 20


def test_enlarging_is_smooth():
    frame = np.zeros((8, 8, 3), np.uint8)
    frame[:, 4:] = 200
    row = crop(frame, centre_box(8, 8), 64, margin=0)[32, :, 0].astype(int)
    assert len(set(row)) > 4
    assert (np.diff(row) >= 0).all()


@quick
@given(
    st.floats(-30, 60), st.floats(-30, 40), st.floats(0.2, 90), st.floats(0.2, 90), st.floats(0, 1), st.integers(1, 40)
)
def test_any_box_gives_a_square_or_a_clear_refusal(left, top, width, height, margin, size):
    frame = np.full((40, 60, 3), 7, np.uint8)
    box = Box(left, top, width, height)
    if -width < left < 60 and -height < top < 40:
        cut = crop(frame, box, size, margin)
        assert cut.shape == (size, size, 3)
        assert (cut == 7).all()
    else:
        assert "does not fit" in complaint(lambda: crop(frame, box, size, margin))


def reference_crop(frame, box, size, margin):
    """The same by an index for every row and column; repeated indices repeat the edge."""
    side = max(box.width, box.height) * (1 + 2 * margin)
    pixels = max(1, round(side))
    left = round(box.left + box.width / 2 - side / 2)
    top = round(box.top + box.height / 2 - side / 2)
    rows, columns = (
        np.clip(np.arange(start, start + pixels), 0, length - 1)
        for start, length in ((top, frame.shape[0]), (left, frame.shape[1]))
    )
    how = cv2.INTER_AREA if size < pixels else cv2.INTER_LINEAR
    return cv2.resize(frame[rows[:, None], columns], (size, size), interpolation=how)


@settings(quick, max_examples=300)
@given(st.data(), st.integers(1, 50), st.integers(1, 50), st.integers(0, 7))
def test_pixels_are_those_of_an_index_for_every_row_and_column(data, height, width, layout):
    # Frames come as views as well: mirrored, turned, or with rows that lie apart.
    frame = np.random.default_rng(height).integers(0, 255, (height + 3, width + 3, 3), np.uint8)[1:-2, 2:-1]
    frame = frame[:: -1 if layout & 1 else 1, :: -1 if layout & 2 else 1]
    frame = frame.transpose(1, 0, 2) if layout & 4 else frame
    height, width = frame.shape[:2]
    w, h = data.draw(st.floats(0.2, 1.2 * width)), data.draw(st.floats(0.2, 1.2 * height))
    left = data.draw(st.floats(-w, width, exclude_min=True, exclude_max=True))
    top = data.draw(st.floats(-h, height, exclude_min=True, exclude_max=True))
    box, margin, size = Box(left, top, w, h), data.draw(st.floats(0, 1)), data.draw(st.integers(1, 40))
    np.testing.assert_array_equal(crop(frame, box, size, margin), reference_crop(frame, box, size, margin))


def wave(height, width, degrees=0.0):
    """A smooth picture, turned clockwise around its middle."""
    y, x = np.mgrid[:height, :width].astype(float)
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    u, v = c * x + s * y, c * y - s * x
    values = [128 + 60 * np.sin(u / 9) + 60 * np.cos(v / 13), 128 + 90 * np.sin(u / 15), 128 + 90 * np.sin(v / 11)]
    return np.stack(values, axis=2).round().astype(np.uint8)


@quick
@given(st.floats(-180, 180), st.sampled_from([20, 60, 90]))
def test_a_tilted_box_is_cut_out_upright(roll, size):
    box = Box(70, 45, 60, 60, roll)
    cut = crop(wave(150, 200, roll), box, size, margin=0, upright=True).astype(int)
    assert np.abs(cut - crop(wave(150, 200), box, size, margin=0).astype(int)).max() <= 3
    np.testing.assert_array_equal(crop(wave(150, 200), box, size), crop(wave(150, 200), Box(70, 45, 60, 60), size))


def test_beyond_the_picture_the_edge_of_a_tilted_box_is_repeated_too():
    frame = np.full((40, 60, 3), 7, np.uint8)
    for left, top in ((-9, -9), (55, 35), (-9, 35), (20, 20)):
        assert (crop(frame, Box(left, top, 10, 10, 30), 16, margin=0.5, upright=True) == 7).all()


def test_a_box_that_encloses_nothing_is_our_mistake():
    for box in (Box(np.nan, 0, 1, 1), Box(0, 0, 0, 5)):
        with pytest.raises(ValueError, match="encloses nothing"):
            crop(np.zeros((4, 4, 3), np.uint8), box, 4)
    assert "does not fit" in complaint(lambda: crop(np.zeros((4, 4, 3), np.uint8), Box(0, 0, 1e9, 1e9), 4))
