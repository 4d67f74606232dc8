"""Signals of a clip of BioVid: a text file over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtpkdot.data.media.clips import SignalClips
from mtpkdot.data.media.files import damaged, read_numbers
from mtpkdot.data.media.filters import clean
from mtpkdot.data.media.recordings import Fact
from mtpkdot.data.media.store import Content, MemoryStore
from mtpkdot.data.media.windows import Excerpt
from mtpkdot.errors import DataError

SIGNAL_RATE = 512.0  # Samples per second of all signals.
SLACK = 2  # Samples that the rounding of time stamps may cost.
_RESTORE = "Take it from the data set again."
_MICROSECONDS = 1e-6
_LARGEST_JITTER = 0.01
_TIMING = ("signal_start", "signal_rate")  # Facts of a clip's signals.
_PLAUSIBLE_RATES = (1.0, 100_000.0)


@dataclass(frozen=True)
class Signals:
    """Signals of one clip.

    Attributes:
        columns: signals (n,) float64 by name, in the unit of the file; columns that the file lacks are absent.
        rate: samples per second.
        times: (n,) float64, seconds.
    """

    columns: dict[str, NDArray[np.float64]]
    rate: float
    times: NDArray[np.float64]


def read_signals(path: Path) -> Signals:
    """Read the signals of a clip: tab-separated, a column `time` in microseconds, then one column per signal.

    Args:
        path: path of `<clip>_bio.csv`.

    Raises:
        DataError: the file is damaged, its time does not increase, or its rate is not constant within 1 %. The message
            has the number of such lines and names the first.
    """
    table = read_numbers(path, "\t", ["time"])
    if len(table.columns) < 2 or len(table) < 2:
        raise DataError(f"{path}: has no signals or only one row", _RESTORE)
    times = table["time"].to_numpy() * _MICROSECONDS
    steps = np.diff(times)
    usual = float(np.median(steps))
    # Row i is line i + 2, and step i leads from row i to row i + 1.
    faults = [
        (
            int(step) + 3,
            ": time does not increase"
            if steps[step] <= 0
            else f"comes {steps[step]:.6f} s after the line before, the others {usual:.6f} s",
        )
        for step in np.flatnonzero((steps <= 0) | (np.abs(steps - usual) > _LARGEST_JITTER * usual))
    ]
    if faults:
        raise damaged(path, faults, _RESTORE)
    rate = float((len(times) - 1) / (times[-1] - times[0]))
    if not _PLAUSIBLE_RATES[0] <= rate <= _PLAUSIBLE_RATES[1]:
        what = f"{path}: {rate:.6g} samples a second; the time does not seem to be in microseconds"
        raise DataError(what, "Write the time in microseconds, as the data set comes.")
    columns = {str(name): table[name].to_numpy() for name in table.columns[1:]}
    return Signals(columns, rate, times)


def read_columns(path: Path, columns: Sequence[str]) -> Signals:
    """Return the signals of a clip, at the rate of the data set and with all requested columns."""
    read = read_signals(path)
    if not 0.99 * SIGNAL_RATE < read.rate < 1.01 * SIGNAL_RATE:
        what = f"{path}: {read.rate:.1f} samples per second, not {SIGNAL_RATE:.0f}"
        raise DataError(what, "Check its time column, which counts microseconds.")
    for column in columns:
        if column not in read.columns:
            raise DataError(
                f"{path} has no column {column!r}, only {', '.join(read.columns)}",
                "Correct data.init_args.signals (facial EMG is in Part B alone), or the header.",
            )
    return read


def timing(read: Signals) -> dict[str, Fact]:
    """Return the time of the first sample in seconds, and the samples per second, as facts of a clip."""
    return dict(zip(_TIMING, (float(read.times[0]), read.rate), strict=True))


@dataclass(frozen=True)
class Signal:
    """Modality made of physiological signals.

    Args:
        columns: columns of the signal files: gsr, ecg, emg_trapezius; in Part B also emg_corrugator and
            emg_zygomaticus.
        highpass: lower edge of a zero-phase Butterworth filter, in Hz.
        lowpass: upper edge of the filter, in Hz.
        notch: frequency to remove, in Hz, such as that of the mains.

    Example:
        >>> heart = Signal(["ecg"], highpass=0.5, lowpass=40.0, notch=50.0)
        >>> mtpkdot.data.BioVid(root="BioVid", signals={"heart": heart}).modality_names
        ['video', 'heart']
    """

    columns: list[str]
    highpass: float | None = None
    lowpass: float | None = None
    notch: float | None = None

    def filtered(self, read: Signals) -> dict[str, NDArray[np.float32]]:
        """Return the filtered columns (n,) of a signal file by name."""
        found = {}
        for column in self.columns:
            values = read.columns[column][:, None]
            found[column] = clean(values, read.rate, highpass=self.highpass, lowpass=self.lowpass, notch=self.notch)[
                :, 0
            ]
        return found

    def read(self, path: Path) -> Content:
        """Read and filter a signal file of a clip, `<clip>_bio.csv`.

        Raises:
            DataError: the file is damaged, lacks a column, or has another rate.
        """
        read = read_columns(path, self.columns)
        return Content(timing(read), {}, {f"signal.{name}": values for name, values in self.filtered(read).items()})

    def cut(self, content: Content, excerpt: Excerpt) -> tuple[Tensor, Tensor]:
        """Cut a clip that was read.

        Args:
            content: the clip, see `read`.
            excerpt: the part to use.

        Returns:
            The samples (1, T, C) as steps, and their mask (1, T) bool.

        Raises:
            DataError: the clip does not last from the beginning to the end of the part.
        """
        begin, rate = (float(content.facts[name]) for name in _TIMING)
        available = float(len(next(iter(content.large.values()))))
        for end, second in excerpt.lacks(SIGNAL_RATE, begin, rate=rate, available=available, slack=SLACK):
            reach = f"{'begin' if end == 'start' else 'end'} at {second:.2f} s"
            what = f"the signals {reach}, and the student reads {excerpt.start:g} to {excerpt.stop:g} s"
            raise DataError(what, "Give a longer recording.")
        times = (np.array([value]) for value in (begin, rate, available))
        starts, length = excerpt.starts(SIGNAL_RATE, *times), excerpt.samples(SIGNAL_RATE)
        nameless = np.full(1, "")
        one = nameless, nameless, None
        clips = SignalClips(MemoryStore.of(content), *one, starts=starts, length=length, columns=self.columns)
        x = clips.read(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
        return x, torch.from_numpy(np.repeat((starts >= 0)[:, None], length, axis=1))
