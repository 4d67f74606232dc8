"""Parsers of the verbs whose arguments are fixed."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mtpkdot.errors import ConfigError


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help formatter that shows defaults, except empty ones."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, []) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Parser that reports mistakes by a `ConfigError`, and takes no abbreviated options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **options)

    def error(self, message: str) -> None:  # type: ignore[override] # raises, as the base exits
        """Raise a `ConfigError`."""
        raise ConfigError(message, f"See `{self.prog} --help`.")


def part_of(text: str) -> tuple[int, int]:
    """Return the part of a work that a text like `3/10` names.

    Raises:
        ConfigError: the text names no part.
    """
    which, _, count = text.partition("/")
    if not (which.isdecimal() and count.isdecimal() and 1 <= int(which) <= int(count)):
        raise ConfigError(f"--part is {text!r}", "Name one of n parts as 1/n, 2/n ... n/n.")
    return int(which), int(count)


_silent = ContextVar("silent", default=False)


def next_step(command: str, purpose: str) -> None:
    """Print the command that usually comes next.

    Args:
        command: the command line.
        purpose: purpose of the command.
    """
    if not _silent.get():
        print(f"Next: `{command}` ({purpose})", flush=True)


@contextmanager
def within_another_verb() -> Iterator[None]:
    """Suppress the next step of verbs within the block, since the verb that calls them prints its own."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)
