"""Tracks: sound and signals beside the pictures of a recording, cut into one piece per step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtpkdot.data.batch import Clips, IntArray, StrArray
from mtpkdot.data.media.clips import SignalClips, SoundClips, stored_sound
from mtpkdot.data.media.files import damaged, read_numbers
from mtpkdot.data.media.store import Content, MemoryStore, Store
from mtpkdot.data.media.transforms import Augment
from mtpkdot.data.media.windows import Cut
from mtpkdot.errors import DataError

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

    @abstractmethod
    def read(self, path: Path) -> Content:
        """Read a raw file, with what the track has in a store as `large`, and the `times` of pictures in `small`.

        Args:
            path: the file; `times` are left out if it has no pictures.

        Raises:
            DataError: the file is missing, damaged, or of another form.
        """

    def seconds_of(self, content: Content) -> float:
        """Return the length of a recording that was read, in seconds."""
        return max(map(len, content.large.values()), default=0) / self.rate

    def cut(self, content: Content, cut: Cut) -> tuple[Tensor, Tensor]:
        """Cut a recording that was read into the pieces of its steps.

        Args:
            content: the recording, see `read`.
            cut: its windows.

        Returns:
            The pieces (W, C, *step) and the mask (W, C) bool of steps within the recording.
        """
        samples = self.samples(content.row(""))
        starts = self.starts(cut, samples)
        nameless = np.full(len(starts), "")
        clips = self.clips((MemoryStore.of(content), nameless, nameless, None), starts, {"": samples})
        x = clips.read(np.arange(len(starts)), np.zeros(len(starts), dtype=np.int64))
        return x, torch.from_numpy(cut.covered(samples, self.rate))


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

    def read(self, path: Path) -> Content:
        """Read the sound of a media file, see `Track`."""
        from mtpkdot.data.media.decode import frame_times, has_video, read_sound

        small = {"times": frame_times(path)} if has_video(path) else {}
        return Content({}, small, {"sound": stored_sound(read_sound(path, round(self.rate)))})


@dataclass(frozen=True)
class SignalTrack(Track):
    """Signals of a recording, `signal.<column>` in the store; a piece that crosses an end is shifted inside.

    A raw file is a table with the time in seconds, `time`, and a column per channel, separated by commas. For files of
    another form override `read`, and let the data set's converter call it.

    Args:
        columns: names of the channels, in lower case.
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

    def read(self, path: Path) -> Content:
        """Read a table and interpolate between its rows from 0 to the last, see `Track`."""
        table = read_numbers(path, ",", ["time"])
        if lacking := [name for name in self.columns if name not in table]:
            raise DataError(
                f"{path} has no column {lacking[0]!r}, only {', '.join(map(str, table.columns))}", "Correct the header."
            )
        times = table["time"].to_numpy()
        # Row i stands in line i + 2.
        if backwards := [int(row) + 3 for row in np.flatnonzero(np.diff(times) <= 0)]:
            raise damaged(path, [(line, ": time does not increase") for line in backwards], "Sort the rows by time.")
        even = np.arange(0.0, times[-1], 1 / self.rate)
        columns = {name: np.interp(even, times, table[name]).astype(np.float32) for name in self.columns}
        return Content({}, {}, {f"signal.{name}": values for name, values in columns.items()})


def plain_of(track: Any) -> dict[str, Any]:
    """Return a track, or another dataclass that reads and cuts raw files, as plain data: `class_path`, `init_args`."""
    kind = type(track)
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": asdict(track)}


def _length(row: Mapping[str, Any], name: str) -> int:
    """Return the length of an array of a recording in the store, 0 if it has none."""
    length = row.get(f"length.{name}")
    return 0 if length is None or np.isnan(length) else int(length)
