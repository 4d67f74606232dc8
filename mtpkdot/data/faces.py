"""From pictures to aligned face crops: find one face per frame, or read the user's own boxes, and cut it out."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtpkdot.data.tables import place, plain_text, read_table
from mtpkdot.errors import DataError

Boxes = NDArray[np.float64]

_COLUMNS = ["left", "top", "width", "height"]
# Detections of one face overlap this much (intersection over union) from one look to the next.
_SAME_FACE = 0.3
# A box this many times longer than the picture is a mistake, and its crop would fill the memory.
_LARGEST = 4.0


@dataclass(frozen=True)
class Box:
    """A rectangle in a picture, in pixels; it may reach beyond the picture.

    Attributes:
        left: x of its left edge.
        top: y of its upper edge.
        width: along x.
        height: along y.
    """

    left: float
    top: float
    width: float
    height: float


class FaceDetector:
    """OpenCV's Haar cascade for frontal faces: small, quick and part of the package, but blind to profiles.

    Args:
        longest: pictures are shrunk to this many pixels along their longer side before the search.
        smallest: of a face, as a share of the picture's shorter side.
        scale_factor: between two sizes that are searched; closer to 1 finds more and takes longer.
        min_neighbors: overlapping finds that make a face; more finds fewer faces and fewer things that are none.
        threads: of OpenCV in this process. One is right where many files are worked on in parallel.
    """

    def __init__(
        self,
        longest: int = 320,
        smallest: float = 0.15,
        scale_factor: float = 1.2,
        min_neighbors: int = 5,
        threads: int = 1,
    ) -> None:
        import cv2  # takes long to import, and only those who look for faces need it
        from cv2.data import haarcascades

        cv2.setNumThreads(threads)
        self._cascade = cv2.CascadeClassifier(f"{haarcascades}haarcascade_frontalface_default.xml")
        self.longest = longest
        self.smallest = smallest
        self.scale_factor = scale_factor
        self.min_neighbors = min_neighbors

    def detect(self, frame: NDArray[np.uint8], near: Box | None = None) -> Box | None:
        """Find a face.

        Args:
            frame: (H, W, 3), uint8, RGB.
            near: where the face was; one that overlaps it is preferred to a larger one elsewhere.

        Returns:
            The largest face, or None.
        """
        import cv2

        grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
        scale = min(1.0, self.longest / max(grey.shape))
        if scale < 1:
            size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        least = round(self.smallest * min(grey.shape))
        found = self._cascade.detectMultiScale(
            grey, scaleFactor=self.scale_factor, minNeighbors=self.min_neighbors, minSize=(least, least)
        )
        boxes = [Box(*(float(value) / scale for value in face)) for face in found]
        same = [box for box in boxes if near is not None and _overlap(box, near) > _SAME_FACE]
        return max(same or boxes, key=lambda box: box.width * box.height, default=None)


def find_boxes(
    frames: Iterable[NDArray[np.uint8]], detector: FaceDetector, every: int = 5, hold: int = 15, confirm: int = 2
) -> Boxes:
    """Find the face in every frame of one recording, looking at some of them.

    Between two finds the box moves in a straight line; it is smoothed over neighbouring finds. A face ends halfway
    between the last look that saw it and the first that did not. Frames are not kept.

    Args:
        frames: pictures (H, W, 3), uint8, RGB, in their order.
        detector: finds a face in one picture.
        every: look at every so many frames.
        hold: a face that is lost for at most so many frames has been there all the while.
        confirm: finds without such a loss that make a face; a single one is mostly a mistake. A recording with fewer
            looks needs all of them.

    Returns:
        (n, 4): left, top, width, height in pixels per frame; NaN where there is no face.
    """
    if every < 1 or hold < 0 or confirm < 1:
        raise ValueError(f"every and confirm are at least 1 and hold at least 0, not {every}, {confirm} and {hold}")
    looks: list[Box | None] = []
    length, last = 0, None
    for index, frame in enumerate(frames):
        length = index + 1
        if index % every == 0:
            looks.append(detector.detect(frame, last))
            last = looks[-1] or last
    found = np.array([number for number, box in enumerate(looks) if box is not None], dtype=np.intp)
    boxes = np.array([astuple(box) for box in looks if box is not None]).reshape(-1, 4)
    result = np.full((length, 4), np.nan)
    # `hold` frames may be lost between two finds, so they are up to hold + 1 apart.
    apart = np.flatnonzero(np.diff(found) * every > max(hold + 1, every)) + 1
    for part in np.split(np.arange(len(found)), apart):
        if len(part) < min(confirm, len(looks)) or len(part) == 0:
            continue
        first, final = found[part[0]], found[part[-1]]
        begin = max(0, first * every - (every - 1) // 2) if first else 0
        end = length if final == len(looks) - 1 else final * every + (every - 1) // 2 + 1
        at = np.arange(begin, end)
        for column, values in enumerate(_smooth(boxes[part]).T):
            result[begin:end, column] = np.interp(at, found[part] * every, values)
    return result


def read_boxes(path: Path) -> dict[str, Boxes]:
    """Read the user's own face boxes; `boxes_per_frame` spreads them over a recording.

    Args:
        path: CSV or Parquet with the columns recording, frame, left, top, width, height. `frame` counts from 0; empty
            or -1 stands for the whole recording. A row with four empty numbers says that there is no face.

    Returns:
        Recording -> (k, 5): frame, left, top, width, height, by frame; -1 as the only frame for the whole recording,
        NaN for no face.

    Raises:
        DataError: no such file, a column is missing, a number is wrong, or rows contradict each other; names file and
            line.
    """
    table = read_table(path, ["recording"])
    header = "recording,frame,left,top,width,height"
    if missing := [name for name in header.split(",") if name not in table.columns]:
        raise DataError(f"{path} lacks the column {missing[0]!r}", f"Give the header `{header}`.")
    numbers = table[["frame", *_COLUMNS]].apply(pd.to_numeric, errors="coerce")
    names = {index: plain_text(name) for index, name in table["recording"].items()}
    rows: dict[str, dict[int, NDArray[np.float64]]] = {}
    for index, given, read in zip(
        table.index, table[["frame", *_COLUMNS]].itertuples(index=False), numbers.to_numpy(float), strict=True
    ):
        where = f"{path}, {place(path, index)}"
        recording = names[index]
        if recording is None:
            raise DataError(f"{where}: no recording is named", "Fill in its id.")
        for name, cell, value in zip(["frame", *_COLUMNS], given, read, strict=True):
            if not np.isfinite(value) and not pd.isna(cell):
                raise DataError(f"{where}: {name} {cell!r} is no number", "Give a number of pixels or frames.")
        frame = -1.0 if np.isnan(read[0]) else float(read[0])
        if frame < -1 or not frame.is_integer():
            raise DataError(f"{where}: frame {frame:g} is no frame", "Count frames from 0; -1 is the whole recording.")
        box = read[1:]
        if np.isnan(box).any() and not np.isnan(box).all():
            raise DataError(f"{where}: a part of the box is missing", "Fill in all four numbers, or none for no face.")
        if (box[2:] <= 0).any():
            raise DataError(f"{where}: the box is {box[2]:g} x {box[3]:g} pixels", "Give a positive width and height.")
        known = rows.setdefault(recording, {})
        if int(frame) in known or (known and (frame == -1) != (-1 in known)):
            raise DataError(
                f"{where}: {recording} has another row that contradicts this one",
                "Give one row for the whole recording, or one row per frame.",
            )
        known[int(frame)] = np.concatenate([[frame], box])
    return {name: np.stack([known[frame] for frame in sorted(known)]) for name, known in rows.items()}


def boxes_per_frame(rows: Boxes, frames: int) -> Boxes:
    """Spread the rows of one recording over its frames.

    Args:
        rows: (k, 5) as `read_boxes` gives them.
        frames: n, of the recording.

    Returns:
        (n, 4): linear between rows; NaN before the first and after the last, and next to a row without a face.
    """
    if rows[0, 0] == -1:
        return np.repeat(rows[:1, 1:], frames, axis=0)
    at = np.arange(frames)
    result = np.stack([np.interp(at, rows[:, 0], column, np.nan, np.nan) for column in rows[:, 1:].T], axis=1)
    # Interpolation towards NaN loses the given frame itself.
    exact = rows[rows[:, 0] < frames]
    result[exact[:, 0].astype(np.intp)] = exact[:, 1:]
    return result


def centre_box(height: int, width: int) -> Box:
    """The largest centred square of a picture."""
    side = min(height, width)
    return Box((width - side) / 2, (height - side) / 2, side, side)


def crop(frame: NDArray[np.uint8], box: Box, size: int, margin: float = 0.2) -> NDArray[np.uint8]:
    """Cut out the square around a box.

    Shrinking averages over areas, which keeps fine structure from turning into false patterns and is quick; enlarging
    is bilinear.

    Args:
        frame: (H, W, 3), uint8.
        box: in pixels; beyond the picture its edge is repeated.
        size: of the result.
        margin: added on each side, as a share of the box's longer side.

    Returns:
        (size, size, 3), uint8.

    Raises:
        DataError: the box lies outside the picture or is far too large for it.
    """
    import cv2

    height, width = frame.shape[:2]
    side = max(box.width, box.height) * (1 + 2 * margin)
    if not (np.isfinite(astuple(box)).all() and min(box.width, box.height) > 0 and margin > -0.5):
        raise ValueError(f"{box} with margin {margin:g} encloses nothing")
    inside = -box.width < box.left < width and -box.height < box.top < height
    if not inside or max(box.width, box.height) > _LARGEST * max(height, width):
        raise DataError(f"{box} does not fit into a picture of {width}x{height}", "Correct the box, in pixels.")
    pixels = max(1, round(side))
    left = round(box.left + box.width / 2 - side / 2)
    top = round(box.top + box.height / 2 - side / 2)
    rows, columns = (
        np.clip(np.arange(start, start + pixels), 0, length - 1) for start, length in ((top, height), (left, width))
    )
    # Only what is cut out is copied; repeated indices repeat the edge.
    square = frame[rows[0] : rows[-1] + 1][rows - rows[0]][:, columns]
    how = cv2.INTER_AREA if size < pixels else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (size, size), interpolation=how), dtype=np.uint8)


def _overlap(one: Box, other: Box) -> float:
    across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    common = max(0.0, across) * max(0.0, down)
    return common / (one.width * one.height + other.width * other.height - common)


def _smooth(boxes: Boxes) -> Boxes:
    """Median of three against single outliers, then a weighted mean of three against jitter; (k, 4)."""
    for weights in (None, np.array([0.25, 0.5, 0.25])):
        padded = np.concatenate([boxes[:1], boxes, boxes[-1:]])
        triples = np.stack([padded[:-2], padded[1:-1], padded[2:]])
        boxes = np.median(triples, axis=0) if weights is None else np.tensordot(weights, triples, axes=1)
    return boxes
