"""Opening of media files with PyAV: choice of streams, their common time line, and detection of damage.

Times of pictures and sound share one time line, in seconds. Its zero is the file's own zero; formats that count from an
arbitrary clock (MPEG program and transport streams) begin at 0 with their earliest stream.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

import av
from av.container import InputContainer

from mtpkdot.errors import DecodeError
from mtpkdot.limits import MAX_PIXELS, check_pixels, most_pixels

# A file counts as cut off if it ends earlier than its header says by more than this: seconds, and share of its length.
_SLACK, _SLACK_SHARE = 0.5, 0.01
# Formats whose duration counts from the zero of the time line, not from the first time stamp.
_FROM_ZERO = frozenset({"matroska,webm", "asf", "nut", "flv"})
# A format whose duration FFmpeg estimates from the first bytes.
_GUESSED = frozenset({"aac"})
# Number of frames in the header of an AVI file that was written to a pipe, which cannot be corrected afterwards.
_UNKNOWN_FRAMES = 1 << 30
# Time stamps that go back by more (s) belong to another recording that was appended with its old stamps.
_LONGEST_STEP_BACK = 0.5
# FFmpeg completes damaged pictures unless it is asked to stop at errors that whole files cannot have. Its H.264 decoder
# marks such pictures anyway, and would also stop at references that a cut has removed.
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
_MARKS_DAMAGE = frozenset({"h264"})

Packet: TypeAlias = "av.Packet[av.stream.Stream]"
_Stream = TypeVar("_Stream", av.VideoStream, av.AudioStream)


class CutOff(Exception):  # noqa: N818 # turned into a DecodeError by the reader, which knows its position
    """Early end, gap or damage of a file."""


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a media file.

    Raises:
        DecodeError: the file is missing, empty, or not a media file.
    """
    if not path.is_file():
        raise DecodeError(f"{path} is not a file", "Correct the path.")
    if path.stat().st_size == 0:
        raise DecodeError(f"{path} is empty (0 bytes)", "Copy or download the file again.")
    try:
        # `file:` keeps a colon in the name from being read as a protocol; a play list must not fetch remote files.
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


def video_stream(container: InputContainer, path: Path) -> av.VideoStream:
    """Return the video to read: the default one, else the largest, among those that can be decoded.

    Raises:
        DecodeError: the file has no video, its codec is unknown, or its pictures are above the limit.
    """
    stream = _preferred(container, path, _videos(container), lambda s: s.codec_context.width * s.codec_context.height)
    if stream is None:
        raise DecodeError(f"{path} holds no video stream", "Give a video file.")
    context = stream.codec_context
    if not context.width:
        raise DecodeError(
            f"{path}: the size of its pictures cannot be read, or is above the limit of {most_pixels()} pixels",
            f"Convert the file: `ffmpeg -i IN OUT.mp4`; if the size is right, raise {MAX_PIXELS} before the call.",
        )
    check_pixels(context.width, context.height, path, DecodeError)
    strict = {} if context.name in _MARKS_DAMAGE else _STRICT
    context.options = strict | {"max_pixels": str(most_pixels())}  # of pictures that are larger than the first
    return stream


def has_video(path: Path) -> bool:
    """Return whether a media file has a video.

    Raises:
        DecodeError: see `opened`.
    """
    with opened(path) as container:
        return bool(_videos(container))


def _videos(container: InputContainer) -> list[av.VideoStream]:
    """Return the videos of a file; the cover picture of a song is stored as a video of one frame, and is none."""
    cover = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & cover]


def sound_stream(container: InputContainer, path: Path) -> av.AudioStream | None:
    """Return the sound to read: the default track, else that of most channels, among those that can be decoded.

    Returns:
        The stream; None where the file has no sound.

    Raises:
        DecodeError: no track can be decoded.
    """
    return _preferred(container, path, list(container.streams.audio), lambda s: s.codec_context.channels)


def _preferred(
    container: InputContainer, path: Path, streams: list[_Stream], size: Callable[[_Stream], int]
) -> _Stream | None:
    readable = [stream for stream in streams if stream.codec_context is not None]
    if streams and not readable:
        raise DecodeError(
            f"{path}: FFmpeg has no decoder for its {streams[0].type} ({_codec(container, streams[0].index)})",
            "Convert the file with the program that wrote it, for example to H.264 and AAC.",
        )
    default = av.stream.Disposition.default
    return max(readable, key=lambda s: (bool(s.disposition & default), size(s), -s.index), default=None)


