"""Masks: recorded steps of an array, and values that were never written."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtpkdot.data.batch import BoolArray, FloatArray
from mtpkdot.errors import DataError


def recorded_steps(path: Path, mask: npt.NDArray[Any], shape: tuple[int, ...], values: FloatArray) -> BoolArray:
    """Return a mask as (n, T) bool, True for recorded steps.

    Masks of other kinds look much like it and mean the opposite: additive ones (0 and -inf), those that are True for
    padding.

    Args:
        path: file of the mask.
        mask: mask of bool, or 0 and 1.
        shape: shape of the features in the file.
        values: (n, T, D) features.

    Raises:
        DataError: the shape or values do not fit, nothing is recorded, or all features other than 0 lie in unrecorded
            steps.
    """
    if mask.shape != values.shape[:2]:
        raise DataError(
            f"{path}: the mask has the shape {mask.shape}, the features {shape}",
            f"Write a mask of shape {values.shape[:2]}.",
        )
    check_written(path, "mask", mask, None)
    if mask.dtype.kind not in "fiub" or not np.isin(mask, (0, 1)).all():
        found = np.unique(mask)
        listed = ", ".join(map(str, found[:4].tolist())) + (", ..." if len(found) > 4 else "")
        raise DataError(
            f"{path}: the mask holds {listed} ({mask.dtype}), and not True and False or 1 and 0",
            "Write True where a step was recorded: `mask == 0` of an additive mask (0 and -inf), `mask > 0` of 1 and "
            "-1, `mask > 0.5` of confidences.",
        )
    recorded = np.ascontiguousarray(mask, dtype=np.bool_)
    if not recorded.any():
        raise DataError(
            f"{path}: the mask is 0 throughout, so that nothing was recorded",
            "Write True where a step was recorded: `mask == 0` of an additive mask (0 and -inf), or no mask.",
        )
    content = np.isfinite(values) & (values != 0)
    if not recorded.all() and not content[recorded].any() and content[~recorded].any():
        raise DataError(
            f"{path}: the mask is 1 where all features are 0 or no number, and 0 where they are not",
            "Write True where a step was recorded, `~mask` of a mask that is True for padding.",
        )
    return recorded


def check_written(path: Path, name: str, array: npt.NDArray[Any], recorded: BoolArray | None) -> None:
    """Raise an error for values that an HDF5 file declares and does not hold, unless the mask marks them as absent.

    Args:
        path: the file.
        name: name of the array in it.
        array: a masked array if values were never written, see `mtpkdot.data.tables.hierarchical.read_datasets`.
        recorded: (n, T) mask of features; None for other arrays.

    Raises:
        DataError: a recorded value was never written.
    """
    if not isinstance(array, np.ma.MaskedArray):
        return
    absent: BoolArray = np.ma.getmaskarray(array)
    if recorded is not None:
        absent = np.asarray(absent.any(axis=-1))
        absent &= recorded if array.ndim == 3 else recorded[:, 0]
    if absent.any():
        raise DataError(
            f"{path}: {int(absent.any(axis=tuple(range(1, absent.ndim))).sum())} of {len(array)} samples have parts of "
            f"{name!r} that were never written (chunks without content, which read as {array.fill_value})",
            "Write the file again to its end, or mark these steps as not recorded in `mask`.",
        )
