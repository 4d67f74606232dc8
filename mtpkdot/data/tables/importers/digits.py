"""Handwritten digits bundled with scikit-learn (8 x 8 pixels): the student sees the lower half, the teacher all.

An example without faces, which shows that modality names are data. The writers are unknown, so it is split by image.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from mtpkdot.errors import DataConfigError


def convert(source: Path | None, out: Path, train: int = 300, labelled: int | None = None, seed: int = 0) -> list[str]:
    """Write both halves of the images as feature files, and the manifest.

    Args:
        source: None, or `bundled`: the images come with scikit-learn.
        out: folder of `manifest.csv`, `lower.npz` and `upper.npz`.
        train: training images; 300 more validate, the rest is the test part.
        labelled: number of training images that keep their label; None for all.
        seed: seed of the random split.

    Returns:
        A line for each written file.

    Raises:
        DataError: the source is another one, or the numbers exceed the 1,797 images.
    """
    from sklearn.datasets import load_digits

    if source is not None and str(source) != "bundled":
        raise DataConfigError(f"digits come with scikit-learn, not from {source}", "Name `bundled` as SRC, or none.")
    images, digits = load_digits(return_X_y=True)
    validation = 300
    if not 1 <= train <= len(images) - 2 * validation:
        raise DataConfigError(f"train is {train}", f"Choose 1 to {len(images) - 2 * validation}.")
    if labelled is not None and not 1 <= labelled <= train:
        raise DataConfigError(f"labelled is {labelled}", f"Choose 1 to {train}.")
    order = np.random.default_rng(seed).permutation(len(images))
    part = np.full(len(images), "test", dtype="<U10")
    part[order[:train]] = "train"
    part[order[train : train + validation]] = "validation"
    ids = np.array([f"image{i:04d}" for i in range(len(images))], dtype=np.str_)
    hidden = np.zeros(len(images), dtype=np.bool_)
    hidden[order[labelled if labelled is not None else train : train]] = True
    target = pd.Series(digits).astype("Int64").mask(hidden)
    pd.DataFrame({"id": ids, "split": part, "digit": target}).to_csv(out / "manifest.csv", index=False)
    halves = images.reshape(len(images), 8, 8).astype(np.float32)
    for name, rows in (("upper", slice(0, 4)), ("lower", slice(4, 8))):
        np.savez_compressed(out / f"{name}.npz", features=halves[:, rows].reshape(len(images), 32), ids=ids)
    known = train if labelled is None else labelled
    tested = len(images) - train - validation
    return [f"manifest.csv: {train} train ({known} labelled), {validation} validation, {tested} test"]
