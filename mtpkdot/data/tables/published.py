"""Advice on published data sets of tables: how to obtain their manifest and feature files."""

from collections.abc import Iterable
from pathlib import Path

from mtpkdot.data.registry import IMPORTERS
from mtpkdot.errors import DataConfigError


def advice(path: Path) -> str:
    """Return advice for a missing manifest or feature file, whose folder may be that of a known data set."""
    name = path.parent.name
    if name not in IMPORTERS:
        return "Correct the path, or make the file with `mtpkdot data import`."
    source = IMPORTERS[name].source
    if source is None:
        return f"Make it with `mtpkdot data import {name} {path.parent}`, which downloads nothing."
    return f"Make it with `mtpkdot data import {name} SRC {path.parent}`; SRC is {source}."


def check_source(folder: Path, names: Iterable[str], of: str) -> None:
    """Raise an error if a folder lacks a file of a data set.

    Args:
        folder: folder of the download.
        names: names of the files.
        of: name of the data set, a key of `registry.IMPORTERS`.

    Raises:
        DataConfigError: a file is missing.
    """
    lost = [name for name in names if not (folder / name).is_file()]
    if lost:
        more = f" (and {len(lost) - 1} more of its files)" if len(lost) > 1 else ""
        raise DataConfigError(
            f"{folder / lost[0]} does not exist{more}", f"SRC is {IMPORTERS[of].source}, as published."
        )
