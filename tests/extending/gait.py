"""An own data set of features: one file with the arrays of all samples."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mtpkdot.data import BaseData, Samples


class Gait(BaseData):
    """Gait of people with and without pain, from keypoints of a camera; soles with sensors are privileged.

    Args:
        file: `.npz` with `ids` (n,), `people` (n,), `pain` (n,) 0 or 1, `keypoints` (n, steps, D) and `soles` (n, D).
        prevalent: the modality of the student.
        options: see BaseData.
    """

    unhashed: ClassVar[frozenset[str]] = BaseData.unhashed | {"file"}

    def __init__(self, file: str, prevalent: str = "keypoints", **options: Any) -> None:
        super().__init__(prevalent=prevalent, **options)
        self.file = Path(file)

    @property
    def modality_names(self) -> list[str]:
        """Both modalities."""
        return ["keypoints", "soles"]

    def contents(self) -> dict[str, str]:
        """Return the digest of the file."""
        return {"file": hashlib.sha256(self.file.read_bytes()).hexdigest()}

    def load(self) -> Samples:
        """Read the file."""
        arrays = np.load(self.file)
        features = {"keypoints": arrays["keypoints"], "soles": arrays["soles"][:, None]}
        return Samples(
            ids=arrays["ids"],
            subjects=arrays["people"],
            target=arrays["pain"],
            labelled=arrays["pain"] >= 0,
            target_names=["pain"],
            class_names=["without", "with"],
            features=features,
            masks={name: np.isfinite(values).all(axis=2) for name, values in features.items()},
        )
