"""Remarks on usable data: left-out and filled-in values, and probable mistakes."""

from pathlib import Path

import numpy as np

from mtpkdot.data.batch import BoolArray, FloatArray, Samples, StrArray
from mtpkdot.data.ids import twins
from mtpkdot.data.tables.manifest import Manifest

_MOST_NAMES = 12  # Names in a line.
_FEWEST_LABELS = 20


def of_labels(manifest: Manifest) -> list[str]:
    """Return remarks on a manifest: values that count as no label, and names that look like others."""
    remarks = [
        f"{count or 'no'} targets are {word!r} and taken as missing (missing_labels)"
        for word, count in manifest.without.items()
    ]
    for what, names in (("classes", manifest.class_names), ("subjects", manifest.subjects)):
        pair = twins([] if names is None else np.unique(names).tolist())
        if pair:
            remarks.append(f"the {what} {pair[0]!r} and {pair[1]!r} are taken for two: {pair[2]}")
    return remarks


def of_dropped(path: Path, subjects: StrArray | None, found: BoolArray, keep: BoolArray) -> list[str]:
    """Return a remark on the rows of a manifest that are no samples; empty if all are.

    Args:
        path: the manifest.
        subjects: (n,) subject of each row; None if unknown.
        found: (n,) True for rows with features.
        keep: (n,) True for rows that are samples.
    """
    if keep.all():
        return []
    parts = [f"{len(keep)} rows of {path.name} are {int(keep.sum())} samples"]
    absent, broken = int((~found).sum()), int((found & ~keep).sum())
    parts += [f"{absent} dropped whose features are missing"] if absent else []
    parts += [f"{broken} dropped whose features are NaN or infinite"] if broken else []
    remarks = [", ".join(parts)]
    if subjects is not None:
        people, left = (len(np.unique(names)) for names in (subjects, subjects[keep]))
        remarks += [f"{people - left} of {people} subjects have no sample left"] if left < people else []
    return remarks


def of_filled(modality: str, columns: list[str], values: FloatArray, mask: BoolArray, become: str) -> list[str]:
    """Return remarks on values of a modality that are no numbers, and on columns without any; empty if none.

    Args:
        modality: name of the modality.
        columns: (D,) names of the columns.
        values: (n, T, D), NaN or infinite where they are no numbers.
        mask: (n, T) True for recorded steps; the others are ignored.
        become: description of their replacement.

    Example:
        `face: 48 values of 1 column, 48 samples, are NaN and become the training mean; no number at all in 'au45'`
    """
    filled = ~np.isfinite(values) & mask[:, :, None]
    if not filled.any():
        return []
    touched = filled.any(axis=(0, 1))
    infinite = int(np.isinf(values[filled]).sum())
    kind = f"NaN or infinite ({infinite} infinite)" if infinite else "NaN"
    count, samples = int(filled.sum()), int(filled.any(axis=(1, 2)).sum())
    columns_of = f"{int(touched.sum())} column{'s' if touched.sum() > 1 else ''}"
    line = f"{modality}: {count} values of {columns_of}, {samples} samples, are {kind} and become {become}"
    some = np.asarray((mask[:, :, None] & ~filled).any(axis=(0, 1))).tolist()
    empty = [column for column, known in zip(columns, some, strict=True) if not known]
    if empty:
        more = f" and {len(empty) - _MOST_NAMES} more" if len(empty) > _MOST_NAMES else ""
        line += f"; no number at all in {', '.join(map(repr, empty[:_MOST_NAMES]))}{more}"
    return [line]


def of_giveaways(modality: str, columns: list[str], values: FloatArray, samples: Samples) -> list[str]:
    """Return a remark on features that equal the target: one value for each class, or the very numbers.

    With few labels a feature may match by chance: fewer than 20 are not examined.

    Args:
        modality: name of the modality.
        columns: (D,) names of the columns.
        values: (n, D) features.
        samples: the samples, for their targets.
    """
    known = samples.labelled
    if known.ndim > 1 or known.sum() < _FEWEST_LABELS:
        return []
    target, features = samples.target[known], values[known]
    if samples.class_names:
        order = np.argsort(target, kind="stable")
        starts = np.flatnonzero(np.diff(target[order], prepend=-1))
        low, high = (of.reduceat(features[order], starts, axis=0) for of in (np.minimum, np.maximum))
        distinct = np.diff(np.sort(low, axis=0), axis=0).all(axis=0)
        same = (low == high).all(axis=0) & distinct & (len(starts) > 1)
    else:
        same = np.any([(features == wanted[:, None]).all(axis=0) for wanted in target.T], axis=0)
    found = [column for column, is_target in zip(columns, same.tolist(), strict=True) if is_target]
    names = ", ".join(map(repr, found[:_MOST_NAMES]))
    return [f"{modality}: {names} reveals the target of all {len(target)} labelled samples"] if found else []
