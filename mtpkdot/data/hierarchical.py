"""HDF5 files: what they read, which may lie in other files."""

import math
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from mtpkdot.limits import check_bytes

_DEEPEST = 8  # virtual data sets of virtual data sets


def read_datasets(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read all data sets at the top of a file.

    Raises:
        DataError: they would take more bytes than the limit.
        ValueError: a virtual data set has a source that is not there, where HDF5 would read zeros without a word.
        OSError: the file, or one that it names, cannot be read.
    """
    with h5py.File(path, "r") as file:
        found = dict(_datasets(file))
        check_bytes(sum(math.prod(item.shape or ()) * item.dtype.itemsize for item in found.values()), path)
        return {name: np.asarray(item[()]) for name, item in found.items()}


def digest_elsewhere(path: Path) -> str:
    """Return the SHA-256 of all that a file reads from other files; empty if there is nothing.

    External links, virtual data sets and external storage leave the bytes of the outer file as they are when the
    others change.

    Raises:
        ValueError, OSError, DataError: as `read_datasets`.
    """
    digest = sha256()
    with h5py.File(path, "r") as file:
        found = {name: item for name, item in _datasets(file) if _is_elsewhere(file, item)}
        check_bytes(sum(math.prod(item.shape or ()) * item.dtype.itemsize for item in found.values()), path)
        for name, item in sorted(found.items()):
            values = np.asarray(item[()])
            digest.update(f"{name} {values.dtype.str} {values.shape} ".encode())
            digest.update(repr(values.tolist()).encode() if values.dtype.hasobject else values.tobytes())
    return digest.hexdigest() if found else ""


def _datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    for name, item in file.items():
        if item is None:
            link = file.get(name, getlink=True)
            raise ValueError(f"its {name!r} leads to {getattr(link, 'filename', '')}{link.path}, which is not there")
        if isinstance(item, h5py.Dataset):
            _check_sources(item, _DEEPEST)
            yield name, item


def _is_elsewhere(file: h5py.File, item: h5py.Dataset) -> bool:
    # A link, direct or within the file, that leads to another one.
    return bool(item.is_virtual or item.external or not Path(item.file.filename).samefile(file.filename))


def _check_sources(item: h5py.Dataset, depth: int) -> None:
    """Stop at a source of a virtual data set that is not there."""
    if not item.is_virtual:
        return
    for source in item.virtual_sources():
        if "%" in source.file_name or not depth:
            raise ValueError("its virtual data set names files by a pattern, or is nested too deep")
        if source.file_name == ".":
            inner, sources = item.file, None
        else:
            outer = Path(item.file.filename).parent
            places = (outer / source.file_name, Path(source.file_name))
            sources = next((place for place in places if place.is_file()), None)
            if sources is None:
                raise ValueError(f"its virtual data set reads {source.file_name}, which does not exist")
            inner = h5py.File(sources, "r")
        try:
            if source.dset_name not in inner:
                raise ValueError(f"its virtual data set reads {source.dset_name} of {source.file_name}: there is none")
            _check_sources(inner[source.dset_name], depth - 1)
        finally:
            if sources is not None:
                inner.close()
