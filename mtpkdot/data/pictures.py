"""From a video file or a folder of frames to the JPEG frames of a prepared store."""

import os
import re
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mtpkdot.data.batch import IntArray
from mtpkdot.data.faces import Box, FaceDetector, boxes_per_frame, centre_box, crop, find_boxes, read_boxes
from mtpkdot.data.jpegs import encode_jpeg, read_jpeg
from mtpkdot.data.recordings import Problem
from mtpkdot.errors import DataConfigError, DataError, DecodeError

Frame = npt.NDArray[np.uint8]
Crop = Literal["whole", "centre", "face", "boxes"]

_NUMBER = re.compile(r"(\d+)\.jpe?g$", re.IGNORECASE)
_MOST_FRAMES = 10_000_000  # four days; a higher number is no frame's


@dataclass(frozen=True)
class PictureSettings:
    """How frames are cut and stored.

    Args:
        size: side of the stored frames, in pixels.
        crop: `whole`: the picture, squeezed to a square. `centre`: its largest centred square. `face`: around the face
            that a detector finds; frames without one are absent. `boxes`: around the boxes of a file.
        boxes: CSV with the columns recording, frame, left, top, width, height, for `crop: boxes`.
        margin: share of the box that is added on each side, for `face` and `boxes`.
        detect_every: the detector looks at every n-th frame.
        quality: of the JPEG files, 1 to 100. Frames that lie there as JPEG in the right size are kept byte for byte.
    """

    size: int = 112
    crop: Crop = "whole"
    boxes: str | None = None
    margin: float = 0.2
    detect_every: int = 5
    quality: int = 95

    def __post_init__(self) -> None:
        if self.size < 8 or not 1 <= self.quality <= 100 or self.margin < 0 or self.detect_every < 1:
            raise ValueError("pictures need a size of 8 or more, a quality of 1 to 100, and no negative margin")
        if (self.crop == "boxes") != (self.boxes is not None):
            raise ValueError("pictures.boxes names the file for crop: boxes, and nothing else reads it")

    def plain(self) -> dict[str, Any]:
        """The settings with the contents of the box file, as plain data."""
        settings = asdict(self)
        if self.boxes is not None:
            if not Path(self.boxes).is_file():
                raise DataConfigError(f"{self.boxes} does not exist", "Correct data.init_args.pictures.boxes.")
            settings["boxes"] = sha256(Path(self.boxes).read_bytes()).hexdigest()
        return settings


@dataclass(frozen=True)
class Pictures:
    """The frames of a recording.

    Attributes:
        jpegs: all files one after the other, uint8.
        offsets: (F + 1,) where each begins, and the end; an empty one is an absent frame.
        times: (F,) seconds; NaN where unknown.
        problems: frames of a folder that cannot be decoded, and are absent.
    """

    jpegs: npt.NDArray[np.uint8]
    offsets: IntArray
    times: npt.NDArray[np.float64]
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def of(cls, files: list[bytes], times: npt.NDArray[np.float64]) -> "Pictures":
        """Join the files of all frames; `b""` for an absent one."""
        offsets = np.concatenate([[0], np.cumsum([len(file) for file in files])]).astype(np.int64)
        return cls(np.frombuffer(b"".join(files), dtype=np.uint8), offsets, times)


def read_pictures(path: Path, id: str, settings: PictureSettings) -> Pictures:
    """The frames of a recording, cut and compressed.

    Args:
        path: a video file, or a folder of frames whose names end in their number, from 1.
        id: of the recording, to find it in the box file.
        settings: how.

    Raises:
        DataError: damaged video, empty file or folder, a folder without one whole frame, a recording without any face
            or box.
    """
    if path.is_dir():
        return _from_folder(path, id, settings)
    from mtpkdot.data.decode import iter_frames

    boxes = _boxes(path, id, settings)
    files, times = [], []
    for number, (time, frame) in enumerate(iter_frames(path)):
        files.append(_cut(frame, number, boxes, settings, path))
        times.append(time)
    return _checked(Pictures.of(files, np.array(times)), path, settings)


