"""Detectors of faces in one picture: OpenCV's cascade, or a YuNet network from a file of the user."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mtpkdot.data.media.boxes import Box
from mtpkdot.errors import DataConfigError

Frame = NDArray[np.uint8]
Point = tuple[float, float]
Found = TypeVar("Found", bound=Box)

HAAR = "haar"

# Detections of the same face overlap by this intersection over union from one look to the next.
_SAME_FACE = 0.3
_SETTING = "data.init_args.pictures.detector"
_POINTER = b"version https://git-lfs"
_SOURCE = "models/face_detection_yunet of github.com/opencv/opencv_zoo"


@dataclass(frozen=True)
class Face(Box):
    """Box of a face, with the score and landmarks of a network.

    Attributes:
        score: confidence, from 0 to 1.
        landmarks: (x, y) in pixels: the eye on the picture's left, the other eye, tip of the nose, and the corners of
            the mouth in the same order as the eyes.
    """

    score: float = 1.0
    landmarks: tuple[Point, ...] = ()


class Detector(Protocol):
    """Detector of a face in one picture."""

    def detect(self, frame: Frame, near: Box | None = None) -> Box | None:
        """Return the face's box, or None; a box that overlaps `near` is preferred to a larger one elsewhere."""


def open_detector(name: str, min_score: float = 0.7) -> Detector:
    """Return the detector that `pictures.detector` names.

    Args:
        name: `haar`, or the path of a YuNet ONNX file.
        min_score: lowest accepted confidence of YuNet.

    Raises:
        DataConfigError: OpenCV has no cascades, or the file is missing or no YuNet network.
    """
    return FaceDetector() if name == HAAR else YuNetDetector(Path(name), min_score)


class FaceDetector:
    """OpenCV's Haar cascade for frontal faces: small and part of OpenCV 4, but fails on profiles and tilted faces.

    Args:
        longest: pictures are shrunk to this many pixels along their longer side before the search.
        smallest: smallest size of a face, as a share of the picture's shorter side.
        scale_factor: ratio between two searched sizes; closer to 1 finds more and takes longer.
        min_neighbors: overlapping detections that make a face; more means fewer faces and fewer false ones.
        threads: threads of OpenCV in this process. Use one if many files are processed in parallel.

    Raises:
        DataConfigError: OpenCV 5 is installed, which has dropped the cascades.
    """

    def __init__(
        self,
        longest: int = 320,
        smallest: float = 0.15,
        scale_factor: float = 1.2,
        min_neighbors: int = 5,
        threads: int = 1,
    ) -> None:
        import cv2  # Takes long to import, and is needed only for face crops.

        if not hasattr(cv2, "CascadeClassifier"):
            raise DataConfigError(
                f"OpenCV {cv2.__version__} has no face cascade, which `detector: {HAAR}` needs",
                f"Set {_SETTING} to the path of a YuNet ONNX file ({_SOURCE}), or install `opencv-python-headless<5`.",
            )
        from cv2.data import haarcascades

        cv2.setNumThreads(threads)
        self._cascade = cv2.CascadeClassifier(f"{haarcascades}haarcascade_frontalface_default.xml")
        self.longest = longest
        self.smallest = smallest
        self.scale_factor = scale_factor
        self.min_neighbors = min_neighbors

    def detect(self, frame: Frame, near: Box | None = None) -> Box | None:
        """Find a face.

        Args:
            frame: (H, W, 3), uint8, RGB.
            near: where the face was; one that overlaps it is preferred to a larger one elsewhere.

        Returns:
            The largest face, or None.
        """
        import cv2

        grey, scale = _shrunk(np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8), self.longest)
        least = round(self.smallest * min(grey.shape))
        found = self._cascade.detectMultiScale(
            grey, scaleFactor=self.scale_factor, minNeighbors=self.min_neighbors, minSize=(least, least)
        )
        return _chosen([Box(*(float(value) / scale for value in face)) for face in found], near)


