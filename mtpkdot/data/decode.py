"""The only place that decodes video and sound. It imports PyAV, so only code that reads media imports it.

Times of pictures and sound share one time line, in seconds. Its zero is the file's own zero; formats that count from an
arbitrary clock (MPEG program and transport streams) begin at 0 with their earliest stream.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from mtpkdot.errors import DecodeError
from mtpkdot.limits import MAX_PIXELS, check_pixels, most_pixels

# A file may end this much before its header says before it counts as cut off: seconds, and share of its length.
_SLACK, _SLACK_SHARE = 0.5, 0.01
# Time stamps of sound are this exact (s): some formats round them, and every correction is audible.
_JITTER = 0.01
# A longer hole in the sound (s) is a fault of its time stamps, and would fill the memory with silence.
_LONGEST_GAP = 3600.0


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself.

    Attributes:
        frames: number of frames by the header, which may be wrong; None where the format keeps none.
        average_rate: frames per second, None where unknown.
        width: of the pictures as `iter_frames` gives them, in pixels.
        height: likewise.
        duration: seconds by the header, None where unknown.
        sound_rate: samples per second, None without sound.
    """

    frames: int | None
    average_rate: float | None
    width: int
    height: int
    duration: float | None
    sound_rate: int | None

    @property
    def has_sound(self) -> bool:
        """Whether there is a sound stream."""
        return self.sound_rate is not None


def video_info(path: Path) -> VideoInfo:
    """What a video file says of itself; its first frame is decoded for the size.

    Raises:
        DecodeError: as `iter_frames`.
    """
    with _opened(path) as container:
        stream = _video(container, path)
        rate = stream.average_rate
        frames, duration = stream.frames, container.duration
        sound_rate = container.streams.audio[0].rate if container.streams.audio else None
    _, first = next(iter_frames(path))
    return VideoInfo(
        frames=frames or None,
        average_rate=float(rate) if rate else None,
        width=first.shape[1],
        height=first.shape[0],
        duration=None if duration is None else duration / av.time_base,
        sound_rate=sound_rate,
    )


