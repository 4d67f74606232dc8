"""Progress of a long computation: a bar in a terminal, one line per minute in a log."""

import sys
from threading import RLock
from typing import Any

from tqdm import tqdm

_MINUTE = 60.0  # seconds
# A lock of threads only: tqdm's default also locks processes, and a killed process would leave it with a warning.
tqdm.set_lock(RLock())


class _Lines:
    """Stream that turns the redrawn bar of tqdm into separate lines."""

    def write(self, text: str) -> None:
        """Write a state of the bar as a line of its own."""
        if line := text.strip():
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        """Flush the log."""
        sys.stderr.flush()


def progress(total: int, done: int, what: str, unit: str, leave: bool = True, shown: bool = True) -> "tqdm[Any]":
    """Return a tqdm bar that continues from the steps already done.

    Args:
        total: steps of the work.
        done: number of steps done before the bar starts.
        what: title of the bar.
        unit: name of a step.
        leave: keep the bar in the terminal at the end.
        shown: False for a process that does not report progress.
    """
    options: dict[str, Any] = {"total": total, "initial": done, "desc": what, "unit": unit, "smoothing": 0.05}
    options |= {"leave": leave, "disable": not shown}
    if sys.stderr.isatty():
        return tqdm(**options)
    form = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed}, {remaining} left"
    pace = {"delay": _MINUTE, "mininterval": _MINUTE, "maxinterval": _MINUTE, "miniters": 1}
    return tqdm(**options, **pace, file=_Lines(), bar_format=form)
