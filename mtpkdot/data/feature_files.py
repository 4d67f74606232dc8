"""Feature files: tables with a sample id, or arrays (n, D) and (n, T, D)."""

import hashlib
import json
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtpkdot.data.batch import BoolArray, FloatArray, StrArray
from mtpkdot.data.importers import advice
from mtpkdot.data.tables import place, plain_text, read_table
from mtpkdot.errors import DataConfigError, DataError
from mtpkdot.extras import require
from mtpkdot.limits import check_bytes

_RESERVED = ("ids", "mask")
_HIERARCHICAL = (".h5", ".hdf5")


@dataclass(frozen=True)
class FeatureFile:
    """Features as they lie in a file.

    Attributes:
        values: (n, T, D); T = 1 for tables and arrays (n, D).
        mask: (n, T) bool, True where the step was recorded.
        ids: (n,) sample ids, or None for arrays in the manifest's row order.
        columns: (D,) names for error messages.
    """

    values: FloatArray
    mask: BoolArray
    ids: StrArray | None
    columns: list[str]


def read_features(path: Path, id_column: str) -> FeatureFile:
    """Read the features of one modality.

    Args:
        path: `.csv` or `.parquet` with the id column and numbers in all others; `.npy`; `.npz`, `.h5` or
            `.safetensors` with one array of features and optionally `ids` (n,) and `mask` (n, T).
        id_column: name of the id column of tables.

    Returns:
        The features, in the file's order.

    Raises:
        DataError: missing or unreadable file, unknown kind, duplicate ids, wrong shapes.
    """
    if not path.is_file():
        raise DataConfigError(f"the feature file {path} does not exist", advice(path))
    if path.suffix in (".csv", ".parquet"):
        return _read_table(path, id_column)
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise DataConfigError(
            f"{path}: features of the kind {path.suffix or 'without suffix'!r} are not known",
            "Use .csv, .parquet, .npy, .npz, .h5 or .safetensors.",
        )
    with _reading(path), np.errstate(over="ignore"):
        return _from_arrays(path, reader(path))


def digest_features(path: Path) -> str:
    """Return the SHA-256 of a feature file, and of all that it reads from other files (.h5).

    Raises:
        DataError: what it reads is not there.
    """
    with path.open("rb") as file:
        own = hashlib.file_digest(file, "sha256")
    if path.suffix in _HIERARCHICAL:
        require("h5py")
        from mtpkdot.data.hierarchical import digest_elsewhere

        with _reading(path):
            own.update(digest_elsewhere(path).encode())
    return own.hexdigest()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell in one line what a damaged file, or one of another shape, raises within the block."""
    try:
        yield
    except _UNREADABLE as error:
        message = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} cannot be read ({message})", "Write it again: plain arrays of numbers, ids as text or integers."
        ) from error


# What NumPy, h5py and zip files raise for a damaged file.
_UNREADABLE = (
    ValueError,
    OSError,
    KeyError,
    TypeError,
    EOFError,
    OverflowError,
    MemoryError,
    NotImplementedError,
    SyntaxError,
    RuntimeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    tokenize.TokenError,
)


def _read_table(path: Path, id_column: str) -> FeatureFile:
    table = read_table(path, [id_column])
    if id_column not in table.columns:
        raise DataConfigError(
            f"{path} has no column {id_column!r} to join on, only {', '.join(map(str, table.columns[:5]))}...",
            "Add the sample id, or name its column with data.init_args.id.",
        )
    numbers = table.drop(columns=id_column)
    if numbers.empty:
        raise DataError(f"{path} has no feature columns or no rows", "Add columns of numbers beside the id.")
    unnamed = [name for name in numbers.columns if str(name).startswith("Unnamed: ")]
    if unnamed:
        raise DataError(
            f"{path} has a column without a name, as tables written with their row index have",
            "Write it without the index (index=False): it would be a feature that tells the order of the samples.",
        )
    empty = np.flatnonzero(table[id_column].isna())
    if len(empty):
        raise DataError(f"{path}, {place(path, table.index[empty[0]])}: the column {id_column!r} is empty", "Fill it.")
    ids = np.array([str(v) for v in table[id_column]], dtype=np.str_)
    for name in numbers.columns:
        if numbers[name].dtype.kind not in "fiub":
            column = numbers[name]
            row = int(np.argmax((column.notna() & pd.to_numeric(column, errors="coerce").isna()).to_numpy()))
            raise DataError(
                f"{path}, sample {str(ids[row])!r}: {name!r} is {column.iloc[row]!r}, not a number",
                "Remove the column, or write numbers.",
            )
    _check_unique(path, ids)
    with np.errstate(over="ignore"):
        values = numbers.to_numpy(dtype=np.float32, na_value=np.nan)[:, None, :]
    return FeatureFile(values, np.ones(values.shape[:2], dtype=np.bool_), ids, [str(c) for c in numbers.columns])


def _read_npy(path: Path) -> dict[str, npt.NDArray[Any]]:
    with path.open("rb") as file:
        check_bytes(_declared(file), path)
        file.seek(0)
        array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
        return {"features": array}


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it is one .npy array")
        with archive:
            count = 0
            for name in archive.zip.namelist():
                if not name.endswith(".npy"):
                    raise ValueError(f"its member {name!r} is no .npy array")
                with archive.zip.open(name) as member:
                    count += _declared(member)
            check_bytes(count, path)
            return {name: archive[name] for name in archive.files}


def _declared(file: IO[bytes]) -> int:
    """Bytes of the array that a .npy header declares."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    return math.prod(shape) * dtype.itemsize


