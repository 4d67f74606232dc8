"""Modalities that are read from a prepared store, sample by sample, on demand."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtpkdot.data.batch import BoolArray, Clips, IntArray, StrArray
from mtpkdot.data.media.jpegs import decode_jpegs
from mtpkdot.data.media.store import Store, recording_path
from mtpkdot.data.media.transforms import Augment
from mtpkdot.extras import require

_SOUND_SCALE = 32767.0  # int16 at full scale


def stored_sound(sound: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Return sound (n,) in [-1, 1] as it is stored, int16."""
    return np.round(sound * _SOUND_SCALE).astype(np.int16)


@dataclass
class _StoredClips(Clips):
    """Base of modalities in a store.

    Attributes:
        store: the store.
        recordings: (n,) recording of each sample.
        samples: (n,) ids of the samples.
        augment: augmentation of the views; None for none.
    """

    store: Store
    recordings: StrArray
    samples: StrArray
    augment: Augment | None


@dataclass
class PictureClips(_StoredClips):
    """Frames of face video: uint8 (T, 3, size, size), or (T, F, 3, size, size) where a step is a clip of F frames.

    Attributes:
        frames: (n, T) or (n, T, F) int32, frame of the recording; -1 for a black frame.
        offsets: offsets of the JPEG files of each recording, and the end.
        size: side of a frame in pixels.
    """

    frames: npt.NDArray[np.int32]
    offsets: dict[str, IntArray]
    size: int
    media = True

    def __post_init__(self) -> None:
        require("cv2")  # imported now, and not at the first batch

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override] # computed
        """Shape (n, T, *step_shape)."""
        return (*self.frames.shape, 3, self.size, self.size)

    def read(self, positions: IntArray, views: IntArray) -> Tensor:
        """Return the frames, see `Clips`.

        Channels are last in memory, as in decoded frames: transposing them would take as long as decoding.
        """
        frames = torch.zeros(len(positions), *self.frames.shape[1:], self.size, self.size, 3, dtype=torch.uint8)
        for into, position, view in zip(frames, positions.tolist(), views.tolist(), strict=True):
            self._fill(into.view(-1, self.size, self.size, 3), position, view)
        return frames.movedim(-1, -3)

    def _fill(self, into: Tensor, position: int, view: int) -> None:
        """Decode the frames (N, size, size, 3) of one sample, each once."""
        wanted = self.frames[position].reshape(-1)
        real = np.flatnonzero(wanted >= 0)
        if len(real):
            unique, place = np.unique(wanted[real], return_inverse=True)
            pictures = self._decode(str(self.recordings[position]), unique)
            if view and self.augment is not None:
                pictures = self.augment.pictures(pictures, str(self.samples[position]), view)
            pictures = pictures.permute(0, 2, 3, 1)
            for step, picture in zip(real.tolist(), place.tolist(), strict=True):
                into[step] = pictures[picture]

    def _decode(self, recording: str, frames: npt.NDArray[np.int32]) -> Tensor:
        offsets = self.offsets[recording]
        starts, stops = offsets[frames], offsets[frames + 1]
        first = int(starts[0])
        piece = self.store.read(recording, "pictures", first, int(stops[-1]))
        jpegs = [
            torch.from_numpy(piece[start - first : stop - first]) for start, stop in zip(starts, stops, strict=True)
        ]
        return decode_jpegs(jpegs, str(recording_path(self.store.folder, recording)))

    def keep(self, kept: BoolArray) -> Self:
        """Return the samples for which `kept` (n,) is True."""
        return replace(self, recordings=self.recordings[kept], samples=self.samples[kept], frames=self.frames[kept])


@dataclass
class SignalClips(_StoredClips):
    """Signals, float32: T samples (T, C) as steps, or steps (T, L, C) of L samples each.

    Attributes:
        starts: (n,) int64, first sample; or (n, T), first sample of each step. -1 for none: zeros.
        length: T, or L.
        columns: names of the C channels.
    """

    starts: IntArray
    length: int
    columns: list[str]
    media = False

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override] # computed
        """Shape (n, T, C) or (n, T, L, C)."""
        return (*self.starts.shape, self.length, len(self.columns))

    def read(self, positions: IntArray, views: IntArray) -> Tensor:
        """Return the signals, see `Clips`."""
        return _one_by_one(self._read_one, positions, views, self.shape)

    def _read_one(self, position: int, view: int) -> Tensor:
        """Return the channels of one sample, from one piece of the recording."""
        recording, starts = str(self.recordings[position]), np.atleast_1d(self.starts[position])
        real = np.flatnonzero(starts >= 0)
        values = np.zeros((len(starts), self.length, len(self.columns)), dtype=np.float32)
        if not len(real):
            return torch.from_numpy(values.reshape(self.shape[1:]))
        first, last = int(starts[real].min()), int(starts[real].max()) + self.length
        within = starts[real, None] - first + np.arange(self.length)
        for channel, column in enumerate(self.columns):
            values[real, :, channel] = self.store.read(recording, f"signal.{column}", first, last)[within]
        signal = torch.from_numpy(values)
        if view and self.augment is not None:
            # Modalities must not share their noise.
            key = f"{self.samples[position]}/{self.columns[0]}"
            signal[real] = self.augment.signal(signal[real], key, view)
        return signal.view(self.shape[1:])

    def keep(self, kept: BoolArray) -> Self:
        """Return the samples for which `kept` (n,) is True."""
        return replace(self, recordings=self.recordings[kept], samples=self.samples[kept], starts=self.starts[kept])


@dataclass
class SoundClips(_StoredClips):
    """Mono sound in [-1, 1], float32 (T, L): L samples around each step; silence beyond the ends of the recording.

    Attributes:
        starts: (n, T) int64, first sample of each step; may be negative.
        lengths: number of samples of each recording; 0 without sound.
        length: L.
    """

    starts: IntArray
    lengths: dict[str, int]
    length: int
    media = True

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override] # computed
        """Shape (n, T, L)."""
        return (*self.starts.shape, self.length)

    def read(self, positions: IntArray, views: IntArray) -> Tensor:
        """Return the sound, see `Clips`."""
        return _one_by_one(self._read_one, positions, views, self.shape)

    def _read_one(self, position: int, view: int) -> Tensor:
        """Return the sound of every step of one sample, read as one piece of the recording."""
        recording, starts = str(self.recordings[position]), self.starts[position]
        sound = np.zeros((len(starts), self.length), dtype=np.float32)
        total = self.lengths[recording]
        first, last = max(0, int(starts.min())), min(total, int(starts.max()) + self.length)
        if first < last:
            piece = self.store.read(recording, "sound", first, last)
            for step, start in enumerate(starts.tolist()):
                begin, end = max(start, first), min(start + self.length, last)
                if begin < end:
                    sound[step, begin - start : end - start] = piece[begin - first : end - first]
        values = torch.from_numpy(sound / _SOUND_SCALE)
        if view and self.augment is not None:
            return self.augment.sound(values, str(self.samples[position]), view)
        return values

    def keep(self, kept: BoolArray) -> Self:
        """Return the samples for which `kept` (n,) is True."""
        return replace(self, recordings=self.recordings[kept], samples=self.samples[kept], starts=self.starts[kept])


def _one_by_one(
    read: Callable[[int, int], Tensor], positions: IntArray, views: IntArray, shape: tuple[int, ...]
) -> Tensor:
    samples = [read(position, view) for position, view in zip(positions.tolist(), views.tolist(), strict=True)]
    return torch.stack(samples) if samples else torch.empty(0, *shape[1:])
