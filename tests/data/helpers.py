"""Small data sets for the tests of the data layer, and what an error must look like."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from safetensors.numpy import save_file

from mtpkdot.data import FeatureData, Samples
from mtpkdot.errors import DataError

# The first example of a test pays for imports, so no single example has a deadline.
quick = settings(deadline=None, max_examples=30)

ARRAY_SUFFIXES = (".npz", ".h5", ".hdf5", ".safetensors")


def complaint(action: Callable[[], Any]) -> str:
    """What the user reads when `action` meets bad data: one line that ends with a next step."""
    with pytest.raises(DataError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.step.strip()
    assert message.endswith(caught.value.step)
    return message


def read_or_rejected(action: Callable[[], Any]) -> Any:
    """The result, or None after an orderly rejection; anything else is a traceback and fails the test."""
    try:
        return action()
    except DataError:
        return None


def cohort(sizes: list[int], **options: Any) -> Samples:
    """Samples of subjects s00, s01, ... with that many clips each, without features."""
    subjects = np.repeat([f"s{number:02d}" for number in range(len(sizes))], sizes)
    n = len(subjects)
    return Samples(
        **{
            "ids": np.array([f"clip{number:03d}" for number in range(n)]),
            "subjects": subjects,
            "target": np.arange(n) % 2,
            "labelled": np.ones(n, dtype=np.bool_),
            "target_names": ["y"],
            "class_names": ["a", "b"],
            "features": {},
            "masks": {},
            **options,
        }
    )


def write_arrays(
    path: Path, values: np.ndarray, ids: list[str] | np.ndarray | None = None, mask: np.ndarray | None = None
) -> Path:
    """Write features in the format of the path's suffix; `.npy` keeps neither ids nor mask."""
    arrays = {"features": values} | ({} if mask is None else {"mask": mask})
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, **arrays, **({} if ids is None else {"ids": np.array(ids)}))
    elif path.suffix in (".h5", ".hdf5"):
        with h5py.File(path, "w") as file:
            for name, array in (arrays | ({} if ids is None else {"ids": list(ids)})).items():
                file[name] = array
    else:
        listed = None if ids is None else {"ids": json.dumps(list(ids))}
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path, metadata=listed)
    return path


def write_features(path: Path, ids: list[str], values: np.ndarray) -> Path:
    """Write (n, D) features with their ids as a table or as arrays, by the path's suffix."""
    if path.suffix not in (".csv", ".parquet"):
        return write_arrays(path, values, ids)
    table = pd.DataFrame(values, columns=[f"f{number}" for number in range(values.shape[1])])
    table.insert(0, "id", ids)
    return write_table(path, table)


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a table as CSV or Parquet, by the path's suffix."""
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_csv(path, index=False)
    return path


def write_text(path: Path, text: str | bytes) -> Path:
    """Write a file as it stands."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@dataclass
class Study:
    """Six subjects with four clips each in a folder: change its tables, then ask for `data`.

    Attributes:
        folder: where the files are written.
        manifest: id (`000`, `001`, ...), subject, split, fold, label (two classes), arousal.
        features: per modality (24, D) features in the manifest's order.
        paths: file per modality; written by `data` unless the test has replaced it.
    """

    folder: Path
    manifest: pd.DataFrame = field(init=False)
    features: dict[str, np.ndarray] = field(init=False)
    paths: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        random = np.random.default_rng(7)
        number = np.arange(24)
        self.manifest = pd.DataFrame(
            {
                "id": [f"{i:03d}" for i in number],
                "subject": [f"p{i // 4}" for i in number],
                "split": np.repeat(["train", "validation", "test"], [12, 4, 8]),
                "fold": number // 8,
                "label": np.where(number % 2 == 0, "calm", "pain"),
                "arousal": random.uniform(-1, 1, 24).round(3),
            }
        )
        self.features = {
            "video": (5 + 3 * random.normal(size=(24, 3))).astype(np.float32),
            "signal": random.normal(size=(24, 2)).astype(np.float32),
        }

    @property
    def ids(self) -> list[str]:
        """Ids in the manifest's order."""
        return self.manifest["id"].tolist()

    def unlabel(self, *rows: int) -> None:
        """Empty the targets of these rows."""
        self.manifest.loc[list(rows), ["label", "arousal"]] = None

    def data(self, **options: Any) -> FeatureData:
        """Write what the test has not written itself, and open it."""
        manifest = write_table(self.folder / "manifest.csv", self.manifest)
        for name, values in self.features.items():
            if name not in self.paths:
                write_features(self.folder / f"{name}.csv", self.ids, values)
        paths = {name: str(self.paths.get(name, self.folder / f"{name}.csv")) for name in self.features}
        return FeatureData(str(manifest), paths, **{"target": "label", "prevalent": "video", **options})
