"""How far a long piece of work has come: a bar in a terminal, a line a minute in a log."""

import sys
from threading import RLock
from typing import Any

from tqdm import tqdm

_MINUTE = 60.0  # seconds
# Of threads alone: tqdm's own is of processes too, and the system would warn of what a killed process leaves of it.
tqdm.set_lock(RLock())


class _Lines:
    """Takes what tqdm draws again and again in one place."""

    def write(self, text: str) -> None:
        """One line each time."""
        if line := text.strip():
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        """Into the log at once."""
        sys.stderr.flush()


def progress(total: int, done: int, what: str, unit: str, leave: bool = True, shown: bool = True) -> "tqdm[Any]":
    """A tqdm bar that goes on from what is done.

    Args:
        total: steps of the work.
        done: how many of them are done before it starts.
        what: title.
        unit: name of a step.
        leave: keep the bar in the terminal when the work is done.
        shown: false for a process that is not the one that reports.
    """
    options: dict[str, Any] = {"total": total, "initial": done, "desc": what, "unit": unit, "smoothing": 0.05}
    options |= {"leave": leave, "disable": not shown}
    if sys.stderr.isatty():
        return tqdm(**options)
    told = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed}, {remaining} left"
    pace = {"delay": _MINUTE, "mininterval": _MINUTE, "maxinterval": _MINUTE, "miniters": 1}
    return tqdm(**options, **pace, file=_Lines(), bar_format=told)
