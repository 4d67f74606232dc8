"""Try a user's own class on a small input, so that a wrong signature is found before anything is trained."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

# Raised by a class with another signature, or for other shapes, than it is given.
_RAISED = (RuntimeError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)


@contextmanager
def tried(build: Callable[..., Any], expected: str) -> Iterator[None]:
    """Within it, a user's class is built and called; the random state is left as it was.

    Args:
        build: makes an object of the class.
        expected: what the class has to take and return, for the error.

    Raises:
        ValueError: the class fails; a mistake of this package's own classes keeps its traceback.
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
    """Return the name of the class that a factory makes."""
    return str(getattr(_class_of(build), "__name__", type(build).__name__))


def _class_of(build: Any) -> Any:
    """Return the class or function behind a partial, or behind a factory of jsonargparse."""
    while isinstance(build, partial):
        classes = [value for value in build.args if isinstance(value, type)]
        build = classes[0] if classes else build.func
    return build
