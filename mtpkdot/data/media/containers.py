"""Open media files with PyAV: which streams are read, on which time line, and when a file counts as damaged.

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

# A file may end this much before its header says before it counts as cut off: seconds, and share of its length.
_SLACK, _SLACK_SHARE = 0.5, 0.01
# Formats whose duration counts from the zero of the time line, not from the first time stamp.
_FROM_ZERO = frozenset({"matroska,webm", "asf", "nut", "flv"})
# A format whose duration FFmpeg guesses from the first bytes.
_GUESSED = frozenset({"aac"})
# Frames that an AVI file declares which was written into a pipe, so that the true number could not be put there.
_UNKNOWN_FRAMES = 1 << 30
# Time stamps that go back by more (s) than this belong to another recording that was joined without new ones.
_LONGEST_STEP_BACK = 0.5
# FFmpeg completes damaged pictures unless it is asked to stop at what cannot be in a whole file. Its H.264 decoder
# marks them anyway, and would also stop at references that a cut has removed.
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
_MARKS_DAMAGE = frozenset({"h264"})

Packet: TypeAlias = "av.Packet[av.stream.Stream]"
_Stream = TypeVar("_Stream", av.VideoStream, av.AudioStream)


class CutOff(Exception):  # noqa: N818 # turned into a DecodeError by the reader that knows how far it got
    """The file ends early, lacks a part or is damaged."""


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a media file.

    Raises:
        DecodeError: no such file, empty, or not a media file.
    """
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


def video_stream(container: InputContainer, path: Path) -> av.VideoStream:
    """Return the video that is read: the default one, else the largest, of those that can be decoded.

    Raises:
        DecodeError: there is none, its codec is unknown, or its pictures are above the limit.
    """
    # The cover picture of a song is kept as a video of one frame.
    cover = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    stream = _preferred(container, path, streams, lambda s: s.codec_context.width * s.codec_context.height)
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


def sound_stream(container: InputContainer, path: Path) -> av.AudioStream | None:
    """Return the sound that is read: the default track, else that of most channels, of those that can be decoded.

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
    """Return what FFmpeg prints of the codec of a stream that it has no decoder for."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        text: str = container.dumps_format()  # type: ignore[attr-defined] # absent in PyAV's stubs
    finally:
        av.logging.set_level(level)
    match = re.search(rf"Stream #\d+:{index}\b.*?: (?:Video|Audio): (?:none \(([^ /)]+)|([^,\n]+))", text)
    return f"codec {match[1] or match[2].strip()}" if match else "unknown codec"


def declared_frames(stream: av.VideoStream) -> int | None:
    """Return the number of frames by the header, None where it keeps none."""
    return stream.frames if 0 < stream.frames < _UNKNOWN_FRAMES else None


def declared_duration(container: InputContainer) -> float | None:
    """Return the seconds that a file lasts by its header, None where it does not say."""
    unknown = any(stream.frames >= _UNKNOWN_FRAMES for stream in container.streams.video)
    if container.duration is None or container.format.name in _GUESSED or unknown:
        return None
    return container.duration / av.time_base


def check_step_back(seconds: float, second: float) -> None:
    """Stop where time stamps go back further than those of one recording do.

    Args:
        seconds: by which they go back.
        second: where.

    Raises:
        CutOff: they do.
    """
    if seconds > _LONGEST_STEP_BACK:
        raise CutOff(f"at {second:.2f} s its time stamps go back by {seconds:.2f} s, as in files joined byte for byte")


def time_origin(container: InputContainer) -> float:
    """Return the second of the container's clock at which the time line begins."""
    clock = container.format.flags & cast(int, av.format.Flags.ts_discont.value)
    return (container.start_time or 0) / av.time_base if clock else 0.0


def packets(container: InputContainer) -> Iterator[Packet]:
    """Return the packets of all streams in the order of the file, and at last an empty one of each, which ends it.

    Others that are empty stand for a picture that does not change: a decoder would take them for the end.

    Raises:
        CutOff: the file was cut off or lacks a part, of which FFmpeg itself says nothing.
    """
    start = (container.start_time or 0) / av.time_base
    expected = declared_duration(container) or 0.0
    if container.format.name not in _FROM_ZERO:
        expected += start
    if container.format.name == "avi":
        # Its duration is corrected by the size of the file, its number of frames is not.
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
        # AVI stores no times of presentation, and those that FFmpeg guesses are late or uneven: the n-th picture is
        # shown at the n-th time of decoding.
        self._order: deque[int] | None = deque() if container.format.name == "avi" else None

    def note(self, packet: Packet, shown: bool) -> None:
        """Take note of a packet, in the order of the file; one that is not shown comes before all that are."""
        if self._order is not None and packet.size and packet.dts is not None:
            self._order.append(packet.dts)
            if not shown:
                self._order.popleft()

    def time(self, pts: int | None, time_base: Fraction | None) -> float:
        """Return the time of the next frame in seconds; it is later than that of the last one.

        Args:
            pts: time stamp of the frame; None where it has none, and the rate decides.
            time_base: seconds of a tick.

        Raises:
            CutOff: it would be much earlier.
        """
        if self._order is not None:
            pts = self._order.popleft() if self._order else None
        if pts is None or time_base is None:
            time = 0.0 if self._previous is None else self._previous + self._step
        else:
            time = float(pts * time_base) - self._origin
            if self._previous is not None:
                check_step_back(self._previous - time, self._previous)
            # Stamps that stand still or go back would break every search by time.
            time = time if self._previous is None else max(time, self._previous + self._step / 100)
        self._previous = time
        return time


def decodable(container: InputContainer, stream: av.VideoStream, clock: Clock) -> Iterator[Packet]:
    """Return the packets of a video from its first key picture on, and at last the empty one that ends it.

    A recording that was cut without encoding it again may begin with pictures that refer to others before the cut.
    They are left out: those before the first key picture, and those shown before it.

    Args:
        container: the file.
        stream: its video.
        clock: takes note of the packets.

    Raises:
        CutOff: as `packets`.
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
    """Return why reading a file broke off, in a few words."""
    return str(error.strerror if isinstance(error, av.FFmpegError) else error)
