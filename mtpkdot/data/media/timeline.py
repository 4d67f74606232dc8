"""Common time line of annotated frames, frames of a video, and seconds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]

USUAL_RATE = 30.0
"""Frames per second, where nothing says it."""

# Frames by which a video may be shorter or longer without a remark: a number, or a share.
_FEW, _SHARE = 3, 0.005
# Usual frame rates of videos.
_RATES = np.array([10, 12, 12.5, 15, 20, 24 / 1.001, 24, 25, 30 / 1.001, 30, 48, 50, 60 / 1.001, 60])
_RATE_TOLERANCE = 0.0003


@dataclass(frozen=True)
class Alignment:
    """Times of a recording's numbered frames.

    Attributes:
        times: (n,) seconds.
        shown: number of frames that the video has.
        remark: difference of the counts and its handling; None if they agree.
        unclear: True if the counts differ by more than a tolerance that no usual rate explains.
    """

    times: Times
    shown: int
    remark: str | None = None
    unclear: bool = False


def align(count: int, whole: bool, video: Times | None) -> Alignment:
    """Return the times of numbered frames in a video whose number of frames or rate may differ.

    If the counts agree within a few frames, frames are matched by number. If not, and the numbered frames would have a
    usual rate over the duration of the video, it was encoded again at another rate, and each frame lies at its share of
    the duration. Otherwise a part of the video was cut off or is not annotated, and frames are matched by number.

    Args:
        count: number n of frames.
        whole: True if they reach to the end of the video; if False, a video may have more frames.
        video: (F,) time of every frame of the video in seconds; None without a video.

    Returns:
        Their times, extrapolated at the rate of the video beyond its end.

    Example:
        >>> float(align(60, True, np.arange(50) / 25).times[30])  # 60 frames at 30 per second, encoded again at 25
        1.0
    """
    if video is None or len(video) < 2:
        return Alignment(np.arange(count, dtype=np.float64) / USUAL_RATE, 0)
    frames, begin = len(video), float(video[0])
    step = frame_step(video)
    duration = float(video[-1]) + step - begin
    differ = abs(frames - count)
    rate = count / duration
    usual = float(_RATES[np.argmin(np.abs(_RATES - rate))])
    # Either count may be wrong by a frame, or by half of one.
    tolerance = _RATE_TOLERANCE + 1.5 / max(1, min(count, frames))
    if differ > _FEW and (whole or count > frames) and abs(rate / usual - 1) < tolerance:
        remark = (
            f"has {frames} frames in {duration:.2f} s for {count} numbered ones, which are {usual:.5g} a second over "
            "its duration: taken as encoded again at another rate, with each frame at its share of the duration"
        )
        return Alignment(begin + np.arange(count, dtype=np.float64) * (duration / count), count, remark)
    beyond = np.arange(1, max(0, count - frames) + 1) * step + video[-1]
    times = np.concatenate([video, beyond])[:count]
    if frames == count or (frames > count and not whole):
        return Alignment(times, frames)
    more = f"{differ * step:.2f} s {'after' if frames > count else 'before'} the last of them"
    remark = f"has {frames} frames for {count} numbered ones and ends {more}: taken by number"
    return Alignment(times, frames, remark, unclear=differ > max(_FEW, _SHARE * count))


def frame_step(times: Times) -> float:
    """Return the median seconds from one frame to the next, of times (F,) with F >= 2."""
    return float(np.median(np.diff(times)))


def shortfall(times: Times, start: float, stop: float, tolerance: float) -> tuple[str, float] | None:
    """Return why a recording does not cover a window of time.

    Args:
        times: (F,) time of every frame in seconds, ascending.
        start: start of the window in seconds.
        stop: end of the window in seconds.
        tolerance: seconds that may be missing at either end.

    Returns:
        `("start", second)` if the recording begins too late, `("stop", second)` if it ends too early, and
        `("none", start)` if no frame lies in the window; None if it is covered.
    """
    step = frame_step(times) if len(times) > 1 else tolerance
    end = float(times[-1]) + step
    if end + tolerance < stop:
        return "stop", end
    if times[0] - tolerance > start:
        return "start", float(times[0])
    inside = (times >= start - 1e-6) & (times < stop - 1e-6)
    return None if inside.any() else ("none", start)
