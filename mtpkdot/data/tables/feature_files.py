"""Feature files: tables with a sample id, or arrays (n, D) and (n, T, D)."""

import hashlib
import json
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtpkdot.data.batch import BoolArray, FloatArray, StrArray
from mtpkdot.data.ids import alike, as_ids, difference
from mtpkdot.data.tables.masks import check_written, recorded_steps
from mtpkdot.data.tables.published import advice
from mtpkdot.data.tables.reading import UNNAMED_INDEX, as_numbers, kind, place, plain_text, read_table
from mtpkdot.data.tables.roles import written
from mtpkdot.errors import DataConfigError, DataError
from mtpkdot.extras import require
from mtpkdot.limits import check_bytes

if TYPE_CHECKING:  # Tables and NumPy files need no torch.
    from torch import Tensor

_RESERVED = ("ids", "mask")
_HIERARCHICAL = (".h5", ".hdf5")


@dataclass(frozen=True)
class FeatureFile:
    """Features as they lie in a file.

    Attributes:
        values: (n, T, D); T = 1 for tables and arrays (n, D).
        mask: (n, T) bool, True where the step was recorded.
        ids: (n,) sample ids in Unicode NFC, or None for arrays in the manifest's row order.
        columns: (D,) names for error messages.
    """

    values: FloatArray
    mask: BoolArray
    ids: StrArray | None
    columns: list[str]


def read_features(path: Path, id_column: str, taken: Collection[str] = ()) -> FeatureFile:
    """Read the features of one modality.

    Args:
        path: path of a `.csv` or `.parquet` with the id column and numbers in all others; `.npy`; `.npz`, `.h5` or
            `.safetensors` with one array of features and optionally `ids` (n,) and `mask` (n, T) of bool or 0 and 1.
        id_column: name of the id column of tables; in Parquet it may be the index.
        taken: names of columns that are no features, see `mtpkdot.data.tables.roles.no_features`.

    Returns:
        The features, in the order of the file.

    Raises:
        DataError: the file is missing, unreadable or of an unknown kind, or has duplicate ids, wrong shapes, a mask of
            other values, or a column that is no feature.
    """
    if not path.is_file():
        raise DataError(f"the feature file {path} does not exist", advice(path))
    if kind(path) in (".csv", ".parquet"):
        return _read_table(path, id_column, taken)
    reader = _READERS.get(kind(path))
    if reader is None:
        raise DataConfigError(
            f"{path}: features of the kind {path.suffix or 'without suffix'!r} are not supported",
            "Use .csv, .parquet, .npy, .npz, .h5 or .safetensors.",
        )
    with _reading(path), np.errstate(over="ignore"):
        return _from_arrays(path, reader(path))


def digest_features(path: Path) -> str:
    """Return the SHA-256 of a feature file, including other files that it reads (.h5).

    Raises:
        DataError: a file that it reads is missing.
    """
    with _reading(path), path.open("rb") as file:
        own = hashlib.file_digest(file, "sha256")
    if kind(path) in _HIERARCHICAL:
        require("h5py")
        from mtpkdot.data.tables.hierarchical import digest_elsewhere

        with _reading(path):
            own.update(digest_elsewhere(path).encode())
    return own.hexdigest()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert errors of a damaged file, or of one of another shape, into a line within the block."""
    try:
        yield
    except _UNREADABLE as error:
        message = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} cannot be read ({message})", "Write it again: plain arrays of numbers, ids as text or integers."
        ) from error


# Errors that NumPy, h5py and zipfile raise for a damaged file.
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


def _read_table(path: Path, id_column: str, taken: Collection[str]) -> FeatureFile:
    table = read_table(path, [id_column])
    _check_columns(path, [str(name) for name in table.columns], id_column, taken)
    numbers = table.drop(columns=id_column)
    if numbers.empty:
        raise DataError(f"{path} has no feature columns or no rows", "Add columns of numbers beside the id.")
    _check_names(path, numbers)
    empty = np.flatnonzero(table[id_column].isna())
    if len(empty):
        raise DataError(f"{path}, {place(path, table.index[empty[0]])}: the column {id_column!r} is empty", "Fill it.")
    ids = as_ids(table[id_column])
    for name in [name for name, dtype in numbers.dtypes.items() if dtype.kind not in "fiub"]:
        column = numbers[name]
        numbers[name], wrong = as_numbers(column)
        if wrong.any():
            row, count = int(np.argmax(wrong)), int(wrong.sum())
            more = f" ({count} cells of the column are not)" if count > 1 else ""
            raise DataError(
                f"{path}, sample {str(ids[row])!r}: {name!r} is {column.iloc[row]!r}, not a number{more}",
                "Remove the column, or write numbers.",
            )
    _check_unique(path, table[id_column].tolist(), ids)
    with np.errstate(over="ignore"):
        values = numbers.to_numpy(dtype=np.float32, na_value=np.nan)[:, None, :]
    return FeatureFile(values, np.ones(values.shape[:2], dtype=np.bool_), ids, [str(c) for c in numbers.columns])


def _check_columns(path: Path, names: list[str], id_column: str, taken: Collection[str]) -> None:
    """Raise an error if a table lacks the id, or repeats a column of the manifest, which would leak the target."""
    if id_column not in names:
        pair = alike([id_column], names)
        hint = f"; its {pair[1]!r} is another name: {pair[2]}" if pair else ""
        raise DataError(
            f"{path} has no column {id_column!r} to join on, only {', '.join(names[:5])}...{hint}",
            "Add the sample id, or name its column with data.init_args.id.",
        )
    twice = [name for name in names if written(name) in taken and name != id_column]
    if twice:
        raise DataError(
            f"{path} has the column {twice[0]!r}, which describes the samples in the manifest and is not a feature",
            "Remove it there (or rename it, if it is a feature of that name).",
        )


def _check_names(path: Path, numbers: pd.DataFrame) -> None:
    """Raise an error for columns that come from how the table was written, not from what was measured."""
    for name in map(str, numbers.columns):
        if name.startswith("Unnamed: ") and numbers[name].isna().all():
            raise DataError(
                f"{path} has a column without a name or a value, as a trailing separator in every line makes",
                "Remove the separators at the ends of the lines.",
            )
        if name.startswith("Unnamed: ") or UNNAMED_INDEX.fullmatch(name):
            raise DataError(
                f"{path} has a column without a name ({name}), as tables written with their row index have, or lines "
                "that end in a separator (a trailing comma)",
                "Write it without the index (index=False), which would reveal the order of the samples, and without "
                "trailing separators.",
            )


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
                    raise ValueError(f"its member {name!r} is not a .npy array")
                with archive.zip.open(name) as member:
                    count += _declared(member)
            check_bytes(count, path)
            return {name: archive[name] for name in archive.files}


def _declared(file: IO[bytes]) -> int:
    """Return the size in bytes of the array that a .npy header declares."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    return math.prod(shape) * dtype.itemsize


