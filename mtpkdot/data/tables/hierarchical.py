"""HDF5 files, including the other files that they read."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from mtpkdot.limits import check_bytes

_DEEPEST = 8  # Depth of virtual data sets of virtual data sets.


def read_datasets(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read all data sets at the top level of a file.

    Returns:
        Arrays by name; a masked array if parts of it were never written, which HDF5 reads as its fill value.

    Raises:
        DataError: the data sets would take more bytes than the limit.
        ValueError: a source of a virtual data set is missing, for which HDF5 would read zeros silently.
        OSError: the file, or one that it names, cannot be read.
    """
    with h5py.File(path, "r") as file:
        found = dict(_datasets(file))
        check_bytes(sum(math.prod(item.shape or ()) * item.dtype.itemsize for item in found.values()), path)
        return {name: _read(item) for name, item in found.items()}


def digest_elsewhere(path: Path) -> str:
    """Return the SHA-256 of everything that a file reads from other files; empty if there is nothing.

    External links, virtual data sets and external storage leave the bytes of the outer file unchanged when the others
    change.

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


def _read(item: h5py.Dataset) -> npt.NDArray[Any]:
    values = np.asarray(item[()])
    absent = _never_written(item)
    if absent is None or not absent.any():
        return values
    return np.ma.MaskedArray(values, absent, fill_value=item.fillvalue)


def _never_written(item: h5py.Dataset) -> npt.NDArray[np.bool_] | None:
    """Return the values that were never written; None if all were, or if they read as NaN, which is reported elsewhere.

    Chunks that were allocated when the file was made (HDF5's early allocation) count as written.
    """
    if not item.size or (item.dtype.kind == "f" and np.isnan(item.fillvalue)):
        return None
    if item.is_virtual:
        return _unmapped(item)
    if item.chunks is None:
        stored = item.external or item.id.get_storage_size()
        return None if stored else np.ones(item.shape, dtype=np.bool_)
    declared = math.prod(-(-size // step) for size, step in zip(item.shape, item.chunks, strict=True))
    if item.id.get_num_chunks() == declared:
        return None
    absent = np.ones(item.shape, dtype=np.bool_)
    item.id.chunk_iter(lambda chunk: _clear(absent, chunk.chunk_offset, item.chunks))
    return absent


def _clear(absent: npt.NDArray[np.bool_], start: tuple[int, ...], size: tuple[int, ...]) -> None:
    absent[tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))] = False


def _unmapped(item: h5py.Dataset) -> npt.NDArray[np.bool_]:
    """Return the values of a virtual data set that no source holds, or only one that was not written completely."""
    absent = np.ones(item.shape, dtype=np.bool_)
    for source in item.virtual_sources():
        with _opened(item, source) as inner:
            lacking = _never_written(inner)
            # The position of each value is not computed: everything from a source with a gap counts as missing.
            if lacking is None or not any(lacking[part].any() for part in _selected(source.src_space, inner.shape)):
                for part in _selected(source.vspace, item.shape):
                    absent[part] = False
    return absent


def _selected(space: Any, shape: tuple[int, ...]) -> Iterator[Any]:
    """Yield the indices of the boxes of an HDF5 selection."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        yield tuple(slice(None) for _ in shape)
    elif space.is_regular_hyperslab():
        ranges = []
        for size, start, stride, count, block in zip(shape, *space.get_regular_hyperslab(), strict=True):
            offset = np.arange(size) - start
            step = max(stride, 1) if count > 1 else size  # The stride of a single block has no meaning.
            # Unlimited counts and blocks exceed the range of int64.
            inside = (offset % step < min(block, size)) & (offset // step < min(count, size))
            ranges.append(np.flatnonzero((offset >= 0) & inside))
        yield np.ix_(*ranges)
    else:
        for first, last in space.get_select_hyper_blocklist():
            yield tuple(slice(start, end + 1) for start, end in zip(first, last, strict=True))


def _datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    for name, item in file.items():
        if item is None:
            link = file.get(name, getlink=True)
            if not isinstance(link, h5py.SoftLink | h5py.ExternalLink):  # A data set in the file itself.
                raise ValueError(f"its {name!r} is damaged")
            raise ValueError(f"its {name!r} leads to {getattr(link, 'filename', '')}{link.path}, which is not there")
        if isinstance(item, h5py.Dataset):
            _check_sources(item, _DEEPEST)
            yield name, item


def _is_elsewhere(file: h5py.File, item: h5py.Dataset) -> bool:
    # A direct or internal link that leads to another one.
    return bool(item.is_virtual or item.external or not Path(item.file.filename).samefile(file.filename))


def _check_sources(item: h5py.Dataset, depth: int) -> None:
    """Raise an error if a source of a virtual data set is missing."""
    if not item.is_virtual:
        return
    for source in item.virtual_sources():
        if "%" in source.file_name or not depth:
            raise ValueError("its virtual data set names files by a pattern, or is nested too deep")
        with _opened(item, source) as inner:
            _check_sources(inner, depth - 1)


@contextmanager
def _opened(item: h5py.Dataset, source: Any) -> Iterator[h5py.Dataset]:
    """Open the data set that a source of a virtual one names."""
    found = None
    if source.file_name != ".":
        outer = Path(item.file.filename).parent
        places = (outer / source.file_name, Path(source.file_name))
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise ValueError(f"its virtual data set reads {source.file_name}, which does not exist")
    with nullcontext(item.file) if found is None else h5py.File(found, "r") as inner:
        if source.dset_name not in inner:
            raise ValueError(f"its virtual data set reads {source.dset_name} of {source.file_name}: there is none")
        yield inner[source.dset_name]