def _codec(container: InputContainer, index: int) -> str:
    """Return FFmpeg's description of the codec of a stream for which it has no decoder."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        text: str = container.dumps_format()  # type: ignore[attr-defined] # absent in PyAV's stubs
    finally:
        av.logging.set_level(level)
    match = re.search(rf"Stream #\d+:{index}\b.*?: (?:Video|Audio): (?:none \(([^ /)]+)|([^,\n]+))", text)
    return f"codec {match[1] or match[2].strip()}" if match else "unknown codec"


def declared_frames(stream: av.VideoStream) -> int | None:
    """Return the number of frames in the header, None if it has none."""
    return stream.frames if 0 < stream.frames < _UNKNOWN_FRAMES else None


def declared_duration(container: InputContainer) -> float | None:
    """Return the duration in the header in seconds, None if it has none."""
    unknown = any(stream.frames >= _UNKNOWN_FRAMES for stream in container.streams.video)
    if container.duration is None or container.format.name in _GUESSED or unknown:
        return None
    return container.duration / av.time_base


def check_step_back(seconds: float, second: float) -> None:
    """Check that time stamps do not go back further than within one recording.

    Args:
        seconds: seconds by which they go back.
        second: place on the time line in seconds.

    Raises:
        CutOff: they go back further.
    """
    if seconds > _LONGEST_STEP_BACK:
        raise CutOff(f"at {second:.2f} s its time stamps go back by {seconds:.2f} s, as in files joined byte for byte")


def time_origin(container: InputContainer) -> float:
    """Return the second of the container's clock at which the time line begins."""
    clock = container.format.flags & cast(int, av.format.Flags.ts_discont.value)
    return (container.start_time or 0) / av.time_base if clock else 0.0


def packets(container: InputContainer) -> Iterator[Packet]:
    """Yield the packets of all streams in the order of the file, and finally an empty one of each, which ends it.

    Other empty packets stand for an unchanged picture and are left out: a decoder would take them for the end.

    Raises:
        CutOff: the file was cut off or lacks a part, which FFmpeg itself does not report.
    """
    start = (container.start_time or 0) / av.time_base
    expected = declared_duration(container) or 0.0
    if container.format.name not in _FROM_ZERO:
        expected += start
    if container.format.name == "avi":
        # The duration is corrected by the size of the file, the number of frames is not.
        frames = [(declared_frames(s) or 0) / float(s.average_rate or 25) for s in container.streams.video]
        expected = max(expected, *frames, 0.0)
    end = start
    for packet in container.demux():
        if packet.is_corrupt:
            raise CutOff("a part of the file is missing")
        if packet.pts is not None and packet.time_base:
            rate = packet.stream.average_rate if isinstance(packet.stream, av.VideoStream) else None
            lasts = packet.duration * packet.time_base if packet.duration else 1 / rate if rate else 0
            end = max(end, float(packet.pts * packet.time_base + lasts))
        if packet.size or (packet.pts is None and packet.dts is None):
            yield packet
    if expected - end > max(_SLACK, _SLACK_SHARE * expected):
        raise CutOff(f"the file ends at {end:.2f} s of {expected:.2f} s")


class Clock:
    """Times of the frames of one video, in the order of presentation.

    Args:
        container: the file.
        stream: its video.
    """

    def __init__(self, container: InputContainer, stream: av.VideoStream) -> None:
        self._origin = time_origin(container)
        self._step = 1 / float(stream.average_rate or 25)
        self._previous: float | None = None
        # AVI stores no presentation times, and FFmpeg's estimates are late or uneven: the n-th picture is shown at the
        # n-th decoding time.
        self._order: deque[int] | None = deque() if container.format.name == "avi" else None

    def note(self, packet: Packet, shown: bool) -> None:
        """Record a packet, in the order of the file; one that is not shown precedes all that are."""
        if self._order is not None and packet.size and packet.dts is not None:
            self._order.append(packet.dts)
            if not shown:
                self._order.popleft()

    def time(self, pts: int | None, time_base: Fraction | None) -> float:
        """Return the time of the next frame in seconds, later than that of the last one.

        Args:
            pts: time stamp of the frame; None if it has none, so that the rate decides.
            time_base: seconds per tick.

        Raises:
            CutOff: the time would be much earlier.
        """
        if self._order is not None:
            pts = self._order.popleft() if self._order else None
        if pts is None or time_base is None:
            time = 0.0 if self._previous is None else self._previous + self._step
        else:
            time = float(pts * time_base) - self._origin
            if self._previous is not None:
                check_step_back(self._previous - time, self._previous)
            # Equal or decreasing stamps would break every search by time.
            time = time if self._previous is None else max(time, self._previous + self._step / 100)
        self._previous = time
        return time


def decodable(container: InputContainer, stream: av.VideoStream, clock: Clock) -> Iterator[Packet]:
    """Yield the packets of a video from its first key picture on, and finally the empty one that ends it.

    A recording that was cut without re-encoding may begin with pictures that refer to others before the cut. Those
    before the first key picture, and those shown before it, are left out.

    Args:
        container: the file.
        stream: its video.
        clock: clock that records the packets.

    Raises:
        CutOff: see `packets`.
    """
    begun, first = False, None
    for packet in packets(container):
        if packet.stream.index != stream.index:
            continue
        if packet.size and not begun:
            if not packet.is_keyframe:
                continue
            begun, first = True, packet.pts
        leading = packet.size and packet.pts is not None and first is not None and packet.pts < first
        clock.note(packet, shown=not leading)
        if not leading:
            yield packet


def broken(path: Path, what: str) -> DecodeError:
    """Return the error of a damaged file."""
    return DecodeError(f"{path}: {what}", "Copy the file again, leave it out, or repair it: `ffmpeg -i IN OUT.mp4`.")


def reason(error: av.FFmpegError | CutOff) -> str:
    """Return the reason why reading a file failed, in a few words."""
    return str(error.strerror if isinstance(error, av.FFmpegError) else error)