def _read_h5(path: Path) -> dict[str, npt.NDArray[Any]]:
    require("h5py")
    from mtpkdot.data.tables.hierarchical import read_datasets

    return read_datasets(path)


def _read_safetensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError, safe_open

    check_bytes(path.stat().st_size, path)  # A header that declares anything else is refused.
    try:
        # As tensors: NumPy has no types of 8 bits, nor bfloat16.
        with safe_open(path, framework="pt") as file:
            arrays = {name: _widened(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - not a dict
            # Tensors cannot hold text, so ids may come as a JSON list in the file's metadata.
            listed = (file.metadata() or {}).get("ids")
    except (SafetensorError, AttributeError) as error:  # of a type that this version of torch lacks
        raise ValueError(str(error)) from error
    return arrays if listed is None else {**arrays, "ids": np.array(json.loads(listed), dtype=np.str_)}


def _widened(tensor: "Tensor") -> npt.NDArray[Any]:
    """Return a tensor as an array; types that NumPy lacks become single precision."""
    from torch import bfloat16

    if tensor.is_floating_point() and (tensor.itemsize < 2 or tensor.dtype == bfloat16):
        tensor = tensor.float()
    array: npt.NDArray[Any] = tensor.numpy()
    return array


_READERS: dict[str, Callable[[Path], dict[str, npt.NDArray[Any]]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".h5": _read_h5,
    ".hdf5": _read_h5,
    ".safetensors": _read_safetensors,
}

SUFFIXES = (".csv", ".parquet", *_READERS)  # Suffixes of the files that `read_features` reads.


def _from_arrays(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> FeatureFile:
    named = [name for name in arrays if name not in _RESERVED]
    if len(named) != 1 and "features" not in named:
        raise DataError(
            f"{path} holds {len(named)} arrays ({', '.join(named)}), of which one must be the features",
            "Name it `features`, or keep one array beside `ids` and `mask`.",
        )
    name = "features" if "features" in named else named[0]
    raw = arrays[name]
    if raw.ndim not in (2, 3) or 0 in raw.shape or raw.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: the features have the shape {raw.shape} and type {raw.dtype}",
            "Write numbers of shape (samples, features) or (samples, steps, features).",
        )
    values = np.ascontiguousarray(raw if raw.ndim == 3 else raw[:, None, :], dtype=np.float32)
    mask = np.ones(values.shape[:2], dtype=np.bool_)
    if "mask" in arrays:
        mask = recorded_steps(path, arrays["mask"], raw.shape, values)
    check_written(path, name, raw, mask)
    ids = None
    if "ids" in arrays:
        if arrays["ids"].shape != values.shape[:1]:
            raise DataError(
                f"{path}: ids of shape {arrays['ids'].shape} for {len(values)} samples", "Write one id per sample."
            )
        check_written(path, "ids", arrays["ids"], None)
        texts = [str(plain_text(value)) for value in arrays["ids"].tolist()]
        ids = as_ids(texts)
        _check_unique(path, texts, ids)
    columns = [f"feature {i}" for i in range(values.shape[2])]
    return FeatureFile(values, mask, ids, columns)


def _check_unique(path: Path, written_as: list[str], ids: StrArray) -> None:
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) == len(ids):
        return
    twice = unique[counts > 1][0]
    first, row = (int(place) for place in np.flatnonzero(ids == twice)[:2])
    how = difference(written_as[first], written_as[row])
    raise DataError(
        f"{path}, sample {row + 1}: the id {str(twice)!r} occurs twice"
        + (f" (the other is sample {first + 1}; {how})" if how else ""),
        "Keep one row of features per sample.",
    )