def _from_folder(folder: Path, id: str, settings: PictureSettings) -> Pictures:
    names = frame_files(folder)
    if not names:
        raise DataError(f"{folder} holds no JPEG frame", "Put them there, or remove the recording.")
    files = [b""] * (max(names) + 1)
    boxes = _boxes(folder, id, settings)
    problems = []
    for number, name in names.items():
        path = folder / name
        try:
            picture = read_jpeg(path)  # decoded even if it is kept: damage is found here, not in the third epoch
        except DecodeError as error:
            problems.append(Problem.of(error, path))
            continue
        if settings.crop == "whole" and tuple(picture.shape[1:]) == (settings.size, settings.size):
            files[number] = path.read_bytes()
        else:
            files[number] = _cut(picture.permute(1, 2, 0).contiguous().numpy(), number, boxes, settings, path)
    if len(problems) == len(names):
        first = problems[0]
        what = f"{folder}: none of its {len(names)} frames can be decoded, first {first.path.name}: {first.what}"
        raise DecodeError(what, first.step)
    pictures = _checked(Pictures.of(files, np.full(len(files), np.nan)), folder, settings)
    return replace(pictures, problems=problems)


def frame_files(folder: Path) -> dict[int, str]:
    """The frames of a folder: position from 0 -> file name, in order."""
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


def _boxes(path: Path, id: str, settings: PictureSettings) -> npt.NDArray[np.float64] | None:
    """Boxes (F, 4) of a recording, NaN where there is no face; None where the crop needs none."""
    if settings.crop == "face":
        if path.is_dir():
            raise DataError(f"{path}: faces are searched in videos, not in folders of frames", "Set crop to whole.")
        from mtpkdot.data.decode import iter_frames

        return find_boxes((frame for _, frame in iter_frames(path)), FaceDetector(), settings.detect_every)
    if settings.crop == "boxes":
        assert settings.boxes is not None
        boxes = _box_file(settings.boxes)
        if id not in boxes:
            raise DataError(f"{settings.boxes} has no box of {id}", "Add it, or set on_error to skip.")
        return boxes_per_frame(boxes[id], _count(path))
    return None


def _count(path: Path) -> int:
    """Frames of a video, or of a folder."""
    if path.is_dir():
        return max(frame_files(path)) + 1
    from mtpkdot.data.decode import frame_times

    return len(frame_times(path))


@lru_cache(maxsize=2)
def _box_file(path: str) -> dict[str, npt.NDArray[np.float64]]:
    return read_boxes(Path(path))


def _cut(
    frame: Frame, number: int, boxes: npt.NDArray[np.float64] | None, settings: PictureSettings, path: Path
) -> bytes:
    """The JPEG file of one frame, empty where there is no box."""
    height, width = frame.shape[:2]
    if boxes is not None:
        row = boxes[min(number, len(boxes) - 1)]
        if not np.isfinite(row).all():
            return b""
        try:
            frame = crop(frame, Box(*map(float, row)), settings.size, settings.margin)
        except DataError as error:
            raise DataError(f"{path}, frame {number} from 0: {error.what}", error.step) from error
    elif settings.crop == "centre":
        frame = crop(frame, centre_box(height, width), settings.size, 0.0)
    elif (height, width) != (settings.size, settings.size):
        import cv2

        shrinks = height > settings.size
        frame = np.asarray(
            cv2.resize(
                frame, (settings.size, settings.size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            ),
            dtype=np.uint8,
        )
    return encode_jpeg(frame, settings.quality)


def _checked(pictures: Pictures, path: Path, settings: PictureSettings) -> Pictures:
    if not len(pictures.jpegs):
        what = "no face is found in any frame" if settings.crop == "face" else "no frame has a box"
        raise DecodeError(f"{path}: {what}", "Give boxes (pictures.crop: boxes), or set on_error to skip.")
    return pictures


def fill_frames(wanted: IntArray, present: npt.NDArray[np.bool_], repeat: bool) -> npt.NDArray[np.int32]:
    """Where to take frames from.

    Args:
        wanted: positions of frames, of any shape.
        present: (F,) bool, the frames that exist; those beyond F are absent.
        repeat: take the nearest earlier frame for an absent one, or the first one at the beginning.

    Returns:
        The positions to read, -1 for an absent frame; of the shape of `wanted`.
    """
    positions = np.arange(len(present))
    if not present.any():
        return np.full(wanted.shape, -1, dtype=np.int32)
    inside = np.clip(wanted, 0, len(present) - 1)
    if not repeat:
        there = present[inside] & (inside == wanted)
        return np.where(there, wanted, -1).astype(np.int32)
    source = np.maximum.accumulate(np.where(present, positions, -1))
    source[source < 0] = int(np.argmax(present))
    return source[inside].astype(np.int32)


def read_present(offsets: IntArray) -> npt.NDArray[np.bool_]:
    """(F,) bool, the frames that exist."""
    return np.asarray(np.diff(offsets) > 0)
