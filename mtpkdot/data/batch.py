"""Batches, as a training step sees them, and the samples they are cut from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]


@dataclass
class Batch:
    """B samples of named modalities, with N rows of targets: one per sample, or one per step (N = B * T).

    Attributes:
        index: (N,) int64, row in the data set.
        inputs: per modality (B, T, *step_shape), float32 or uint8 (pictures); modalities may differ in T. Masked steps
            may hold anything. Without the modalities that are not read.
        masks: per modality (B, T) bool, True where the step was recorded. All False: the modality is absent.
        target: (N,) int64 class indices or (N, K) float32 values; meaningless where not labelled.
        labelled: (N,) bool.
        encoded: per modality, features (B, T', dim) and mask (B, T') of its frozen encoder, where they are at hand.
        per_step: whether rows are steps.
    """

    index: Tensor
    inputs: dict[str, Tensor]
    masks: dict[str, Tensor]
    target: Tensor
    labelled: Tensor
    encoded: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    per_step: bool = False

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.index)

    def emptied(self) -> "Batch":
        """No samples, of the same types and shapes: the share of a process in a batch with fewer samples than those."""
        return Batch(
            self.index[:0],
            {name: x[:0] for name, x in self.inputs.items()},
            masks={name: mask[:0] for name, mask in self.masks.items()},
            target=self.target[:0],
            labelled=self.labelled[:0],
            encoded={name: (x[:0], mask[:0]) for name, (x, mask) in self.encoded.items()},
            per_step=self.per_step,
        )

    def present(self, modality: str) -> Tensor:
        """(N,) bool: the rows that the modality has a recorded step for."""
        return self.masks[modality].flatten() if self.per_step else self.masks[modality].any(dim=1)


class Clips(ABC):
    """One modality of a data set that does not lie in memory.

    Attributes:
        shape: (n, T, *step_shape).
        media: pictures or sound, whose encoders know their range; their statistics are not taken.
    """

    shape: tuple[int, ...]
    media: bool = False

    @abstractmethod
    def read(self, positions: IntArray, views: IntArray) -> Tensor:
        """Steps (B, T, *step_shape) of the samples at `positions` (B,).

        Args:
            positions: which samples.
            views: (B,) 0 for the sample as it is, v > 0 for its v-th augmentation. Equal arguments give equal results.
        """

    @abstractmethod
    def keep(self, rows: BoolArray) -> Self:
        """The samples where `rows` (n,) is True."""


@dataclass
class Rows:
    """Rows of results: one per sample, or per step.

    Attributes:
        ids: (m,) ids.
        subjects: (m,) subject ids.
        target: (m,) or (m, K).
        labelled: (m,) bool.
    """

    ids: StrArray
    subjects: StrArray
    target: npt.NDArray[np.generic]
    labelled: BoolArray


@dataclass
class Samples:
    """A whole data set.

    Attributes:
        ids: (n,) unique sample ids.
        subjects: (n,) subject ids; equal to `ids` where subjects are unknown.
        target: (n,) int64 class indices, or (n, K) float32; (n, T, K) where every step has a target.
        labelled: (n,) bool; (n, T) where every step has a target.
        target_names: the target columns.
        class_names: names of the classes, empty for regression.
        features: per modality (n, T, *step_shape): float32 in memory, or clips to be read.
        masks: per modality (n, T) bool.
        split_column: (n,) the split or fold as the data set gives it, or None.
        knows_subjects: whether the data set says who is who.
        rates: recorded frames or samples per second, of the modalities where it is known.
    """

    ids: StrArray
    subjects: StrArray
    target: npt.NDArray[np.generic]
    labelled: BoolArray
    target_names: list[str]
    class_names: list[str]
    features: Mapping[str, FloatArray | Clips]
    masks: dict[str, BoolArray]
    split_column: StrArray | None = None
    knows_subjects: bool = True
    rates: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def per_step(self) -> bool:
        """True if every step has a target of its own."""
        return self.labelled.ndim == 2

    @property
    def known(self) -> BoolArray:
        """(n,) samples with a label anywhere."""
        known = self.labelled.any(axis=1) if self.per_step else self.labelled
        return np.asarray(known)

    def present(self, modality: str) -> BoolArray:
        """(n,), or (n, T) where every step has a target: what the modality has a recorded step for."""
        return self.masks[modality] if self.per_step else np.asarray(self.masks[modality].any(axis=1))

    def rows(self, index: IntArray) -> Rows:
        """Return the rows `index` (m,) of the data set; row `i * T + t` is step t of sample i."""
        if not self.per_step:
            return Rows(self.ids[index], self.subjects[index], self.target[index], self.labelled[index])
        steps = self.labelled.shape[1]
        sample, step = np.divmod(index, steps)
        ids = np.char.add(np.char.add(self.ids[sample], "/"), step.astype(np.str_))
        return Rows(ids, self.subjects[sample], self.target[sample, step], self.labelled[sample, step])

    def keep(self, rows: BoolArray) -> "Samples":
        """The samples where `rows` (n,) is True."""
        return replace(
            self,
            ids=self.ids[rows],
            subjects=self.subjects[rows],
            target=self.target[rows],
            labelled=self.labelled[rows],
            features={
                name: values.keep(rows) if isinstance(values, Clips) else values[rows]
                for name, values in self.features.items()
            },
            masks={name: values[rows] for name, values in self.masks.items()},
            split_column=None if self.split_column is None else self.split_column[rows],
        )


class Encoded(Protocol):
    """Features of a frozen encoder, computed ahead."""

    def read(self, positions: IntArray, views: IntArray) -> tuple[Tensor, Tensor]:
        """Features (B, T', dim) and mask (B, T')."""


class SampleDataset(Dataset[Batch]):
    """Cuts whole batches at once: one gather per modality instead of one per sample.

    Args:
        samples: the data set. Positions index into it.
        inputs: modalities whose steps are read; None for all.
        encoded: features at hand, per modality.
    """

    def __init__(
        self,
        samples: Samples,
        inputs: Sequence[str] | None = None,
        encoded: Mapping[str, Encoded] | None = None,
    ) -> None:
        self.samples = samples
        self._features = {
            name: values if isinstance(values, Clips) else torch.from_numpy(values)
            for name, values in samples.features.items()
            if inputs is None or name in inputs
        }
        self._encoded = dict(encoded or {})
        self._masks = {name: torch.from_numpy(values) for name, values in samples.masks.items()}
        self._target, self._labelled = torch.from_numpy(samples.target), torch.from_numpy(samples.labelled)

    @property
    def reads_clips(self) -> bool:
        """True if batches are read and decoded, and not only copied."""
        return any(isinstance(values, Clips) for values in self._features.values())

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int | tuple[int, int]) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int | tuple[int, int]]) -> Batch:
        """The batch of these positions, or (position, view) pairs (PyTorch's protocol for fetching a list at once)."""
        if not indices:
            return self.__getitems__([0]).emptied()  # of the right types and shapes, whoever reads them
        pairs = np.array([(i, 0) if isinstance(i, int | np.integer) else i for i in indices], dtype=np.int64)
        where, views = pairs[:, 0], pairs[:, 1]
        rows = torch.from_numpy(where)
        target, labelled = self._target[rows], self._labelled[rows]
        per_step = self.samples.per_step
        if per_step:
            steps = labelled.shape[1]
            rows_index = (rows[:, None] * steps + torch.arange(steps)).flatten()
            target, labelled = target.flatten(0, 1), labelled.flatten()
        return Batch(
            rows_index if per_step else rows,
            {
                name: values.read(where, views) if isinstance(values, Clips) else values[rows]
                for name, values in self._features.items()
            },
            masks={name: values[rows] for name, values in self._masks.items()},
            target=target,
            labelled=labelled,
            encoded={name: values.read(where, views) for name, values in self._encoded.items()},
            per_step=per_step,
        )