@dataclass(frozen=True)
class LazyFrame:
    """A decoded frame whose picture is converted when it is asked for.

    Attributes:
        time: in seconds.
    """

    time: float
    _frame: av.VideoFrame
    _convert: VideoReformatter  # one for all frames: a frame's own starts threads for every picture

    def rgb(self) -> NDArray[np.uint8]:
        """Return the picture (H, W, 3), uint8, RGB, upright; its rows may lie apart in memory."""
        picture = cast(NDArray[np.uint8], self._convert.reformat(self._frame, format="rgb24").to_ndarray())
        turns = round(self._frame.rotation / 90)
        return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def iter_frames(path: Path, threads: int = 1) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Every frame of a video in the order of presentation; the memory needed does not depend on its length.

    Args:
        path: a video file.
        threads: of the decoder; 0 takes all cores. One is right where many files are read in parallel.

    Yields:
        Time in seconds, strictly increasing, and the picture (H, W, 3), uint8, RGB, turned upright as the file's
        rotation says. Missing times follow from the average rate. Pixels that are not square stay as they are stored.

    Raises:
        DecodeError: no such file, empty, not a media file, no video in it, damaged, or shorter than its header says
            (an MPEG program or transport stream has no such header: cut at a packet's end it is just shorter).
    """
    for frame in iter_lazy_frames(path, threads):
        yield frame.time, np.ascontiguousarray(frame.rgb())


def iter_lazy_frames(path: Path, threads: int = 1) -> Iterator[LazyFrame]:
    """Return every frame of a video as `iter_frames` does, converted only where its picture is asked for.

    Args:
        path: see `iter_frames`.
        threads: likewise.

    Raises:
        DecodeError: as `iter_frames`.
    """
    count = 0
    with _opened(path) as container:
        stream = _video(container, path)
        stream.codec_context.thread_count = threads
        if threads != 1:
            stream.thread_type = "AUTO"
        step = 1 / float(stream.average_rate or 25)
        origin, previous = _origin(container), None
        convert = VideoReformatter()
        try:
            for packet in _packets(container):
                if packet.stream.index != stream.index:
                    continue
                for frame in stream.decode(packet):
                    time = _next_time(frame.pts, frame.time_base, origin, previous, step)
                    yield LazyFrame(time, frame, convert)
                    count, previous = count + 1, time
        except (av.FFmpegError, _CutOff) as error:
            raise _breaks(path, count, error) from error
    if not count:
        raise _broken(path, "its video holds no frame that can be decoded")


def frame_times(path: Path) -> NDArray[np.float64]:
    """Time of every frame of a video in seconds, as `iter_frames` tells them, without decoding a picture.

    Raises:
        DecodeError: as `iter_frames`.
    """
    stamps: list[tuple[int | None, Fraction | None]] = []
    with _opened(path) as container:
        stream = _video(container, path)
        step = 1 / float(stream.average_rate or 25)
        origin = _origin(container)
        try:
            for packet in _packets(container):
                # An edit list may begin a video later than its packets, which are then decoded and not shown.
                if packet.stream.index == stream.index and packet.size and not packet.is_discard:
                    stamps.append((packet.pts, packet.time_base))
        except (av.FFmpegError, _CutOff) as error:
            raise _breaks(path, len(stamps), error) from error
    if not stamps:
        raise _broken(path, "its video holds no frame that can be decoded")
    if all(pts is not None for pts, _ in stamps):
        # Packets come in the order of decoding, frames are shown in the order of their stamps.
        stamps.sort(key=lambda stamp: stamp[0] or 0)
    times: list[float] = []
    for pts, base in stamps:
        times.append(_next_time(pts, base, origin, times[-1] if times else None, step))
    return np.array(times)


def read_sound(path: Path, rate: int) -> NDArray[np.float32]:
    """Sound of a media file on the time line of its pictures: sample i is heard at i / rate seconds.

    A late start and gaps are silence, what lies before 0 is cut off, so that sound and pictures never drift apart by
    more than 10 ms.

    Args:
        path: a media file.
        rate: samples per second of the result.

    Returns:
        (n,), mean of the channels, within [-1, 1].

    Raises:
        DecodeError: as `iter_frames`, for sound.
    """
    with _opened(path) as container:
        pieces = list(_resampled(_mono(container, path), rate))
    if not pieces:
        raise _broken(path, "its sound holds no sample that can be decoded")
    return np.clip(np.concatenate(pieces), -1, 1)


class _CutOff(Exception):  # noqa: N818 # turned into a DecodeError by who knows how far it got
    """The file ends early or lacks a part."""


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    if not path.is_file():
        raise DecodeError(f"{path} is no file", "Correct the path.")
    if path.stat().st_size == 0:
        raise DecodeError(f"{path} is empty (0 bytes)", "Copy or download the file again.")
    try:
        # `file:` keeps a colon in the name from being read as a protocol; a play list must not fetch from elsewhere.
        # FFmpeg decodes while it opens.
        options = {"protocol_whitelist": "file", "max_pixels": str(most_pixels())}
        container = av.open(f"file:{path}", metadata_errors="replace", options=options)
    except av.FFmpegError as error:
        raise DecodeError(
            f"{path} cannot be opened as a video or sound file ({error.strerror})",
            "Copy the file again if it was cut off on the way; otherwise convert it: `ffmpeg -i IN OUT.mp4`.",
        ) from error
    with container:
        yield container


def _video(container: InputContainer, path: Path) -> av.VideoStream:
    stream = container.streams.best("video")
    # The cover picture of a song is kept as a video of one frame.
    if not isinstance(stream, av.VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
        raise DecodeError(f"{path} holds no video stream", "Give a video file.")
    if not stream.codec_context.width:
        raise DecodeError(
            f"{path}: the size of its pictures cannot be read, or is above the limit of {most_pixels()} pixels",
            f"Convert the file: `ffmpeg -i IN OUT.mp4`; if the size is right, raise {MAX_PIXELS} before the call.",
        )
    check_pixels(stream.codec_context.width, stream.codec_context.height, path, DecodeError)
    stream.codec_context.options = {"max_pixels": str(most_pixels())}  # of pictures that are larger than the first
    return stream


def _origin(container: InputContainer) -> float:
    clock = container.format.flags & cast(int, av.format.Flags.ts_discont.value)
    return (container.start_time or 0) / av.time_base if clock else 0.0


def _packets(container: InputContainer) -> "Iterator[av.Packet[av.stream.Stream]]":
    """Packets of all streams; a file that was cut off ends in `_CutOff`, of which FFmpeg itself says nothing."""
    end = (container.start_time or 0) / av.time_base
    expected = end + (container.duration or 0) / av.time_base
    if container.format.name == "avi":
        # Its duration is corrected by the size of the file, its number of frames is not.
        expected = max(expected, *(float(s.frames / (s.average_rate or 25)) for s in container.streams.video), 0.0)
    for packet in container.demux():
        if packet.is_corrupt:
            raise _CutOff("a part of the file is missing")
        if packet.pts is not None and packet.time_base:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        yield packet
    if expected - end > max(_SLACK, _SLACK_SHARE * expected):
        raise _CutOff(f"the file ends at {end:.2f} s of {expected:.2f} s")


def _next_time(
    pts: int | None, time_base: Fraction | None, origin: float, previous: float | None, step: float
) -> float:
    if pts is None or time_base is None:
        return 0.0 if previous is None else previous + step
    time = float(pts * time_base) - origin
    # Stamps that stand still or go back would break every search by time.
    return time if previous is None else max(time, previous + step / 100)


def _mono(container: InputContainer, path: Path) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Samples per second and pieces of mono sound (n,) that follow each other without gap from time 0."""
    if not container.streams.audio:
        raise DecodeError(f"{path} holds no sound stream", "Give a file with sound, or leave the sound out.")
    stream = container.streams.audio[0]
    planar = av.AudioResampler(format="fltp")
    origin, position, rate, begun = _origin(container), 0, 0, False
    try:
        for packet in _packets(container):
            if packet.stream.index != stream.index:
                continue
            try:
                frames = stream.decode(packet)
            except av.InvalidDataError:
                # A recording may begin in the midst of a coded block; its stamps tell how much is lost.
                if begun:
                    raise
                continue
            for frame in frames:
                if rate not in (0, frame.sample_rate):
                    raise _broken(path, f"its sound changes from {rate} to {frame.sample_rate} Hz")
                rate = frame.sample_rate
                known = frame.pts is not None and frame.time_base is not None
                start = round((float(frame.time or 0) - origin) * rate) if known else position
                gap = start - position
                if gap > _LONGEST_GAP * rate:
                    raise _broken(path, f"its sound jumps by {gap / rate:.0f} s at {position / rate:.2f} s")
                samples = np.concatenate([_channels(piece).mean(0) for piece in planar.resample(frame)])
                if begun and abs(gap) <= _JITTER * rate:
                    gap = 0
                begun = True
                if gap > 0:
                    yield rate, np.zeros(gap, np.float32)
                samples = samples[max(0, -gap) :]
                position += max(gap, 0) + len(samples)
                if len(samples):
                    yield rate, samples
    except (av.FFmpegError, _CutOff) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else error
        raise _broken(path, f"its sound breaks at {position / max(rate, 1):.2f} s ({reason})") from error


def _resampled(pieces: Iterator[tuple[int, NDArray[np.float32]]], rate: int) -> Iterator[NDArray[np.float32]]:
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    read, written = 0, 0
    source = rate
    for source, samples in pieces:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = source, read, Fraction(1, source)
        read += len(samples)
        for piece in resampler.resample(frame):
            written += piece.samples
            yield _channels(piece)[0]
    # Without any piece there is nothing to flush; at the same rate nothing is held back.
    rest = [_channels(piece)[0] for piece in resampler.resample(None) if piece] if read and source != rate else []
    if rest:
        yield np.concatenate(rest)[: max(0, round(read * rate / source) - written)]


def _channels(frame: av.AudioFrame) -> NDArray[np.float32]:
    return frame.to_ndarray().astype(np.float32, copy=False)


def _broken(path: Path, what: str) -> DecodeError:
    return DecodeError(
        f"{path}: {what}",
        "Copy the file again, leave it out, or repair it: `ffmpeg -i IN OUT.mp4`.",
    )


def _breaks(path: Path, frames: int, error: av.FFmpegError | _CutOff) -> DecodeError:
    reason = error.strerror if isinstance(error, av.FFmpegError) else error
    return _broken(path, f"its video breaks after {frames} frames ({reason})")
