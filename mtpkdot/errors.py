"""Errors that the user can correct: one line each, with the place, what is wrong and the next step.

Any other error is a fault of this package and keeps its traceback.
"""

import signal
from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

TERMINATED = 128 + signal.SIGTERM  # exit code


class UserError(Exception):
    """Base of the errors that only the user can correct.

    Args:
        what: what is wrong and where (file, row, key).
        step: what to do next, as an imperative.

    Attributes:
        code: exit code of the program.

    Example:
        >>> raise UserError("runs/a holds no model", "Name another run.")
        Traceback (most recent call last):
        mtpkdot.errors.UserError: runs/a holds no model. Name another run.
    """

    code: ClassVar[int] = 2

    def __init__(self, what: str, step: str) -> None:
        super().__init__(f"{what.rstrip('.')}. {step}")
        self.what = what
        self.step = step

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, str]]:
        """Return what pickle needs to raise in this process an error of another one."""
        return type(self), (self.what, self.step)


class ConfigError(UserError):
    """Configuration that cannot be run.

    Example:
        >>> raise ConfigError("student.model.lr is -1", "Choose a positive rate.")
        Traceback (most recent call last):
        mtpkdot.errors.ConfigError: student.model.lr is -1. Choose a positive rate.
    """


class DataError(UserError):
    """Data that are damaged, missing or contradictory.

    Example:
        >>> raise DataError("face.npz: row 3 is not finite", "Correct it.")
        Traceback (most recent call last):
        mtpkdot.errors.DataError: face.npz: row 3 is not finite. Correct it.
    """

    code: ClassVar[int] = 1


class DecodeError(DataError):
    """Media file that cannot be decoded."""


class DataConfigError(ConfigError, DataError):
    """Call or data section that names something the data do not have."""

    code: ClassVar[int] = 2


class UnwritableError(DataError):
    """File that cannot be written to its place."""

    code: ClassVar[int] = 2


class RunError(UserError):
    """Run or stored stage that is missing, incomplete or of another configuration.

    Example:
        >>> raise RunError("runs/a is not a run", "Name a folder that `mtpkdot fit` has written.")
        Traceback (most recent call last):
        mtpkdot.errors.RunError: runs/a is not a run. Name a folder that `mtpkdot fit` has written.
    """


class OtherRunError(RunError):
    """Folder that holds a run of another configuration, of other data, or of a version that trained differently."""


class DivergedError(UserError):
    """Training whose loss, gradients or outputs are no longer finite."""

    code: ClassVar[int] = 1


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `Did you mean ...? ` for the closest of the known words, or an empty string if none is close.

    Example:
        >>> nearest("val_loss", ["val/accuracy", "val/loss"])
        'Did you mean val/loss? '
    """
    found = get_close_matches(word, list(known), n=1)
    return f"Did you mean {found[0]}? " if found else ""


class Terminated(SystemExit):
    """Exit of the program after a termination signal, with the exit code of a terminated program.

    Args:
        signum: the signal; None where another process of the run has received it.
    """

    def __init__(self, signum: int | None) -> None:
        super().__init__(TERMINATED)
        self.signum = signum
