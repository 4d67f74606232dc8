"""Batches as a training step sees them, and the samples they are cut from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
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
    """Batch of B samples of named modalities, with N rows of targets: one per sample, or one per step (N = B * T).

    Attributes:
        index: (N,) int64, rows of the data set.
        inputs: tensors (B, T, *step_shape) by modality, float32 or uint8 (pictures); modalities may differ in T. Values
            of masked steps are arbitrary. Modalities that are not read are absent.
        masks: masks (B, T) bool by modality, True for recorded steps. All False: the modality is absent.
        target: (N,) int64 class indices or (N, K) float32 values; arbitrary for unlabelled rows.
        labelled: (N,) bool.
        encoded: cached features (B, T', dim) and mask (B, T') of frozen encoders, by modality.
        per_step: True if rows are steps.

    Example:
        >>> batch = Batch(
        ...     index=torch.arange(2),
        ...     inputs={"face": torch.zeros(2, 3, 16)},
        ...     masks={"face": torch.tensor([[True, True, False], [False, False, False]])},
        ...     target=torch.tensor([0, 1]),
        ...     labelled=torch.tensor([True, True]),
        ... )
        >>> batch.present("face").tolist()
        [True, False]
    """

    index: Tensor
    inputs: dict[str, Tensor]
    masks: dict[str, Tensor]
    target: Tensor
    labelled: Tensor
    encoded: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    per_step: bool = False

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.index)

    def emptied(self) -> "Batch":
        """Return a batch without samples, of the same types and shapes.

        It is the share of a process in a batch with fewer samples than processes.
        """
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
        """Return the rows (N,) bool for which the modality has a recorded step."""
        return self.masks[modality].flatten() if self.per_step else self.masks[modality].any(dim=1)


class Clips(ABC):
    """One modality of a data set that is not held in memory.

    Attributes:
        shape: (n, T, *step_shape).
        media: True for pictures and sound, whose range is known, so that they are not standardised.
    """

    shape: tuple[int, ...]
    media: bool = False

    @abstractmethod
    def read(self, positions: IntArray, views: IntArray) -> Tensor:
        """Return steps (B, T, *step_shape) of the samples at `positions` (B,).

        Args:
            positions: (B,) positions of the samples.
            views: (B,) 0 for the sample itself, v > 0 for its v-th augmentation. Equal arguments give equal results.
        """

    @abstractmethod
    def keep(self, kept: BoolArray) -> Self:
        """Return the samples for which `kept` (n,) is True."""


@dataclass
class Rows:
    """Rows of results: one per sample, or per step.

    Attributes:
        ids: (m,) ids.
        subjects: (m,) subject ids.
        target: (m,) classes, or (m, K) values.
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
        subjects: (n,) subject ids; equal to `ids` if subjects are unknown.
        target: (n,) int64 class indices, or (n, K) float32; (n, T, K) if every step has a target.
        labelled: (n,) bool; (n, T) if every step has a target.
        target_names: names of the targets.
        class_names: names of the classes, empty for regression.
        features: steps (n, T, *step_shape) by modality: float32 in memory, or clips to be read.
        masks: masks (n, T) bool by modality.
        split_column: (n,) part or fold as given by the data set, or None.
        knows_subjects: True if the data set identifies subjects.
        rates: recorded frames or samples per second of the modalities for which they are known.

    Example:
        >>> samples = Samples(
        ...     ids=np.array(["clip1", "clip2"]),
        ...     subjects=np.array(["anna", "ben"]),
        ...     target=np.array([0, 1]),
        ...     labelled=np.array([True, False]),
        ...     target_names=["pain"],
        ...     class_names=["no", "yes"],
        ...     features={"face": np.zeros((2, 3, 16), dtype=np.float32)},
        ...     masks={"face": np.ones((2, 3), dtype=np.bool_)},
        ... )
        >>> samples.keep(samples.known).ids.tolist()
        ['clip1']
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
        """Samples (n,) with at least one label."""
        known = self.labelled.any(axis=1) if self.per_step else self.labelled
        return np.asarray(known)

    def present(self, modality: str) -> BoolArray:
        """Return the samples (n,), or the steps (n, T) if they have targets, that the modality was recorded for."""
        return self.masks[modality] if self.per_step else np.asarray(self.masks[modality].any(axis=1))

    def rows(self, index: IntArray) -> Rows:
        """Return the rows `index` (m,) of the data set; row `i * T + t` is step t of sample i."""
        if not self.per_step:
            return Rows(self.ids[index], self.subjects[index], self.target[index], self.labelled[index])
        steps = self.labelled.shape[1]
        sample, step = np.divmod(index, steps)
        ids = np.char.add(np.char.add(self.ids[sample], "/"), step.astype(np.str_))
        return Rows(ids, self.subjects[sample], self.target[sample, step], self.labelled[sample, step])

    def keep(self, kept: BoolArray) -> "Samples":
        """Return the samples for which `kept` (n,) is True."""
        return replace(
            self,
            ids=self.ids[kept],
            subjects=self.subjects[kept],
            target=self.target[kept],
            labelled=self.labelled[kept],
            features={
                name: values.keep(kept) if isinstance(values, Clips) else values[kept]
                for name, values in self.features.items()
            },
            masks={name: values[kept] for name, values in self.masks.items()},
            split_column=None if self.split_column is None else self.split_column[kept],
        )


class Encoded(Protocol):
    """Precomputed features of a frozen encoder."""

    def read(self, positions: IntArray, views: IntArray) -> tuple[Tensor, Tensor]:
        """Return features (B, T', dim) and mask (B, T')."""


class SampleDataset(Dataset[Batch]):
    """Dataset that cuts whole batches at once: one gather per modality instead of one per sample.

    Args:
        samples: the data set, which positions index.
        inputs: modalities whose steps are read; None for all.
        encoded: precomputed features by modality.
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

    def relabelled(self, samples: Samples) -> "SampleDataset":
        """Return the same dataset with the targets and labels of other samples, in the same order."""
        other = copy(self)
        other._target, other._labelled = torch.from_numpy(samples.target), torch.from_numpy(samples.labelled)
        return other

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int | tuple[int, int]) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int | tuple[int, int]]) -> Batch:
        """Return the batch of these positions or (position, view) pairs; PyTorch calls this to fetch a list at once."""
        if not indices:
            return self.__getitems__([0]).emptied()  # of the right types and shapes for every reader
        pairs = np.array([(i, 0) if isinstance(i, int | np.integer) else i for i in indices], dtype=np.int64)
        where, views = pairs[:, 0], pairs[:, 1]
        positions = torch.from_numpy(where)
        target, labelled = self._target[positions], self._labelled[positions]
        per_step = self.samples.per_step
        if per_step:
            steps = labelled.shape[1]
            row_index = (positions[:, None] * steps + torch.arange(steps)).flatten()
            target, labelled = target.flatten(0, 1), labelled.flatten()
        return Batch(
            row_index if per_step else positions,
            {
                name: values.read(where, views) if isinstance(values, Clips) else values[positions]
                for name, values in self._features.items()
            },
            masks={name: values[positions] for name, values in self._masks.items()},
            target=target,
            labelled=labelled,
            encoded={name: values.read(where, views) for name, values in self._encoded.items()},
            per_step=per_step,
        )
