"""Trial of a user's own class on a small input, which detects a wrong signature before any training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

# Errors that a wrong signature or wrong shapes may raise.
_RAISED = (RuntimeError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)


@contextmanager
def tried(build: Callable[..., Any], expected: str) -> Iterator[None]:
    """Convert errors of a user's class within the block to a ValueError, and restore the random state afterwards.

    Args:
        build: factory of the class.
        expected: the arguments and results that the class must have, for the error.

    Raises:
        ValueError: the class fails; an error in a class of this package keeps its traceback.
    """
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            yield
    except _RAISED as error:
        if _class_of(build).__module__.startswith("mtpkdot."):
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{named(build)} fails: {message}; {expected}") from error


def named(build: Callable[..., Any]) -> str:
    """Return the name of the class that a factory builds."""
    return str(getattr(_class_of(build), "__name__", type(build).__name__))


def _class_of(build: Any) -> Any:
    """Return the class or function behind a partial, or behind a factory of jsonargparse."""
    while isinstance(build, partial):
        classes = [value for value in build.args if isinstance(value, type)]
        build = classes[0] if classes else build.func
    return build