class YuNetDetector:
    """YuNet network from a file, which also finds turned and tilted faces, with landmarks and a score.

    Args:
        path: an ONNX file of YuNet, any size of pictures.
        min_score: lowest accepted confidence, from 0 to 1.
        longest: pictures are shrunk to this many pixels along their longer side before the search. YuNet detects faces
            of 10 to 300 pixels.
        threads: threads of OpenCV in this process. Use one if many files are processed in parallel.

    Raises:
        DataConfigError: the file is missing, or is no YuNet network.
    """

    def __init__(self, path: Path, min_score: float = 0.7, longest: int = 320, threads: int = 1) -> None:
        import cv2

        if not path.is_file():
            raise DataConfigError(f"the face detector {path} does not exist", f"Correct {_SETTING}.")
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise DataConfigError(
                    f"the face detector {path} is a pointer of Git LFS and not the file itself",
                    "Download the file, with `git lfs pull` in a clone.",
                )
        cv2.setNumThreads(threads)
        self.path, self.longest = path, longest
        with self._explained():
            self._network = cv2.FaceDetectorYN.create(str(path), "", (longest, longest), min_score)
        # Other networks load as well, and fail at their first picture.
        self.detect(np.zeros((longest, longest, 3), np.uint8))

    def detect(self, frame: Frame, near: Box | None = None) -> Face | None:
        """Find a face.

        Args:
            frame: (H, W, 3), uint8, RGB.
            near: where the face was; one that overlaps it is preferred to a larger one elsewhere.

        Returns:
            The largest face whose centre lies in the picture, with its roll by the eyes, or None.

        Raises:
            DataConfigError: the network cannot be run.
        """
        import cv2

        small, scale = _shrunk(frame, self.longest)
        height, width = small.shape[:2]
        with self._explained():
            self._network.setInputSize((width, height))
            _, found = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        faces = [] if found is None else [_face(row, scale) for row in np.asarray(found, np.float64)]
        return _chosen([face for face in faces if _lies_in(face, frame)], near)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn OpenCV's error about a file into one line, and keep its own messages off the terminal."""
        import cv2

        set_level = getattr(cv2.utils, "logging", cv2).setLogLevel  # In OpenCV 4.11 it is part of the package itself.
        level = set_level(0)
        try:
            yield
        except cv2.error as error:
            raise DataConfigError(
                f"the face detector {self.path} is not a YuNet network that OpenCV {cv2.__version__} can run",
                f"Set {_SETTING} to an ONNX file of {_SOURCE}.",
            ) from error
        finally:
            set_level(level)


def _shrunk(picture: Frame, longest: int) -> tuple[Frame, float]:
    """Return a picture with at most `longest` pixels along its longer side, and the scale of its size."""
    import cv2

    height, width = picture.shape[:2]
    scale = min(1.0, longest / max(height, width))
    if scale == 1:
        return picture, scale
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _face(row: NDArray[np.float64], scale: float) -> Face:
    """Return the face of a row (15,) of YuNet's output: box, five landmarks, score."""
    left, top, width, height = (row[:4] / scale).tolist()
    points: list[Point] = [(float(x), float(y)) for x, y in (row[4:14] / scale).reshape(5, 2)]
    (x, y), (other_x, other_y) = points[:2]
    roll = math.degrees(math.atan2(other_y - y, other_x - x))
    return Face(left, top, width=width, height=height, roll=roll, score=float(row[14]), landmarks=tuple(points))


def _lies_in(face: Face, frame: Frame) -> bool:
    """Return whether a face has an extent, and its centre in the picture."""
    x, y = face.left + face.width / 2, face.top + face.height / 2
    return min(face.width, face.height) > 0 and 0 <= x < frame.shape[1] and 0 <= y < frame.shape[0]


def _chosen(faces: Sequence[Found], near: Box | None) -> Found | None:
    """Return the largest face, among those that overlap `near` if there are any."""
    same = [face for face in faces if near is not None and face.overlap(near) > _SAME_FACE]
    return max(same or faces, key=lambda face: face.width * face.height, default=None)
