"""Decoding of sound: mono samples on the time line of the pictures. Importing it imports PyAV."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from mtpkdot.data.media.containers import (
    CutOff,
    broken,
    check_step_back,
    opened,
    packets,
    reason,
    sound_stream,
    time_origin,
)
from mtpkdot.errors import DecodeError

# Precision of the time stamps of sound (s): some formats round them, and every correction is audible.
_JITTER = 0.01
# A longer gap in the sound (s) is an error of its time stamps, and would fill the memory with silence.
_LONGEST_GAP = 3600.0
# Channels whose mean has less than this share of their power cancel each other.
_CANCELLED = 0.01

Samples = NDArray[np.float32]


def read_sound(path: Path, rate: int, remark: Callable[[str], None] | None = None) -> Samples:
    """Return the sound of a media file on the time line of its pictures: sample i is heard at i / rate seconds.

    A late start and gaps are filled with silence, and samples before 0 are cut off, so that sound and pictures never
    drift apart by more than 10 ms.

    Args:
        path: a media file. If it has several tracks, the default one is read, else that of most channels.
        rate: samples per second of the result.
        remark: called with remarks on readable sound, such as channels that cancel each other.

    Returns:
        (n,), mean of the channels, within [-1, 1].

    Raises:
        DecodeError: see `decode.iter_frames`, applied to sound.
    """
    power = _Power()
    with opened(path) as container:
        pieces = list(_resampled(_mono(container, path, power), rate))
    if not pieces:
        raise broken(path, "its sound holds no sample that can be decoded")
    if remark is not None and power.cancelled:
        remark(f"the channels of its sound cancel each other: their mean has {power.share:.1%} of their power")
    return np.clip(np.concatenate(pieces), -1, 1)


class _Power:
    """Power of channels and of their mean, summed over all samples."""

    def __init__(self) -> None:
        self._channels = self._mean = 0.0

    def add(self, channels: Samples, mean: Samples) -> None:
        if len(channels) > 1:
            self._channels += float(np.square(channels, dtype=np.float64).mean(axis=0).sum())
            self._mean += float(np.square(mean, dtype=np.float64).sum())

    @property
    def share(self) -> float:
        return self._mean / self._channels if self._channels else 1.0

    @property
    def cancelled(self) -> bool:
        return self.share < _CANCELLED


def _mono(container: InputContainer, path: Path, power: _Power) -> Iterator[tuple[int, Samples]]:
    """Yield samples per second and pieces of mono sound (n,) that follow each other without gap from time 0."""
    stream = sound_stream(container, path)
    if stream is None:
        raise DecodeError(f"{path} holds no sound stream", "Give a file with sound, or leave the sound out.")
    planar = av.AudioResampler(format="fltp")
    origin, position, rate, begun = time_origin(container), 0, 0, False
    try:
        for packet in packets(container):
            if packet.stream.index != stream.index:
                continue
            try:
                frames = stream.decode(packet)
            except av.InvalidDataError:
                # A recording may begin within a coded block; its stamps show how much is missing.
                if begun:
                    raise
                continue
            for frame in frames:
                if frame.is_corrupt:
                    raise CutOff("a part of it is damaged")
                if rate not in (0, frame.sample_rate):
                    raise broken(path, f"its sound changes from {rate} to {frame.sample_rate} Hz")
                rate = frame.sample_rate
                gap = _gap(frame, origin, position, path)
                channels = np.concatenate([_channels(piece) for piece in planar.resample(frame)], axis=1)
                samples = channels.mean(axis=0)
                power.add(channels, samples)
                if begun and abs(gap) <= _JITTER * rate:
                    gap = 0
                begun = True
                if position:  # of what lies before 0, every piece goes back
                    check_step_back(-gap / rate, position / rate)
                if gap > 0:
                    yield rate, np.zeros(gap, np.float32)
                samples = samples[max(0, -gap) :]
                position += max(gap, 0) + len(samples)
                if len(samples):
                    yield rate, samples
    except (av.FFmpegError, CutOff) as error:
        raise broken(path, f"its sound breaks at {position / max(rate, 1):.2f} s ({reason(error)})") from error


def _gap(frame: av.AudioFrame, origin: float, position: int, path: Path) -> int:
    """Return the samples between the end of the read sound and a frame; negative if they overlap."""
    if frame.pts is None or frame.time_base is None:
        return 0
    rate = frame.sample_rate
    gap = round((float(frame.pts * frame.time_base) - origin) * rate) - position
    if gap > _LONGEST_GAP * rate:
        raise broken(path, f"its sound jumps by {gap / rate:.0f} s at {position / rate:.2f} s")
    return gap


def _resampled(pieces: Iterator[tuple[int, Samples]], rate: int) -> Iterator[Samples]:
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


def _channels(frame: av.AudioFrame) -> Samples:
    return frame.to_ndarray().astype(np.float32, copy=False)
