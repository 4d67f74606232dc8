"""The user's boxes are read, looked up between their rows, or named with file and line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.data.media.boxes import Box, box_at, read_boxes
from tests.data.helpers import complaint, quick, write_text

HEADER = "recording,frame,left,top,width,height\n"
CORNERS, SIDES = st.integers(0, 30), st.integers(1, 30)
BOXES = st.builds(Box, CORNERS, CORNERS, SIDES, SIDES)


def present(rows, frames):
    return "".join(".x"[box_at(rows, frame) is not None] for frame in range(frames))


@pytest.fixture
def csv(tmp_path):
    return lambda text: write_text(tmp_path / "boxes.csv", HEADER + text)


def test_boxes_of_the_user_lie_on_straight_lines_between_their_rows(csv):
    boxes = read_boxes(csv("007,4,20,0,10,10\n007,0,0,0,10,30\nb,,1,2,3,4\nc,-1,1,2,3,4\n"))
    assert list(boxes) == ["007", "b", "c"]
    assert [box_at(boxes["007"], frame) for frame in range(5)] == [
        Box(5 * frame, 0, 10, 30 - 5 * frame) for frame in range(5)
    ]
    assert box_at(boxes["007"], 5) is None
    for whole in ("b", "c"):
        assert [box_at(boxes[whole], frame) for frame in (0, 10**9)] == [Box(1, 2, 3, 4)] * 2


def test_an_empty_box_ends_a_face_and_keeps_the_frames_beside_it(csv):
    boxes = read_boxes(csv("a,0,1,1,5,5\na,2,1,1,5,5\na,3,,,,\na,6,1,1,5,5\nb,2,1,1,5,5\n"))
    assert present(boxes["a"], 8) == "xxx...x."
    assert present(boxes["b"], 4) == "..x."


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a,0,1,2,x,4\n", "line 2: width 'x' is not a number"),
        ("a,0,1,2,3,4\na,1,1,2,0,4\n", "line 3: the box is 0 x 4 pixels"),
        ("a,0,1,2,,4\n", "line 2: a part of the box is missing"),
        ("a,0.5,1,2,3,4\n", "line 2: frame 0.5 is not the number of a frame"),
        ("a,-2,1,2,3,4\n", "line 2: frame -2 is not the number of a frame"),
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


@quick
@given(BOXES, BOXES)
def test_overlap_is_that_of_the_painted_boxes(one, other):
    pictures = np.zeros((2, 60, 60), bool)
    for picture, box in zip(pictures, (one, other), strict=True):
        picture[box.top : box.top + box.height, box.left : box.left + box.width] = True
    assert one.overlap(other) == pytest.approx((pictures[0] & pictures[1]).sum() / (pictures[0] | pictures[1]).sum())
