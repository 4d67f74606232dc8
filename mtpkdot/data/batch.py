"""What a training step sees, and the samples it is cut from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]


@dataclass
class Batch:
    """B samples of named modalities.

    Attributes:
        index: (B,) int64, position in the data set.
        inputs: per modality (B, T, *step_shape) float32; modalities may differ in T. Masked steps may hold anything.
        masks: per modality (B, T) bool, True where the step was recorded. All False: the modality is absent.
        target: (B,) int64 class indices or (B, K) float32 values; meaningless where not labelled.
        labelled: (B,) bool.
    """

    index: Tensor
    inputs: dict[str, Tensor]
    masks: dict[str, Tensor]
    target: Tensor
    labelled: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def present(self, modality: str) -> Tensor:
        """(B,) bool: the samples of which this modality has at least one step."""
        return self.masks[modality].any(dim=1)


@dataclass
class Samples:
    """A whole data set in memory.

    Attributes:
        ids: (n,) unique sample ids.
        subjects: (n,) subject ids; equal to `ids` where subjects are unknown.
        target: (n,) int64 class indices, or (n, K) float32.
        labelled: (n,) bool.
        target_names: the target columns.
        class_names: names of the classes, empty for regression.
        features: per modality (n, T, *step_shape) float32.
        masks: per modality (n, T) bool.
        split_column: (n,) the split or fold as the data set gives it, or None.
        knows_subjects: whether the data set says who is who.
    """

    ids: StrArray
    subjects: StrArray
    target: npt.NDArray[np.generic]
    labelled: BoolArray
    target_names: list[str]
    class_names: list[str]
    features: dict[str, FloatArray]
    masks: dict[str, BoolArray]
    split_column: StrArray | None = None
    knows_subjects: bool = True

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, rows: BoolArray) -> "Samples":
        """The samples where `rows` (n,) is True."""
        return Samples(
            self.ids[rows],
            self.subjects[rows],
            self.target[rows],
            self.labelled[rows],
            self.target_names,
            self.class_names,
            {name: values[rows] for name, values in self.features.items()},
            {name: values[rows] for name, values in self.masks.items()},
            None if self.split_column is None else self.split_column[rows],
            self.knows_subjects,
        )


class SampleDataset(Dataset[Batch]):
    """Cuts whole batches at once: one gather per modality instead of one per sample.

    Args:
        samples: the data set. Positions index into it.
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self._features = {name: torch.from_numpy(values) for name, values in samples.features.items()}
        self._masks = {name: torch.from_numpy(values) for name, values in samples.masks.items()}
        self._target, self._labelled = torch.from_numpy(samples.target), torch.from_numpy(samples.labelled)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The batch of these positions (PyTorch's protocol for fetching a list at once)."""
        rows = torch.as_tensor(indices)
        return Batch(
            rows,
            {name: values[rows] for name, values in self._features.items()},
            {name: values[rows] for name, values in self._masks.items()},
            self._target[rows],
            self._labelled[rows],
        )
