"""Tracks: sound and signals beside the pictures of a recording, cut into one piece per step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtpkdot.data.batch import Clips, IntArray, StrArray
from mtpkdot.data.media.clips import SignalClips, SoundClips
from mtpkdot.data.media.store import Store
from mtpkdot.data.media.transforms import Augment
from mtpkdot.data.media.windows import Cut

Common = tuple[Store, StrArray, StrArray, Augment | None]


@dataclass(frozen=True)
class Track(ABC):
    """Modality beside the pictures, with a piece around the middle of every step.

    Its sample i lies at i / rate seconds on the time line of the pictures.

    Args:
        seconds: length of a piece in seconds.
        rate: samples per second.
    """

    seconds: float
    rate: float

    @property
    def length(self) -> int:
        """Number of samples of a piece."""
        return round(self.seconds * self.rate)

    @abstractmethod
    def samples(self, row: Mapping[str, Any]) -> int:
        """Return the number of samples of a recording, by its row of the index; 0 if it has none."""

    @abstractmethod
    def starts(self, cut: Cut, samples: int) -> IntArray:
        """Return the first sample (W, C) of the pieces of a recording with `samples` samples."""

    @abstractmethod
    def clips(self, common: Common, starts: IntArray, samples: dict[str, int]) -> Clips:
        """Return the reader of the pieces.

        Args:
            common: store, recordings, ids and augmentation of the samples.
            starts: (n, C) first samples.
            samples: number of samples of each recording.
        """


@dataclass(frozen=True)
class SoundTrack(Track):
    """Sound of a recording, `sound` in the store; silence lies beyond its ends."""

    def samples(self, row: Mapping[str, Any]) -> int:
        """Return the number of samples, see `Track`."""
        return _length(row, "sound")

    def starts(self, cut: Cut, samples: int) -> IntArray:
        """Return the first samples, see `Track`."""
        return cut.starts(self.seconds, self.rate)

    def clips(self, common: Common, starts: IntArray, samples: dict[str, int]) -> Clips:
        """Return the reader of the pieces, see `Track`; steps (L,)."""
        return SoundClips(*common, starts, samples, self.length)


@dataclass(frozen=True)
class SignalTrack(Track):
    """Signals of a recording, `signal.<column>` in the store; a piece that crosses an end is shifted inside.

    Args:
        columns: names of the channels.
    """

    columns: tuple[str, ...]

    def samples(self, row: Mapping[str, Any]) -> int:
        """Return the number of samples, see `Track`; 0 for a recording that is shorter than a piece."""
        samples = _length(row, f"signal.{self.columns[0]}")
        return samples if samples >= self.length else 0

    def starts(self, cut: Cut, samples: int) -> IntArray:
        """Return the first samples, see `Track`; -1 for a step whose middle lies beyond the signals."""
        start = np.clip(cut.starts(self.seconds, self.rate), 0, max(samples - self.length, 0))
        return np.where(cut.covered(samples, self.rate), start, -1)

    def clips(self, common: Common, starts: IntArray, samples: dict[str, int]) -> Clips:
        """Return the reader of the pieces, see `Track`; steps (L, channels)."""
        return SignalClips(*common, starts, self.length, list(self.columns))


def _length(row: Mapping[str, Any], name: str) -> int:
    """Return the length of an array of a recording in the store, 0 if it has none."""
    length = row.get(f"length.{name}")
    return 0 if length is None or np.isnan(length) else int(length)
