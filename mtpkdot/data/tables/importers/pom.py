"""POM: the sequences released with the Memory Fusion Network (Zadeh et al., AAAI 2018), in its released split.

All-zero steps mean missing. The file names no people, so nothing here is subject-independent by proof; the ratings come
without names and are numbered.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from mtpkdot.data.tables.feature_files import read_features
from mtpkdot.data.tables.published import check_source
from mtpkdot.errors import DataConfigError, DataError

MODALITIES = ("video", "audio")
SPLITS = {"train": "train", "valid": "validation", "test": "test"}


def convert(source: Path | None, out: Path) -> list[str]:
    """Write the sequences with masks, and two manifests.

    Args:
        source: folder with `{video,audio,y}_{train,valid,test}.h5`.
        out: folder of `video.npz`, `audio.npz`, `manifest.csv` (all clips) and `manifest_video.csv` (all training
            clips; validation and test clips that have any video, on which a student can be evaluated).

    Returns:
        A line for each written file.

    Raises:
        DataError: a file is missing or does not fit the others.
    """
    if source is None:
        raise DataConfigError("POM needs the folder of its .h5 files", "Call `mtpkdot data import pom SRC OUT`.")
    check_source(source, (f"{kind}_{split}.h5" for kind in (*MODALITIES, "y") for split in SPLITS), "pom")
    ratings = {split: _array(source / f"y_{split}.h5") for split in SPLITS}
    frames = []
    for split, part in SPLITS.items():
        values = ratings[split][:, 0, :]
        frame = pd.DataFrame(values, columns=[f"rating{i + 1:02d}" for i in range(values.shape[1])])
        frame.insert(0, "split", part)
        frame.insert(0, "id", [f"{split}{i:04d}" for i in range(len(frame))])
        frames.append(frame)
    manifest = pd.concat(frames, ignore_index=True)
    ids = manifest["id"].to_numpy(dtype=np.str_)
    seen = {}
    for modality in MODALITIES:
        features = np.concatenate([_array(source / f"{modality}_{split}.h5") for split in SPLITS])
        if len(features) != len(ids):
            raise DataError(
                f"{source} has {len(features)} clips with {modality} and {len(ids)} with ratings",
                "Take the files as released.",
            )
        mask = np.any(features != 0, axis=2)
        seen[modality] = mask.any(axis=1)
        np.savez_compressed(out / f"{modality}.npz", features=features, mask=mask, ids=ids)
    manifest.to_csv(out / "manifest.csv", index=False)
    with_video = manifest[(manifest["split"] == "train") | seen["video"]]
    with_video.to_csv(out / "manifest_video.csv", index=False)
    return [
        f"{name}: {_counts(frame)}" for name, frame in (("manifest.csv", manifest), ("manifest_video.csv", with_video))
    ]


def _counts(frame: pd.DataFrame) -> str:
    return ", ".join(f"{count} {part}" for part, count in frame["split"].value_counts().items())


def _array(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Return the array (n, T, D) of a file; T = 1 for ratings."""
    return read_features(path, "id").values
