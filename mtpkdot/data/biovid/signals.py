"""Signals of a clip of BioVid: a text file over time."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtpkdot.data.media.files import damaged, read_numbers
from mtpkdot.errors import DataError

_RESTORE = "Take it from the data set again."
_MICROSECONDS = 1e-6
_LARGEST_JITTER = 0.01
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
