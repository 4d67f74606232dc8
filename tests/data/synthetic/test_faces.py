"""Faces: what the latent course says is visible, and the head is where its pose puts it."""

import cv2
import numpy as np
import pytest

from mtpkdot.data.synthetic.expressions import Expression, Pose, head_motion, neutral
from mtpkdot.data.synthetic.faces import crop, placement, random_look, render, render_blocks
from tests.data.media_helpers import needs_cascade


def still(count, x=0.0, y=0.0, scale=1.0, roll=0.0):
    return Pose(*[np.full(count, value) for value in (x, y, scale, roll)])


def draw(expression, pose=None, size=112, person=0):
    look = random_look(np.random.default_rng(person))
    count = len(expression.eyes)
    return render(look, expression, pose or still(count), size, np.random.default_rng(9))


def with_control(name, first, last, count=2):
    return neutral(count)._replace(**{name: np.linspace(first, last, count)})


def test_frames_have_the_size_asked_for():
    frames = draw(neutral(3), size=(96, 128))
    assert frames.shape == (3, 96, 128, 3)
    assert frames.dtype == np.uint8
    assert frames.std() > 20


def test_the_same_randomness_gives_the_same_pixels_and_people_differ():
    np.testing.assert_array_equal(draw(neutral(2)), draw(neutral(2)))
    assert np.abs(draw(neutral(1), person=1).astype(int) - draw(neutral(1), person=2)).mean() > 5


@pytest.mark.parametrize(
    ("name", "first", "last", "rows"),
    [
        ("eyes", 1, 0, "upper"),
        ("brow_height", -1, 1, "upper"),
        ("frown", -1, 1, "upper"),
        ("mouth_open", 0, 1, "lower"),
        ("mouth_curve", -1, 1, "lower"),
        ("mouth_width", -1, 1, "lower"),
    ],
)
def test_every_control_moves_its_part_of_the_face_and_nothing_else(name, first, last, rows):
    frames = draw(with_control(name, first, last), size=160).astype(int)
    changed = np.abs(frames[1] - frames[0]).sum(axis=2)
    middle = 84  # a line below the eyes and above the mouth
    here, there = (changed[:middle], changed[middle:]) if rows == "upper" else (changed[middle:], changed[:middle])
    assert (here > 60).sum() > 30
    assert (there > 60).sum() == 0


def test_wrinkles_are_seen_above_and_below():
    frames = draw(with_control("wrinkle", 0, 1), size=160).astype(int)
    changed = np.abs(frames[1] - frames[0]).sum(axis=2) > 40
    assert changed[:84].sum() > 5
    assert changed[84:].sum() > 5


def test_an_open_mouth_is_darker_and_closed_eyes_show_no_white():
    mouth, eyes = draw(with_control("mouth_open", 0, 1)), draw(with_control("eyes", 1.2, 0))
    assert mouth[1].mean() < mouth[0].mean()
    white = (eyes.min(axis=3) > 150).reshape(2, -1).sum(axis=1)
    assert white[1] <= white[0]


def test_a_translated_head_is_found_where_its_pose_says():
    pose = Pose(np.array([0.0, 0.3]), np.array([0.0, 0.2]), np.ones(2), np.zeros(2))
    frames, places = draw(neutral(2), pose, 160), placement(pose, (160, 160))
    moved = (places[1] - places[0])[:2, 2]
    np.testing.assert_allclose(moved, 0.27 * 160 * np.array([0.3, 0.2]))
    face = cv2.cvtColor(frames[0, 50:110, 55:105], cv2.COLOR_RGB2GRAY)
    score = cv2.matchTemplate(cv2.cvtColor(frames[1], cv2.COLOR_RGB2GRAY), face, cv2.TM_CCOEFF_NORMED)
    row, column = np.unravel_index(score.argmax(), score.shape)
    np.testing.assert_allclose([column - 55, row - 50], moved, atol=1.01)


@pytest.mark.parametrize("change", [{"x": 0.4}, {"y": -0.3}, {"scale": 1.2}, {"roll": 0.2}])
def test_a_crop_undoes_the_pose(change):
    size = (192, 256)
    straight, posed = still(1), still(1, **change)
    wanted = crop(draw(neutral(1), straight, size)[0], placement(straight, size)[0])
    got = crop(draw(neutral(1), posed, size)[0], placement(posed, size)[0])
    inner = (slice(20, 95), slice(30, 82))  # inside the face: the background does not move
    correlation = np.corrcoef(wanted[inner].ravel(), got[inner].ravel())[0, 1]
    assert correlation > 0.97


def test_a_long_clip_drawn_in_blocks_is_the_same_clip():
    random = np.random.default_rng(4)
    pose, face = head_motion(150, 25, random), with_control("frown", -1, 1, 150)
    look = random_look(random)
    blocks = list(render_blocks(look, face, pose, 48, np.random.default_rng(5)))
    assert len(blocks) > 1
    whole = render(look, face, pose, 48, np.random.default_rng(5))
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    part = Expression(*[control[:70] for control in face])
    few = render(look, part, Pose(*[course[:70] for course in pose]), 48, np.random.default_rng(5))
    np.testing.assert_array_equal(few, whole[:70])


@needs_cascade
def test_the_face_cascade_finds_most_faces():
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = []
    for person in range(12):
        random = np.random.default_rng(person)
        frame = draw(neutral(1), head_motion(1, 25, random), 160, person)[0]
        boxes = cascade.detectMultiScale(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), 1.1, 3)
        found.append(any(abs(x + w / 2 - 80) < 20 and abs(y + h / 2 - 80) < 25 for x, y, w, h in boxes))
    assert np.mean(found) > 0.8
