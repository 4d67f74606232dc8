"""Face crops from pictures: one face is followed from frame to frame and cut out."""

import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from mtpkdot.data.media.boxes import Box, Boxes
from mtpkdot.data.media.detectors import Detector
from mtpkdot.errors import DataError

Frame = NDArray[np.uint8]
# A picture, or a function that returns it, which is called only for pictures that are examined.
Picture = Frame | Callable[[], Frame]

# A box this many times longer than the picture is an error, and its crop would fill the memory.
_LARGEST = 4.0
# The smoothed box of a detection depends on so many detections before it, and as many after it.
_REACH = 2


class _Looks:
    """Detection in every n-th picture of one recording, near the last position of the face."""

    def __init__(self, detector: Detector, every: int = 5, hold: int = 15, confirm: int = 2) -> None:
        if every < 1 or hold < 0 or confirm < 1:
            raise ValueError(
                f"every and confirm must be at least 1, and hold at least 0, not {every}, {confirm} and {hold}"
            )
        self.every, self.hold, self.confirm = every, hold, confirm
        self._detector = detector
        self._frames = 0
        self._last: Box | None = None
        # Detections of the followed face: frame and box; old ones are dropped, and their number is kept.
        self._finds: list[tuple[int, NDArray[np.float64]]] = []
        self._length = 0

    @property
    def _apart(self) -> int:
        """Most frames between two detections of the same face: `hold` of them may be lost in between."""
        return max(self.hold + 1, self.every)

    @property
    def _enough(self) -> int:
        """Number of detections that make a face."""
        return min(self.confirm, -(-self._frames // self.every))

    def _look(self, picture: Picture) -> NDArray[np.float64] | None:
        """Return the face's box (5,) in a picture."""
        found = self._detector.detect(picture() if callable(picture) else picture, self._last)
        if found is None:
            return None
        self._last = found
        return np.array([found.left, found.top, found.width, found.height, found.roll])

    def _keep(self, frame: int, find: NDArray[np.float64]) -> None:
        self._finds.append((frame, find))
        self._length += 1

    def _forget(self) -> None:
        self._finds, self._length = [], 0


class SmoothSearch(_Looks):
    """Search for the face in every frame of a recording, with detections before and after a frame.

    Only some frames are examined. Between two detections the box moves in a straight line; it is smoothed over
    neighbouring detections. A face ends halfway between the last examined frame with it and the first without. The box
    of a frame is known a few examined frames later; no picture is kept.

    Args:
        detector: finds a face in one picture.
        every: look at every so many frames.
        hold: a face that is lost for at most so many frames has been there all the while.
        confirm: finds without such a loss that make a face; a single one is mostly a mistake. A recording with fewer
            looks needs all of them.

    Example:
        >>> from collections import deque
        >>> def faces(pictures, search):
        ...     waiting = deque()
        ...     for picture in pictures:
        ...         waiting.append(picture)
        ...         yield from ((waiting.popleft(), box) for box in search.update(picture))
        ...     yield from zip(waiting, search.finish())
    """

    def __init__(self, detector: Detector, every: int = 5, hold: int = 15, confirm: int = 2) -> None:
        super().__init__(detector, every, hold, confirm)
        self._decided = 0

    def update(self, picture: Picture) -> list[Box | None]:
        """Process the next frame.

        Args:
            picture: (H, W, 3), uint8, RGB, or a function that returns it.

        Returns:
            Boxes of the frames that are decided by now and were not returned before, in their order; None without a
            face.
        """
        frame = self._frames
        self._frames += 1
        if frame % self.every:
            return []
        find = self._look(picture)
        half = (self.every - 1) // 2
        if find is not None:
            boxes = [] if self._finds else self._absent(frame - half if frame else 0)
            self._keep(frame, find)
            if self._length < self.confirm:
                return boxes
            if len(self._finds) > _REACH:
                boxes += self._present(self._finds[-1 - _REACH][0] + 1)
            del self._finds[: -2 * _REACH - 1]
            return boxes
        if not self._finds:
            return self._absent(frame + 1)
        last = self._finds[-1][0]
        if frame + self.every - last <= self._apart:
            return []
        return self._end(last + half + 1) + self._absent(frame + 1)

    def finish(self) -> list[Box | None]:
        """Return the boxes of all undecided frames, and end the recording."""
        boxes: list[Box | None] = []
        if self._finds:
            last = self._finds[-1][0]
            seen_last = last + self.every >= self._frames
            boxes = self._end(self._frames if seen_last else last + (self.every - 1) // 2 + 1)
        return boxes + self._absent(self._frames)

    def _end(self, stop: int) -> list[Box | None]:
        """Return the rest of a face that ends before frame `stop`; empty if it was detected too seldom."""
        boxes = self._present(stop) if self._length >= self._enough else self._absent(stop)
        self._forget()
        return boxes

    def _absent(self, stop: int) -> list[Box | None]:
        count, self._decided = stop - self._decided, stop
        return [None] * count

    def _present(self, stop: int) -> list[Box | None]:
        frames = np.arange(self._decided, stop)
        self._decided = stop
        at = [frame for frame, _ in self._finds]
        columns = _smooth(np.stack([find for _, find in self._finds])).T
        return [Box(*row) for row in np.stack([np.interp(frames, at, column) for column in columns], axis=1).tolist()]


class CausalSearch(_Looks):
    """Search for the face in every frame of a stream, with the detections up to a frame alone.

    The box is the median of the last three detections and stays unchanged until the next, so it follows a moving face
    with a delay of about one examined frame. It begins with the detection that makes a face, and ends `hold` frames
    after the last one.

    Args:
        detector: finds a face in one picture.
        every: look at every so many frames.
        hold: a face that is lost for at most so many frames has been there all the while.
        confirm: finds without such a loss that make a face. At the first looks of a stream all of them must be finds.

    Example:
        >>> def faces(pictures, search):
        ...     return [search.update(picture) for picture in pictures]
    """

    def update(self, picture: Picture) -> Box | None:
        """Process the next frame.

        Args:
            picture: (H, W, 3), uint8, RGB, or a function that returns it.

        Returns:
            The face's box in this frame; None without a face.
        """
        frame = self._frames
        self._frames += 1
        if self._finds and frame - self._finds[-1][0] > self._apart:
            self._forget()
        if frame % self.every == 0 and (find := self._look(picture)) is not None:
            self._keep(frame, find)
            del self._finds[:-3]
        if not self._finds or self._length < self._enough or frame - self._finds[-1][0] >= self._apart:
            return None
        return Box(*np.median([find for _, find in self._finds], axis=0).tolist())


def find_boxes(
    frames: Iterable[Picture], detector: Detector, every: int = 5, hold: int = 15, confirm: int = 2
) -> Boxes:
    """Return the face's box in every frame of one recording, as `SmoothSearch` finds it.

    Args:
        frames: pictures (H, W, 3), uint8, RGB, or functions that return one, in their order. They are not kept.
        detector: finds a face in one picture.
        every: see `SmoothSearch`.
        hold: see `SmoothSearch`.
        confirm: see `SmoothSearch`.

    Returns:
        (n, 4): left, top, width, height in pixels per frame; NaN where there is no face.
    """
    search = SmoothSearch(detector, every, hold, confirm)
    boxes = [box for frame in frames for box in search.update(frame)] + search.finish()
    rows = [[np.nan] * 4 if box is None else [box.left, box.top, box.width, box.height] for box in boxes]
    return np.array(rows).reshape(-1, 4)


def centre_box(height: int, width: int) -> Box:
    """Return the largest centred square of a picture."""
    side = min(height, width)
    return Box((width - side) / 2, (height - side) / 2, side, side)


def crop(frame: Frame, box: Box, size: int, margin: float = 0.2, upright: bool = False) -> Frame:
    """Return the square around a box.

    Shrinking averages over areas, which is fast and avoids aliasing; enlarging is bilinear.

    Args:
        frame: (H, W, 3), uint8.
        box: box in pixels; beyond the picture its edge is repeated.
        size: side of the result in pixels.
        margin: margin on each side, as a share of the box's longer side.
        upright: turn the picture around the box's centre by its roll, so that a tilted face stands upright.

    Returns:
        (size, size, 3), uint8.

    Raises:
        DataError: the box lies outside the picture or is far too large for it.
    """
    import cv2

    height, width = frame.shape[:2]
    numbers = (box.left, box.top, box.width, box.height, box.roll)
    if not (np.isfinite(numbers).all() and min(box.width, box.height) > 0 and margin > -0.5):
        raise ValueError(f"{box} with margin {margin:g} encloses nothing")
    inside = -box.width < box.left < width and -box.height < box.top < height
    if not inside or max(box.width, box.height) > _LARGEST * max(height, width):
        raise DataError(f"{box} does not fit into a picture of {width}x{height}", "Correct the box, in pixels.")
    side = max(box.width, box.height) * (1 + 2 * margin)
    pixels = max(1, round(side))
    x, y = box.left + box.width / 2, box.top + box.height / 2
    turned = upright and box.roll
    square = (
        _turned(frame, x, y=y, pixels=pixels, roll=box.roll)
        if turned
        else _square(frame, x - side / 2, y - side / 2, pixels)
    )
    how = cv2.INTER_AREA if size < pixels else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (size, size), interpolation=how), dtype=np.uint8)


def _square(frame: Frame, left: float, top: float, pixels: int) -> Frame:
    """Return a square of the frame, a view if it lies inside; the edge is repeated beyond."""
    import cv2

    spans, borders = [], []
    for start, length in ((round(top), frame.shape[0]), (round(left), frame.shape[1])):
        # A square completely outside is filled with the nearest edge.
        first, stop = min(max(start, 0), length - 1), max(min(start + pixels, length), 1)
        before = min(max(-start, 0), pixels - (stop - first))
        spans.append(slice(first, stop))
        borders.append((before, pixels - (stop - first) - before))
    part = frame[spans[0], spans[1]]
    if not any(map(any, borders)):
        return part
    (above, below), (before, after) = borders
    return np.asarray(cv2.copyMakeBorder(part, above, below, before, after, cv2.BORDER_REPLICATE), np.uint8)


def _turned(frame: Frame, x: float, y: float, pixels: int, roll: float) -> Frame:
    """Return a square around (x, y), rotated by `roll` degrees counter-clockwise."""
    import cv2

    reach = math.ceil(pixels * math.sqrt(2)) + 2
    left, top = round(x - reach / 2), round(y - reach / 2)
    # The centre of a pixel lies half a pixel from its edge.
    centre = x - left - 0.5, y - top - 0.5
    matrix = np.asarray(cv2.getRotationMatrix2D(centre, roll, 1.0), np.float64)
    matrix[:, 2] += (pixels - 1) / 2 - np.array(centre)
    around = _square(frame, left, top, reach)
    return np.asarray(cv2.warpAffine(around, matrix, (pixels, pixels), flags=cv2.INTER_LINEAR), np.uint8)


def _smooth(boxes: Boxes) -> Boxes:
    """Return boxes (k, 5) after a median of three against outliers and a weighted mean of three against jitter."""
    for weights in (None, np.array([0.25, 0.5, 0.25])):
        padded = np.concatenate([boxes[:1], boxes, boxes[-1:]])
        triples = np.stack([padded[:-2], padded[1:-1], padded[2:]])
        boxes = np.median(triples, axis=0) if weights is None else np.tensordot(weights, triples, axes=1)
    return boxes
