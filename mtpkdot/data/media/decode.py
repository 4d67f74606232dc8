"""Decoding of video: pictures in the order of presentation, and their times. Importing it imports PyAV."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from mtpkdot.data.media.containers import (
    Clock,
    CutOff,
    broken,
    declared_duration,
    declared_frames,
    decodable,
    has_video,
    opened,
    packets,
    reason,
    sound_stream,
    video_stream,
)
from mtpkdot.data.media.sound import read_sound
from mtpkdot.errors import DecodeError

__all__ = [
    "DecodeError",
    "LazyFrame",
    "VideoInfo",
    "frame_times",
    "has_video",
    "iter_frames",
    "iter_lazy_frames",
    "read_sound",
    "video_info",
]

# Containers and codecs in which every packet is one picture with a time of presentation.
_STAMPED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
_ONE_PICTURE = frozenset({"h264", "hevc", "av1", "libdav1d", "vp9"})
_COMPARED = 3  # Pictures that are decoded to verify it.


@dataclass(frozen=True)
class VideoInfo:
    """Properties that a video file declares.

    Attributes:
        frames: number of frames in the header, which may be wrong; None if the format has none.
        average_rate: frames per second, None if unknown.
        width: width of the pictures of `iter_frames`, in pixels.
        height: height of these pictures, in pixels.
        duration: seconds in the header, None if unknown.
        has_sound: True if the file has a sound stream, even one without a decoder.
        sound_rate: samples per second of the sound that `read_sound` reads, None if it reads none.
    """

    frames: int | None
    average_rate: float | None
    width: int
    height: int
    duration: float | None
    has_sound: bool
    sound_rate: int | None


@dataclass(frozen=True)
class LazyFrame:
    """Decoded frame whose picture is converted on demand.

    Attributes:
        time: time in seconds.
    """

    time: float
    _frame: av.VideoFrame
    _convert: VideoReformatter  # One converter for all frames: the one of a frame starts threads for every picture.
    _matrix: NDArray[np.int32] | None

    def rgb(self) -> NDArray[np.uint8]:
        """Return the picture (H, W, 3), uint8, RGB, upright; its rows may lie apart in memory."""
        picture = cast(NDArray[np.uint8], self._convert.reformat(self._frame, format="rgb24").to_ndarray())
        return picture if self._matrix is None else upright(picture, self._matrix)


def _display_matrix(frame: av.VideoFrame) -> NDArray[np.int32] | None:
    data = cast("Mapping[Type, bytes]", frame.side_data).get(Type.DISPLAYMATRIX)
    return None if data is None else np.frombuffer(data, np.int32)


def upright(picture: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return a picture transformed by its display matrix, one of the eight rotations and reflections.

    Args:
        picture: (H, W, 3), as stored.
        matrix: (9,) the matrix of ISO/IEC 14496-12, (a, b, u, c, d, v, x, y, w), which moves a stored point (p, q) to
            (a p + c q, b p + d q); any other angle counts as the nearest quarter turn.
    """
    a, b, c, d = (int(matrix[place]) for place in (0, 1, 3, 4))
    if max(abs(b), abs(c)) > max(abs(a), abs(d)):
        picture, across, down = picture.swapaxes(0, 1), c, b
    else:
        across, down = a, d
    return picture[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def video_info(path: Path) -> VideoInfo:
    """Return the properties that a video file declares; its first frame is decoded for the size.

    Raises:
        DecodeError: see `iter_frames`.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        tracks = container.streams.audio
        sound = sound_stream(container, path) if any(track.codec_context for track in tracks) else None
        rate = stream.average_rate
        frames, duration = declared_frames(stream), declared_duration(container)
        has_sound, sound_rate = bool(tracks), None if sound is None else sound.rate
    _, first = next(iter_frames(path))
    return VideoInfo(
        frames=frames,
        average_rate=float(rate) if rate else None,
        width=first.shape[1],
        height=first.shape[0],
        duration=duration,
        has_sound=has_sound,
        sound_rate=sound_rate,
    )


def iter_frames(path: Path, threads: int = 1) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield every frame of a video in the order of presentation; memory does not depend on its length.

    Args:
        path: a video file. If it has several videos, the default one is read, else the largest.
        threads: threads of the decoder; 0 for all cores. Use one if many files are read in parallel.

    Yields:
        Time in seconds, strictly increasing, and the picture (H, W, 3), uint8, RGB, turned and mirrored as the file's
        display matrix says. Missing times follow from the average rate. Pixels that are not square are not rescaled.
        Pictures at the beginning that refer to others before a cut cannot be decoded and are left out.

    Raises:
        DecodeError: the file is missing, empty, not a media file, without video or a decoder for it, damaged, or
            shorter than its header says (an MPEG program or transport stream has no such header, so a cut at the end of
            a packet is not detected).
    """
    for frame in iter_lazy_frames(path, threads):
        yield frame.time, np.ascontiguousarray(frame.rgb())


def iter_lazy_frames(path: Path, threads: int = 1) -> Iterator[LazyFrame]:
    """Yield every frame of a video as `iter_frames` does, converted only if its picture is requested.

    Args:
        path: see `iter_frames`.
        threads: see `iter_frames`.

    Raises:
        DecodeError: see `iter_frames`.
    """
    convert = VideoReformatter()
    rotation, matrix = None, None
    for time, frame in _decoded(path, threads):
        # Reading the side data of a frame creates a reference cycle, which keeps it in memory for long.
        if frame.rotation != rotation:
            rotation, matrix = frame.rotation, _display_matrix(frame)
        yield LazyFrame(time, frame, convert, matrix)


def frame_times(path: Path) -> NDArray[np.float64]:
    """Return the time (F,) of every frame of a video in seconds, as `iter_frames` does.

    Pictures are decoded only if the packets of the file do not give the same times.

    Raises:
        DecodeError: see `iter_frames`; damage inside pictures may go undetected.
    """
    times = _stamped_times(path)
    return np.array([time for time, _ in _decoded(path, 1)]) if times is None else times


def _decoded(path: Path, threads: int) -> Iterator[tuple[float, av.VideoFrame]]:
    count = 0
    with opened(path) as container:
        stream = video_stream(container, path)
        stream.codec_context.thread_count = threads
        if threads != 1:
            stream.thread_type = "AUTO"
        clock = Clock(container, stream)
        try:
            for packet in decodable(container, stream, clock):
                for frame in stream.decode(packet):
                    if frame.is_corrupt:
                        raise CutOff("a picture is damaged")
                    yield clock.time(frame.pts, frame.time_base), frame
                    count += 1
        except (av.FFmpegError, CutOff) as error:
            raise broken(path, f"its video breaks after {count} frames ({reason(error)})") from error
    if not count:
        raise broken(path, "its video holds no frame that can be decoded")


def _stamped_times(path: Path) -> NDArray[np.float64] | None:
    """Return the times (F,) from the packets alone; None if they are not known to be right."""
    stamps: list[int] = []
    base: Fraction | None = None
    with opened(path) as container:
        stream = video_stream(container, path)
        if container.format.name not in _STAMPED or stream.codec_context.name not in _ONE_PICTURE:
            return None
        clock = Clock(container, stream)
        try:
            for packet in packets(container):
                if packet.stream.index != stream.index or not packet.size:
                    continue
                whole = bool(stamps) or packet.is_keyframe
                # An edit list may start a video later than its packets, which are then decoded and not shown.
                if packet.pts is None or packet.is_discard or not whole:
                    return None
                stamps.append(packet.pts)
                base = packet.time_base
        except (av.FFmpegError, CutOff) as error:
            raise broken(path, f"its video breaks after {len(stamps)} frames ({reason(error)})") from error
    # Packets come in decoding order, frames are shown in the order of their stamps.
    first, shown = stamps[:1], sorted(stamps)
    if shown[:1] != first or len(set(stamps)) != len(stamps):
        return None
    times = np.array([clock.time(pts, base) for pts in shown])
    head = [time for time, _ in islice(_decoded(path, 1), _COMPARED)]
    return times if head == times[:_COMPARED].tolist() else None
