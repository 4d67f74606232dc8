"""Faces are found where there are some and nowhere else; a detector that cannot be run is named in one line."""

import cv2
import numpy as np
import pytest

from mtpkdot.data.media.boxes import Box
from mtpkdot.data.media.detectors import FaceDetector, YuNetDetector, open_detector
from mtpkdot.data.media.jpegs import read_jpeg
from mtpkdot.errors import DataConfigError
from tests.data.helpers import complaint, write_text
from tests.data.media_helpers import CLIPS, YUNET, needs_cascade, needs_clips, needs_yunet


def portrait(name="single_face.jpg"):
    return read_jpeg(CLIPS / "faces" / name).permute(1, 2, 0).numpy()


def middle(box):
    return np.array([box.left + box.width / 2, box.top + box.height / 2])


def turned(frame, degrees, around):
    """A picture turned clockwise."""
    matrix = cv2.getRotationMatrix2D(tuple(map(float, around)), -degrees, 1.0)
    return cv2.warpAffine(frame, matrix, frame.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def test_an_empty_picture_has_no_face(detector):
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    for frame in (np.zeros((120, 160, 3), np.uint8), noise, np.full((8, 5, 3), 90, np.uint8)):
        assert detector.detect(frame) is None


@needs_clips
def test_a_face_is_found_in_a_picture_of_any_size_and_memory_layout(detector):
    frame = portrait()
    box = detector.detect(frame)
    double = detector.detect(cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))
    assert Box(*(value / 2 for value in (double.left, double.top, double.width, double.height))).overlap(box) > 0.8
    mirrored = detector.detect(frame[:, ::-1])
    assert mirrored == detector.detect(np.ascontiguousarray(frame[:, ::-1]))
    assert abs(middle(mirrored)[0] - (frame.shape[1] - middle(box)[0])) < 0.1 * box.width


@needs_clips
def test_the_nearer_of_several_faces_is_kept(detector):
    frame = portrait("multi_face.jpg")
    twice = np.concatenate([frame, frame], axis=1)
    alone = detector.detect(frame)
    left, right = (Box(alone.left + x, alone.top, alone.width, alone.height) for x in (0, frame.shape[1]))
    detector.longest = 640
    assert detector.detect(twice, near=right).left > frame.shape[1]
    assert detector.detect(twice, near=left).left < frame.shape[1]


@needs_clips
@needs_yunet
@pytest.mark.parametrize("degrees", [-30, -15, 15, 30])
def test_the_roll_is_that_of_the_eyes(degrees):
    frame, detector = portrait(), YuNetDetector(YUNET, longest=640)
    straight = detector.detect(frame)
    face = detector.detect(turned(frame, degrees, middle(straight)))
    (x, y), (other_x, other_y) = face.landmarks[:2]
    assert np.tan(np.radians(face.roll)) == pytest.approx((other_y - y) / (other_x - x))
    assert abs(face.roll - straight.roll - degrees) < 10
    assert straight.score > face.score > 0.7


@needs_clips
@needs_yunet
def test_landmarks_lie_in_the_face_in_their_order():
    face = YuNetDetector(YUNET).detect(portrait())
    eye, other_eye, nose, mouth, other_mouth = np.array(face.landmarks)
    corner, extent = np.array([face.left, face.top]), np.array([face.width, face.height])
    assert (np.array(face.landmarks) > corner).all()
    assert (np.array(face.landmarks) < corner + extent).all()
    assert eye[0] < nose[0] < other_eye[0]
    assert max(eye[1], other_eye[1]) < nose[1] < min(mouth[1], other_mouth[1])


@needs_clips
@needs_yunet
def test_a_face_below_the_minimum_confidence_is_ignored():
    score = YuNetDetector(YUNET).detect(portrait()).score
    assert YuNetDetector(YUNET, min_score=score + 0.01).detect(portrait()) is None
    assert YuNetDetector(YUNET, min_score=score - 0.01).detect(portrait()).score == pytest.approx(score)


@needs_clips
@needs_cascade
def test_the_cascade_overlooks_faces_that_are_smaller_than_asked():
    assert FaceDetector(smallest=0.9).detect(portrait()) is None


def varint(number):
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def part(number, value):
    """A field of a Protocol Buffers message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def other_network(operation):
    """An ONNX file of one operation on a picture."""
    shape = part(2, b"".join(part(1, part(1, size)) for size in (1, 3, 320, 320)))
    given, result = (part(1, name) + part(2, part(1, part(1, 1) + shape)) for name in (b"input", b"out"))
    node = part(1, b"input") + part(2, b"out") + part(4, operation)
    graph = part(1, node) + part(2, b"net") + part(11, given) + part(12, result)
    return part(1, 8) + part(8, part(1, b"") + part(2, 13)) + part(7, graph)


@pytest.mark.parametrize(
    "contents",
    [b"", b"<!DOCTYPE html>\n", other_network(b"Relu"), other_network(b"Nonsense")],
    ids=["empty", "page", "another network", "unknown operation"],
)
def test_a_file_that_is_not_a_yunet_network_is_named(tmp_path, contents, capfd):
    path = write_text(tmp_path / "net.onnx", contents)
    with pytest.raises(DataConfigError, match="is not a YuNet network"):
        open_detector(str(path))
    assert str(path) in complaint(lambda: open_detector(str(path)))
    assert capfd.readouterr() == ("", "")


@needs_yunet
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_network_that_was_cut_off_is_named(tmp_path, share):
    data = YUNET.read_bytes()
    path = write_text(tmp_path / "net.onnx", data[: int(share * len(data))])
    assert f"{path} is not a YuNet network" in complaint(lambda: open_detector(str(path)))


def test_a_pointer_to_a_network_is_recognised(tmp_path):
    path = write_text(tmp_path / "net.onnx", "version https://git-lfs.github.com/spec/v1\noid sha256:8f\nsize 232589\n")
    assert f"{path} is a pointer of Git LFS" in complaint(lambda: open_detector(str(path)))


def test_a_missing_network_is_named(tmp_path):
    for path in (tmp_path / "absent.onnx", tmp_path):
        assert f"{path} does not exist" in complaint(lambda path=path: open_detector(str(path)))


def test_opencv_without_cascades_is_named_with_the_way_out(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier", raising=False)
    with pytest.raises(DataConfigError):
        open_detector("haar")
    message = complaint(FaceDetector)
    assert "no face cascade" in message
    assert "YuNet" in message
    assert "opencv-python-headless<5" in message
