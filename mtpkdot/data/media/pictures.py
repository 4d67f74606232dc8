"""Conversion of a video file or a folder of frames to the JPEG frames of a prepared store."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from mtpkdot.data.batch import IntArray
from mtpkdot.data.media.boxes import Box, Boxes, box_at, read_boxes
from mtpkdot.data.media.detectors import HAAR, open_detector
from mtpkdot.data.media.faces import CausalSearch, SmoothSearch, centre_box, crop
from mtpkdot.data.media.jpegs import encode_jpeg, read_jpeg
from mtpkdot.data.media.recordings import Problem
from mtpkdot.errors import DataConfigError, DataError, DecodeError

if TYPE_CHECKING:  # Only code that reads videos imports PyAV.
    from mtpkdot.data.media.decode import LazyFrame

Frame = npt.NDArray[np.uint8]
Crop = Literal["whole", "centre", "face", "boxes"]
Search = Literal["smooth", "causal"]

# Later settings of the face search: stores without them have their defaults.
_LATER = ("detector", "min_score", "search", "align")

_NUMBER = re.compile(r"(\d+)\.jpe?g$", re.IGNORECASE)
_MOST_FRAMES = 10_000_000  # Four days; a higher number cannot be that of a frame.


@dataclass(frozen=True)
class PictureSettings:
    """Settings of how frames are cut and stored.

    Args:
        size: side of the stored frames, in pixels.
        crop: `whole`: the picture, resized to a square. `centre`: its largest centred square. `face`: the face that a
            detector finds; frames without a face are absent. `boxes`: the boxes of a file.
        boxes: CSV with the columns recording, frame, left, top, width, height, for `crop: boxes`.
        margin: share of the box that is added on each side, for `face` and `boxes`.
        detect_every: the detector looks at every n-th frame.
        quality: quality of the JPEG files, 1 to 100. JPEG frames that have the right size already are kept byte for
            byte.
        detector: detector for `crop: face`: `haar`, the cascade of OpenCV 4, or the path of a YuNet ONNX
            file.
        min_score: lowest accepted confidence of YuNet, from 0 to 1.
        search: `smooth`: the box of a frame depends on detections before and after it. `causal`: on those up to the
            frame alone, as for a stream.
        align: rotate the picture so that the eyes are level, for YuNet.
    """

    size: int = 112
    crop: Crop = "whole"
    boxes: str | None = None
    margin: float = 0.2
    detect_every: int = 5
    quality: int = 95
    detector: str = HAAR
    min_score: float = 0.7
    search: Search = "smooth"
    align: bool = False

    def __post_init__(self) -> None:
        if self.size < 8 or not 1 <= self.quality <= 100 or self.margin < 0 or self.detect_every < 1:
            raise ValueError("pictures need a size of 8 or more, a quality of 1 to 100, and no negative margin")
        if (self.crop == "boxes") != (self.boxes is not None):
            raise ValueError("pictures.boxes is used by crop: boxes alone")
        if not 0 < self.min_score < 1:
            raise ValueError(f"pictures.min_score must be a confidence between 0 and 1, not {self.min_score}")
        if self.crop != "face" and (unread := self._changed(*_LATER)):
            raise ValueError(f"pictures.{unread[0]} is used by crop: face alone")
        if self.detector == HAAR and (unread := self._changed("min_score", "align")):
            raise ValueError(
                f"pictures.{unread[0]} needs a YuNet file as pictures.detector; the cascade has no such setting"
            )

    def plain(self) -> dict[str, Any]:
        """Return the settings with the digests of the box file and of the detector, as plain data."""
        changed = self._changed(*_LATER)
        settings = {name: value for name, value in asdict(self).items() if name not in _LATER or name in changed}
        files = {"boxes": self.boxes, "detector": None if self.detector == HAAR else self.detector}
        for name, file in files.items():
            if file is None:
                continue
            if not Path(file).is_file():
                raise DataConfigError(f"{file} does not exist", f"Correct data.init_args.pictures.{name}.")
            settings[name] = sha256(Path(file).read_bytes()).hexdigest()
        return settings

    def _changed(self, *names: str) -> list[str]:
        """Return the settings that differ from their defaults."""
        defaults = {each.name: each.default for each in fields(self)}
        return [name for name in names if getattr(self, name) != defaults[name]]


@dataclass(frozen=True)
class Pictures:
    """Frames of a recording.

    Attributes:
        jpegs: all files concatenated, uint8.
        offsets: (F + 1,) beginning of each file, and the end; an empty one is an absent frame.
        times: (F,) seconds; NaN if unknown.
        problems: frames of a folder that cannot be decoded and are absent.
    """

    jpegs: npt.NDArray[np.uint8]
    offsets: IntArray
    times: npt.NDArray[np.float64]
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def of(cls, files: list[bytes], times: npt.NDArray[np.float64]) -> "Pictures":
        """Return the pictures from the files of all frames; `b""` for an absent one."""
        offsets = np.concatenate([[0], np.cumsum([len(file) for file in files])]).astype(np.int64)
        return cls(np.frombuffer(b"".join(files), dtype=np.uint8), offsets, times)


def read_pictures(path: Path, id: str, settings: PictureSettings) -> Pictures:
    """Return the frames of a recording, cut and compressed.

    Args:
        path: a video file, or a folder of frames whose names end in their number, from 1.
        id: id of the recording in the box file.
        settings: settings of the cut.

    Raises:
        DataError: the video is damaged, the file or folder is empty, the folder has no intact frame, or the recording
            has no face or box.
    """
    if path.is_dir():
        return _from_folder(path, id, settings)
    from mtpkdot.data.media.decode import iter_lazy_frames

    files, times = [], []
    for number, (frame, box) in enumerate(_boxed(iter_lazy_frames(path), id, settings)):
        files.append(_cut(frame.rgb, number, box=box, settings=settings, path=path))
        times.append(frame.time)
    return _checked(Pictures.of(files, np.array(times)), path, settings)


def iter_pictures(path: Path, id: str, settings: PictureSettings) -> Iterator[tuple[float, Frame | None]]:
    """Cut the frames of a recording one after the other, without compressing them as a store does.

    Args:
        path: a video file, or a folder of frames, see `read_pictures`.
        id: of the recording, to find it in the box file.
        settings: how frames are cut.

    Yields:
        Per frame its time in seconds, NaN where unknown, and its pixels (size, size, 3); None for an absent one.

    Raises:
        DataError: as `read_pictures`, but for a recording without any face or box.
    """
    if not path.is_dir():
        from mtpkdot.data.media.decode import iter_lazy_frames

        for number, (frame, box) in enumerate(_boxed(iter_lazy_frames(path), id, settings)):
            yield frame.time, _pixels(frame.rgb, number, box=box, settings=settings, path=path)
        return
    names, boxes = frame_files(path), _boxes_of(id, settings)
    for number in range(max(names, default=-1) + 1):
        if number not in names:
            yield float("nan"), None
            continue
        picture = read_jpeg(path / names[number]).permute(1, 2, 0)
        box = None if boxes is None else box_at(boxes, number)
        yield float("nan"), _pixels(picture.numpy, number, box=box, settings=settings, path=path)


def _from_folder(folder: Path, id: str, settings: PictureSettings) -> Pictures:
    names = frame_files(folder)
    if not names:
        raise DataError(f"{folder} holds no JPEG frame", "Put them there, or remove the recording.")
    if settings.crop == "face":
        raise DataError(f"{folder}: faces are searched in videos, not in folders of frames", "Set crop to whole.")
    files = [b""] * (max(names) + 1)
    boxes = _boxes_of(id, settings)
    problems = []
    for number, name in names.items():
        path = folder / name
        try:
            picture = read_jpeg(path)  # Decoded even if it is kept: damage is found here, not in the third epoch.
        except DecodeError as error:
            problems.append(Problem.of(error, path))
            continue
        if settings.crop == "whole" and tuple(picture.shape[1:]) == (settings.size, settings.size):
            files[number] = path.read_bytes()
        else:
            box = None if boxes is None else box_at(boxes, number)
            files[number] = _cut(picture.permute(1, 2, 0).numpy, number, box=box, settings=settings, path=folder)
    if len(problems) == len(names):
        first = problems[0]
        what = f"{folder}: none of its {len(names)} frames can be decoded, first {first.path.name}: {first.what}"
        raise DecodeError(what, first.step)
    pictures = _checked(Pictures.of(files, np.full(len(files), np.nan)), folder, settings)
    return replace(pictures, problems=problems)


def frame_files(folder: Path) -> dict[int, str]:
    """Return the frames of a folder: file names by position from 0, in order."""
    found: dict[int, str] = {}
    try:
        names = os.listdir(folder)  # noqa: PTH208 # ten times as fast, and there may be 100,000 of them
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror})", "Correct its permissions.") from error
    for name in names:
        match = _NUMBER.search(name)
        if match is None or name.startswith("."):
            continue
        number = int(match[1]) - 1
        if not 0 <= number < _MOST_FRAMES:
            raise DataError(f"{folder / name}: frames are numbered from 1", "Rename or remove it.")
        if number in found:
            raise DataError(f"{folder}: {name} and {found[number]} have one number", "Remove one of them.")
        found[number] = name
    return dict(sorted(found.items()))


def _boxes_of(id: str, settings: PictureSettings) -> Boxes | None:
    """Return the boxes of a recording in the box file of the user; None if the crop needs no boxes."""
    if settings.boxes is None:
        return None
    boxes = _box_file(settings.boxes)
    if id not in boxes:
        raise DataError(f"{settings.boxes} has no box of {id}", "Add it, or set on_error to skip.")
    return boxes[id]


def _boxed(
    frames: "Iterator[LazyFrame]", id: str, settings: PictureSettings
) -> "Iterator[tuple[LazyFrame, Box | None]]":
    """Yield frames of a video, each with its box or None; a frame waits until its box is known."""
    if settings.crop != "face":
        boxes = _boxes_of(id, settings)
        for number, frame in enumerate(frames):
            yield frame, None if boxes is None else box_at(boxes, number)
        return
    detector = open_detector(settings.detector, settings.min_score)
    if settings.search == "causal":
        causal = CausalSearch(detector, settings.detect_every)
        for frame in frames:
            yield frame, causal.update(frame.rgb)
        return
    smooth = SmoothSearch(detector, settings.detect_every)
    waiting: deque[LazyFrame] = deque()
    for frame in frames:
        waiting.append(frame)
        for box in smooth.update(frame.rgb):
            yield waiting.popleft(), box
    yield from zip(waiting, smooth.finish(), strict=True)


@lru_cache(maxsize=2)
def _box_file(path: str) -> dict[str, Boxes]:
    return read_boxes(Path(path))


def _cut(picture: Callable[[], Frame], number: int, box: Box | None, settings: PictureSettings, path: Path) -> bytes:
    """Return the JPEG file of one frame; empty if it should have a box and has none."""
    frame = _pixels(picture, number, box=box, settings=settings, path=path)
    return b"" if frame is None else encode_jpeg(frame, settings.quality)


def _pixels(
    picture: Callable[[], Frame], number: int, box: Box | None, settings: PictureSettings, path: Path
) -> Frame | None:
    """Return the pixels of one cut frame; None if it should have a box and has none."""
    if box is None and settings.crop in ("face", "boxes"):
        return None
    frame = picture()
    height, width = frame.shape[:2]
    if box is not None:
        try:
            frame = crop(frame, box, size=settings.size, margin=settings.margin, upright=settings.align)
        except DataError as error:
            raise DataError(f"{path}, frame {number} from 0: {error.what}", error.step) from error
    elif settings.crop == "centre":
        frame = crop(frame, centre_box(height, width), settings.size, 0.0)
    elif (height, width) != (settings.size, settings.size):
        import cv2

        shrinks = height > settings.size
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        frame = np.asarray(cv2.resize(frame, (settings.size, settings.size), interpolation=how), dtype=np.uint8)
    return frame


def _checked(pictures: Pictures, path: Path, settings: PictureSettings) -> Pictures:
    if not len(pictures.jpegs):
        what, step = "no frame has a box", "Correct its boxes, or set on_error to skip."
        if settings.crop == "face":
            other = "name a YuNet file (pictures.detector), " if settings.detector == HAAR else ""
            what = "no face is found in any frame"
            step = f"Look at the video, {other}give boxes (pictures.crop: boxes), or set on_error to skip."
        raise DecodeError(f"{path}: {what}", step)
    return pictures


def read_present(offsets: IntArray) -> npt.NDArray[np.bool_]:
    """Return the frames (F,) bool that exist."""
    return np.asarray(np.diff(offsets) > 0)
