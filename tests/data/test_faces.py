"""Faces are found where there are some and nowhere else; crops are square, padded and free of false patterns."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.data.decode import iter_frames
from mtpkdot.data.faces import Box, FaceDetector, boxes_per_frame, centre_box, crop, find_boxes, read_boxes
from mtpkdot.data.jpegs import read_jpeg
from tests.data.helpers import complaint, quick, write_text

CLIPS = Path(os.environ.get("MTPKDOT_TEST_DATA", "")) / "clips"
needs_clips = pytest.mark.skipif(
    not os.environ.get("MTPKDOT_TEST_DATA") or not CLIPS.is_dir(),
    reason="MTPKDOT_TEST_DATA names no folder of real data",
)
HEADER = "recording,frame,left,top,width,height\n"


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


def test_an_empty_picture_has_no_face():
    detector = FaceDetector()
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    for frame in (np.zeros((120, 160, 3), np.uint8), noise, np.full((8, 5, 3), 90, np.uint8)):
        assert detector.detect(frame) is None


@needs_clips
def test_the_nearer_of_several_faces_is_kept():
    frame = read_jpeg(CLIPS / "faces" / "multi_face.jpg").permute(1, 2, 0).numpy()
    twice = np.concatenate([frame, frame], axis=1)
    detector = FaceDetector(longest=640, smallest=0.1)
    alone = detector.detect(frame)
    right = Box(alone.left + frame.shape[1], alone.top, alone.width, alone.height)
    kept = detector.detect(twice, near=right)
    assert kept.left > frame.shape[1]
    assert detector.detect(twice, near=Box(alone.left, alone.top, alone.width, alone.height)).left < frame.shape[1]


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
def test_faces_of_real_clips(name, least, most):
    boxes = find_boxes((frame for _, frame in iter_frames(CLIPS / name)), FaceDetector())
    assert least <= np.mean(~np.isnan(boxes[:, 0])) <= most


@needs_clips
@pytest.mark.parametrize(("name", "first", "last"), [("face_noface.mov", 0, 72), ("noface_face.mov", 97, 168)])
def test_a_face_that_comes_or_goes_does_so_at_the_right_time(name, first, last):
    boxes = find_boxes((frame for _, frame in iter_frames(CLIPS / "faces" / name)), FaceDetector())
    there = np.flatnonzero(~np.isnan(boxes[:, 0]))
    assert abs(there[0] - first) <= 5
    assert abs(there[-1] - last) <= 5
    assert len(there) == there[-1] - there[0] + 1


@pytest.fixture
def csv(tmp_path):
    return lambda text: write_text(tmp_path / "boxes.csv", HEADER + text)


def test_boxes_of_the_user_are_spread_over_the_frames(csv):
    boxes = read_boxes(csv("007,4,20,0,10,10\n007,0,0,0,10,30\nb,,1,2,3,4\nc,-1,1,2,3,4\n"))
    assert list(boxes) == ["007", "b", "c"]
    spread = boxes_per_frame(boxes["007"], 6)
    np.testing.assert_allclose(spread[:5, 0], [0, 5, 10, 15, 20])
    np.testing.assert_allclose(spread[:5, 3], [30, 25, 20, 15, 10])
    assert np.isnan(spread[5]).all()
    for whole in ("b", "c"):
        np.testing.assert_array_equal(boxes_per_frame(boxes[whole], 3), [[1, 2, 3, 4]] * 3)


def test_an_empty_box_ends_a_face_and_keeps_the_frames_beside_it(csv):
    boxes = read_boxes(csv("a,0,1,1,5,5\na,2,1,1,5,5\na,3,,,,\na,6,1,1,5,5\n"))
    assert present(boxes_per_frame(boxes["a"], 8)) == "xxx...x."
    assert present(boxes_per_frame(boxes["a"], 2)) == "xx"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a,0,1,2,x,4\n", "line 2: width 'x' is no number"),
        ("a,0,1,2,3,4\na,1,1,2,0,4\n", "line 3: the box is 0 x 4 pixels"),
        ("a,0,1,2,,4\n", "line 2: a part of the box is missing"),
        ("a,0.5,1,2,3,4\n", "line 2: frame 0.5 is no frame"),
        ("a,-2,1,2,3,4\n", "line 2: frame -2 is no frame"),
        ("a,0,1,2,3,4\na,0,1,2,3,4\n", "line 3: a has another row"),
        ("a,0,1,2,3,4\na,,1,2,3,4\n", "line 3: a has another row"),
        (",0,1,2,3,4\n", "line 2: no recording"),
        ("a,0,1,2,inf,4\n", "line 2: width"),
    ],
)
def test_a_wrong_row_is_named(csv, text, problem):
    path = csv(text)
    message = complaint(lambda: read_boxes(path))
    assert str(path) in message
    assert problem in message


def test_a_missing_column_is_named(tmp_path):
    path = write_text(tmp_path / "boxes.csv", "recording,frame,left,top,width\na,0,1,2,3\n")
    assert "lacks the column 'height'" in complaint(lambda: read_boxes(path))


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


def test_a_box_that_encloses_nothing_is_our_mistake():
    for box in (Box(np.nan, 0, 1, 1), Box(0, 0, 0, 5)):
        with pytest.raises(ValueError, match="encloses nothing"):
            crop(np.zeros((4, 4, 3), np.uint8), box, 4)
    assert "does not fit" in complaint(lambda: crop(np.zeros((4, 4, 3), np.uint8), Box(0, 0, 1e9, 1e9), 4))
