"""Windows of steps that are cut from recordings, and the way back from values per step to frames.

A step is a clip of `frames` pictures, a window a number of steps. Recordings and streams are cut alike, so that a model
sees the same windows in training and in use.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Frames = npt.NDArray[np.int32]
Times = npt.NDArray[np.float64]
MissingFrames = Literal["repeat", "mask"]


@dataclass(frozen=True)
class Cut:
    """Windows of one recording: W of them, or one without the leading dimension.

    Attributes:
        frames: (W, C, F) int32, frame of each picture of a step; -1 for none.
        inside: (W, C) bool, True for steps that begin before the recording ends.
        middle: (W, C) seconds, halfway between the first and the last frame of a step.
    """

    frames: Frames
    inside: BoolArray
    middle: Times

    @property
    def mask(self) -> BoolArray:
        """Steps (W, C) bool with a picture."""
        return np.asarray(self.inside & (self.frames >= 0).any(axis=-1))

    def starts(self, seconds: float, rate: float, begin: float = 0.0) -> IntArray:
        """Return the first sample (W, C) of the sound or signal around each step; it may lie beyond either end.

        Args:
            seconds: length of a piece in seconds; its middle is that of the step.
            rate: samples per second.
            begin: time of the first sample in seconds.
        """
        return np.round((self.middle - seconds / 2 - begin) * rate).astype(np.int64)

    def covered(self, samples: int, rate: float, begin: float = 0.0) -> BoolArray:
        """Return the steps (W, C) whose middle lies within a sound or signal of `samples` samples; see `starts`."""
        sample = (self.middle - begin) * rate
        return np.asarray(self.inside & (sample >= 0) & (sample < samples))


@dataclass(frozen=True)
class Windows:
    """Division of recordings into windows.

    Step s of a recording covers its frames `s * span` to `(s + 1) * span - 1` and shows every `frame_step`-th of them;
    window w begins at step `w * stride`. The last window may reach beyond the end of the recording.

    Args:
        frames: pictures of a step, F.
        frame_step: frames from one picture to the next.
        clips: steps of a window, C.
        hop: steps from the beginning of one window to that of the next; None for `clips`, windows that do not overlap.
        missing_frames: replacement of absent frames: the one before (at the beginning, the first existing one), or
            none, which masks steps without any frame.

    Example:
        >>> windows = Windows(frames=2, clips=3)
        >>> windows.cut(np.arange(8) / 25, np.ones(8, dtype=bool)).frames.tolist()
        [[[0, 1], [2, 3], [4, 5]], [[6, 7], [-1, -1], [-1, -1]]]
    """

    frames: int = 8
    frame_step: int = 1
    clips: int = 16
    hop: int | None = None
    missing_frames: MissingFrames = "repeat"

    def __post_init__(self) -> None:
        if min(self.frames, self.frame_step, self.clips) < 1:
            raise ValueError("frames, frame_step and clips must be 1 or more")
        if not 1 <= self.stride <= self.clips:
            raise ValueError(
                f"hop must be 1 to {self.clips} (clips), not {self.hop}: steps between windows would be lost"
            )

    @property
    def span(self) -> int:
        """Number of frames that a step covers."""
        return self.frames * self.frame_step

    @property
    def stride(self) -> int:
        """Number of steps from one window to the next."""
        return self.clips if self.hop is None else self.hop

    def count(self, frames: int) -> int:
        """Return the number of windows of a recording with this number of frames."""
        steps = -(-frames // self.span)
        return 0 if steps == 0 else 1 + max(0, -(-(steps - self.clips) // self.stride))

    def steps(self, frames: int) -> IntArray:
        """Return the steps (W, C) of every window of a recording, counted within the recording."""
        return np.arange(self.count(frames))[:, None] * self.stride + np.arange(self.clips)

    def cut(self, times: Times, present: BoolArray) -> Cut:
        """Cut a whole recording.

        Args:
            times: (N,) time of every frame in seconds.
            present: (N,) the frames that exist.

        Returns:
            Its windows.
        """
        shown = shown_frames(present, self.missing_frames == "repeat")
        return self._cut(self.steps(len(times)) * self.span, times, shown)

    def stream(self, frames: Iterable[tuple[float, bool]]) -> Iterator[Cut]:
        """Cut a recording as a stream.

        A window is returned with its last frame, and those at the end once the frames end. If absent frames repeat
        others, windows wait for the first existing frame. Only the frames of a window are kept.

        Args:
            frames: time in seconds of every frame, and whether it exists (a face was found).

        Yields:
            The windows of `cut`, one by one: frames (C, F), inside (C,) and middle (C,).
        """
        repeat, need = self.missing_frames == "repeat", self.clips * self.span
        begin = np.arange(self.clips) * self.span
        times: list[float] = []
        shown: list[int] = []
        last, seen, given = -1, 0, 0
        for time, present in frames:
            if repeat and present and last < 0:
                shown = [seen] * len(shown)
            last = seen if present else last
            times.append(time)
            shown.append(seen if present else last if repeat else -1)
            seen += 1
            while len(times) >= need and (last >= 0 or not repeat):
                yield self._cut(begin, np.array(times), np.array(shown, dtype=np.int32))
                given += 1
                del times[: self.stride * self.span], shown[: self.stride * self.span]
        for _ in range(given, self.count(seen)):
            yield self._cut(begin, np.array(times), np.array(shown, dtype=np.int32))
            del times[: self.stride * self.span], shown[: self.stride * self.span]

    def _cut(self, begin: IntArray, times: Times, shown: Frames) -> Cut:
        """Cut the steps that begin at the frames `begin` (..., C), from times and shown frames (N,)."""
        last = len(times) - 1
        inside = begin <= last
        # The last step of a recording repeats its last frame.
        wanted = np.minimum(begin[..., None] + np.arange(0, self.span, self.frame_step), last)
        frames = np.where(inside[..., None], _bridged(shown[wanted]), -1).astype(np.int32)
        middle = (times[np.minimum(begin, last)] + times[np.minimum(begin + self.span - 1, last)]) / 2
        return Cut(frames, inside, middle)

    def step_means(self, values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], BoolArray]:
        """Return the means (W, C, K) float32 of values (N, K) over the frames of each step, and the steps with one.

        A frame counts where all its values are finite; the mean of a step without such a frame is NaN.
        """
        known = np.asarray(np.isfinite(values).all(axis=1))
        steps = self.steps(len(values))
        total = int(steps.max(initial=-1)) + 1
        step = np.arange(len(values)) // self.span
        sums = [np.bincount(step, np.where(known, column, 0), total) for column in values.T]
        valid = np.bincount(step, known, total)
        means = (np.stack(sums, axis=1) / np.maximum(valid, 1)[:, None]).astype(np.float32)
        means[valid == 0] = np.nan
        return means[steps], (valid > 0)[steps]

    def frames_of(self, step: IntArray, count: IntArray) -> tuple[IntArray, IntArray]:
        """Return the frames of steps; a recording may end within a step, or before it.

        Args:
            step: (m,) steps, counted within their recordings.
            count: (m,) number of frames of the recording of each.

        Returns:
            The frames (n,), counted within their recordings, and for each the position (n,) of its step in `step`.
        """
        begin = step * self.span
        frames = np.clip(count - begin, 0, self.span)
        source = np.repeat(np.arange(len(step)), frames)
        within = np.arange(len(source)) - np.repeat(np.cumsum(frames) - frames, frames)
        return begin[source] + within, source

    def per_frame(self, values: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
        """Return the values (N, K) of the frames of a recording, from values (W, C, K) of its steps.

        A frame has the value of its step, or the mean over all windows that hold it.

        Args:
            values: values of every step of every window of `steps(count)`.
            count: number N of frames of the recording.
        """
        steps = self.steps(count).ravel()
        frame, source = self.frames_of(steps, np.full(len(steps), count))
        first, means = mean_of_each(frame, values.reshape(-1, values.shape[-1])[source])
        found = np.empty((count, means.shape[1]), dtype=values.dtype)
        found[frame[first]] = means
        return found


def mean_of_each(key: IntArray, values: npt.NDArray[Any]) -> tuple[IntArray, npt.NDArray[Any]]:
    """Average the values of equal keys.

    Args:
        key: (n,) keys.
        values: (n, K).

    Returns:
        The position (m,) at which each key comes first, in this order, and the means (m, K) over its values.

    Example:
        >>> mean_of_each(np.array([7, 3, 7]), np.array([[1.0], [5.0], [2.0]]))
        (array([0, 1]), array([[1.5],
               [5. ]]))
    """
    _, first, place, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    if len(first) == len(key):
        return np.arange(len(key)), values
    order = np.argsort(first)
    sums = np.zeros((len(first), values.shape[1]))
    np.add.at(sums, place, values)
    return first[order], (sums / counts[:, None])[order].astype(values.dtype)


def shown_frames(present: BoolArray, repeat: bool) -> Frames:
    """Return the frame (N,) that is shown for every frame of a recording, -1 for none.

    Args:
        present: (N,) the frames that exist.
        repeat: show the nearest earlier frame for an absent one, or the first one at the beginning.
    """
    positions = np.where(present, np.arange(len(present)), -1)
    if repeat and present.any():
        positions = np.maximum.accumulate(positions)
        positions[positions < 0] = int(np.argmax(present))
    return positions.astype(np.int32)


def _bridged(frames: Frames) -> Frames:
    """Return frames (..., F), absent ones replaced by the nearest earlier one of their step, or its first."""
    filled = frames.copy()
    for position in range(1, frames.shape[-1]):
        gap = filled[..., position] < 0
        filled[..., position] = np.where(gap, filled[..., position - 1], filled[..., position])
    for position in reversed(range(frames.shape[-1] - 1)):
        gap = filled[..., position] < 0
        filled[..., position] = np.where(gap, filled[..., position + 1], filled[..., position])
    return filled


@dataclass(frozen=True)
class Excerpt:
    """Part of a recording between two times, shown by evenly spaced pictures.

    Args:
        start: beginning in seconds.
        stop: end in seconds.
        frames: number F of pictures.
        missing_frames: see `Windows`.

    Example:
        >>> Excerpt(1.0, 2.0, 3).pictures(np.arange(75) / 25, np.ones(75, dtype=bool)).tolist()
        [25, 37, 49]
    """

    start: float
    stop: float
    frames: int
    missing_frames: MissingFrames = "repeat"

    def __post_init__(self) -> None:
        if self.frames < 1 or not 0 <= self.start < self.stop:
            raise ValueError(
                f"frames must be 1 or more, and 0 <= start < stop, not {self.frames}, {self.start} and {self.stop}"
            )

    def pictures(self, times: Times, present: BoolArray, among: IntArray | None = None) -> Frames:
        """Return the frames (F,) to show, -1 for none.

        Args:
            times: (N,) time of every frame in seconds.
            present: (N,) the frames that exist.
            among: frames to select from; None for those between `start` and `stop`.
        """
        if among is None:
            among = np.flatnonzero((times >= self.start - 1e-6) & (times < self.stop - 1e-6))
        wanted = among[np.round(np.linspace(0, len(among) - 1, self.frames)).astype(np.int64)]
        return shown_frames(present, self.missing_frames == "repeat")[wanted]

    def samples(self, rate: float) -> int:
        """Return the number of samples of a signal with this rate per second."""
        return round((self.stop - self.start) * rate)

    def starts(self, nominal: float, begin: Times, rate: Times, available: Times) -> IntArray:
        """Return the first sample (n,) of the signals of some recordings, -1 where there is no signal.

        Args:
            nominal: samples per second of all signals, which decides the number of `samples`.
            begin: (n,) time of the first sample in seconds.
            rate: (n,) samples per second by the time stamps.
            available: (n,) samples of each recording.
        """
        first = np.round((self.start - begin) * rate).astype(np.int64)
        start = np.clip(first, 0, np.maximum(available - self.samples(nominal), 0))
        return np.where(available > 0, start, -1).astype(np.int64)

    def lacks(
        self, nominal: float, begin: float, rate: float, available: float, slack: int
    ) -> list[tuple[Literal["start", "stop"], float]]:
        """Return the ends of the excerpt that a signal does not reach, each with the second at which the signal ends.

        Args:
            nominal: see `starts`.
            begin: see `starts`, of one recording.
            rate: see `starts`, of one recording.
            available: see `starts`, of one recording.
            slack: samples that may be missing at either end.
        """
        first = round((self.start - begin) * rate)
        found: list[tuple[Literal["start", "stop"], float]] = []
        if available and first + self.samples(nominal) > available + slack:
            found.append(("stop", begin + available / rate))
        if available and first < -slack:
            found.append(("start", begin))
        return found
