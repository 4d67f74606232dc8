"""Boxes in pictures, and the user's own file of boxes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtpkdot.data.tables.reading import place, plain_text, read_table
from mtpkdot.errors import DataError

Boxes = NDArray[np.float64]

_COLUMNS = ["left", "top", "width", "height"]


@dataclass(frozen=True)
class Box:
    """Box in a picture, in pixels; it may reach beyond the picture.

    Attributes:
        left: x of the left edge.
        top: y of the upper edge.
        width: size along x.
        height: size along y.
        roll: tilt of the face in degrees, clockwise as seen; 0 if unknown.
    """

    left: float
    top: float
    width: float
    height: float
    roll: float = 0.0

    def overlap(self, other: "Box") -> float:
        """Return the intersection over the union of two boxes, from 0 to 1."""
        across = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        down = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        common = max(0.0, across) * max(0.0, down)
        return common / (self.width * self.height + other.width * other.height - common)


def read_boxes(path: Path) -> dict[str, Boxes]:
    """Return the user's face boxes of a file; `box_at` looks one up.

    Args:
        path: CSV or Parquet with the columns recording, frame, left, top, width, height. `frame` counts from 0; empty
            or -1 stands for the whole recording. A row with four empty numbers stands for no face.

    Returns:
        Boxes (k, 5) by recording: frame, left, top, width, height, sorted by frame; -1 as the only frame for the whole
        recording, NaN for no face.

    Raises:
        DataError: the file or a column is missing, a number is wrong, or rows contradict each other; the message names
            file and line.
    """
    table = read_table(path, ["recording"])
    header = "recording,frame,left,top,width,height"
    if missing := [name for name in header.split(",") if name not in table.columns]:
        raise DataError(f"{path} lacks the column {missing[0]!r}", f"Give the header `{header}`.")
    numbers = table[["frame", *_COLUMNS]].apply(pd.to_numeric, errors="coerce")
    names = {index: plain_text(name) for index, name in table["recording"].items()}
    boxes: dict[str, dict[int, NDArray[np.float64]]] = {}
    for index, given, read in zip(
        table.index, table[["frame", *_COLUMNS]].itertuples(index=False), numbers.to_numpy(float), strict=True
    ):
        where = f"{path}, {place(path, index)}"
        recording = names[index]
        if recording is None:
            raise DataError(f"{where}: no recording is named", "Fill in its id.")
        for name, cell, value in zip(["frame", *_COLUMNS], given, read, strict=True):
            if not np.isfinite(value) and not pd.isna(cell):
                raise DataError(f"{where}: {name} {cell!r} is not a number", "Give a number of pixels or frames.")
        frame = -1.0 if np.isnan(read[0]) else float(read[0])
        if frame < -1 or not frame.is_integer():
            raise DataError(
                f"{where}: frame {frame:g} is not the number of a frame",
                "Count frames from 0; -1 is the whole recording.",
            )
        box = read[1:]
        if np.isnan(box).any() and not np.isnan(box).all():
            raise DataError(f"{where}: a part of the box is missing", "Fill in all four numbers, or none for no face.")
        if (box[2:] <= 0).any():
            raise DataError(f"{where}: the box is {box[2]:g} x {box[3]:g} pixels", "Give a positive width and height.")
        known = boxes.setdefault(recording, {})
        if int(frame) in known or (known and (frame == -1) != (-1 in known)):
            raise DataError(
                f"{where}: {recording} has another row that contradicts this one",
                "Give one row for the whole recording, or one row per frame.",
            )
        known[int(frame)] = np.concatenate([[frame], box])
    return {name: np.stack([known[frame] for frame in sorted(known)]) for name, known in boxes.items()}


def box_at(boxes: Boxes, frame: int) -> Box | None:
    """Return the user's box in a frame of a recording.

    Args:
        boxes: (k, 5) boxes of `read_boxes`.
        frame: number of the frame, from 0.

    Returns:
        The box, interpolated between rows; None before the first and after the last, and next to a row without a face.
    """
    after = 0 if boxes[0, 0] == -1 else int(np.searchsorted(boxes[:, 0], frame))
    if after == len(boxes):
        return None
    number, *box = boxes[after]
    if number not in (-1, frame):
        if after == 0:
            return None
        before = boxes[after - 1]
        box = (boxes[after, 1:] - before[1:]) / (number - before[0]) * (frame - before[0]) + before[1:]
    return None if np.isnan(box[0]) else Box(*map(float, box))
