"""Sharing of a data set that was read once by DataModules of the same arguments."""

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from types import FunctionType
from typing import Any, ClassVar, Self

import numpy as np


class Sharing:
    """Base class of DataModules that may take over the samples of another one with the same arguments.

    It is a class of its own because tools that read the arguments of a class confuse those of a `__new__` with those of
    the `__init__` beside it.
    """

    # Arguments that decide how loaders use the samples, and not which data are read.
    of_loaders: ClassVar[frozenset[str]] = frozenset(
        {"batch_size", "num_workers", "labelled_subjects", "labelled_seed", "standardize", "std_floor", "views", "seed"}
        | {"validation_labels"}
        | {"clip_splits", "drop_last", "select_on_test", "train_on_all"}  # Set anew by the protocol.
    )
    clip_splits: bool
    _arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the arguments, which `share` compares."""
        new = super().__new__(cls)
        named = inspect.signature(cls.__init__).bind_partial(new, *args).arguments
        new._arguments = {**dict(list(named.items())[1:]), **kwargs}
        return new

    @abstractmethod
    def use(self, other: Self) -> None:
        """Take over what has been read; a subclass that stores more of it extends this method."""

    def share(self, other: Self) -> None:
        """Take over what another DataModule has read, instead of reading it again.

        Args:
            other: DataModule of the same class and arguments, except arguments of its loaders.

        Raises:
            ValueError: the class differs, or an argument that may decide what is read.
        """
        if differing := self.differing(other):
            raise ValueError(f"{type(self).__name__} cannot take what one of another {differing[0]} has read")
        self.use(other)

    def differing(self, other: "Sharing") -> list[str]:
        """Return the names of differing arguments that may decide what is read; `class` if the classes differ."""
        if type(other) is not type(self):
            return ["class"]
        named = (self._arguments.keys() | other._arguments.keys()) - self.of_loaders
        found = [name for name in named if not _equal(self._arguments.get(name), other._arguments.get(name))]
        # A generated data set may hide labels by part.
        return sorted([*found, *(["clip_splits"] if self.clip_splits != other.clip_splits else [])])


def _equal(one: Any, other: Any) -> bool:
    """Return whether two arguments are equal; objects without an equality of their own are compared by attributes."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if "__eq__" in {name for kind in type(one).__mro__[:-1] for name in vars(kind)}:
        return bool(one == other)
    if one is other or isinstance(one, FunctionType | type) or not hasattr(one, "__dict__"):
        return one is other
    held, others = vars(one), vars(other)
    return held.keys() == others.keys() and all(_equal(held[key], others[key]) for key in held)