def _read_h5(path: Path) -> dict[str, npt.NDArray[Any]]:
    require("h5py")
    from mtpkdot.data.hierarchical import read_datasets

    return read_datasets(path)


def _read_safetensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError, safe_open

    check_bytes(path.stat().st_size, path)  # a header that declares anything else is refused
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            # Tensors cannot hold text, so ids may come as a JSON list in the file's metadata.
            listed = (file.metadata() or {}).get("ids")
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return arrays if listed is None else {**arrays, "ids": np.array(json.loads(listed), dtype=np.str_)}


_READERS: dict[str, Callable[[Path], dict[str, npt.NDArray[Any]]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".h5": _read_h5,
    ".hdf5": _read_h5,
    ".safetensors": _read_safetensors,
}

SUFFIXES = (".csv", ".parquet", *_READERS)  # of the files that `read_features` reads


def _from_arrays(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> FeatureFile:
    named = [name for name in arrays if name not in _RESERVED]
    if len(named) != 1 and "features" not in named:
        raise DataError(
            f"{path} holds {len(named)} arrays ({', '.join(named)}), of which one must be the features",
            "Name it `features`, or keep one array beside `ids` and `mask`.",
        )
    raw = arrays["features" if "features" in named else named[0]]
    if raw.ndim not in (2, 3) or 0 in raw.shape or raw.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: the features have the shape {raw.shape} and type {raw.dtype}",
            "Write numbers of shape (samples, features) or (samples, steps, features).",
        )
    values = np.ascontiguousarray(raw if raw.ndim == 3 else raw[:, None, :], dtype=np.float32)
    mask = arrays.get("mask", np.ones(values.shape[:2], dtype=np.bool_))
    if mask.shape != values.shape[:2]:
        raise DataError(
            f"{path}: the mask has the shape {mask.shape}, the features {raw.shape}",
            f"Write a mask of shape {values.shape[:2]}.",
        )
    ids = None
    if "ids" in arrays:
        if arrays["ids"].shape != values.shape[:1]:
            raise DataError(
                f"{path}: ids of shape {arrays['ids'].shape} for {len(values)} samples", "Write one id per sample."
            )
        ids = np.array([str(plain_text(value)) for value in arrays["ids"].tolist()], dtype=np.str_)
        _check_unique(path, ids)
    columns = [f"feature {i}" for i in range(values.shape[2])]
    return FeatureFile(values, np.ascontiguousarray(mask, dtype=np.bool_), ids, columns)


def _check_unique(path: Path, ids: StrArray) -> None:
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) != len(ids):
        twice = unique[counts > 1][0]
        row = int(np.flatnonzero(ids == twice)[1])
        raise DataError(
            f"{path}, sample {row + 1}: the id {str(twice)!r} occurs twice", "Keep one row of features per sample."
        )
