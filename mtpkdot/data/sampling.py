"""Order of samples and augmentations: a function of the seed and the epoch alone."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from mtpkdot.data.batch import IntArray


class EpochSampler(Sampler[int | tuple[int, int]]):
    """Shuffle that depends only on the seed and the epoch, so that a resumed run sees the same order.

    Args:
        positions: positions to shuffle.
        seed: seed of the run.
        views: 1 for positions alone; N > 1 for pairs (position, view) with a view drawn from 0..N-1 for every sample
            and epoch; None for pairs with a new view in every epoch.
    """

    def __init__(self, positions: IntArray, seed: int, views: int | None = 1) -> None:
        self.positions, self.seed, self.views, self.epoch = positions, seed, views, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; the Trainer calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[int | tuple[int, int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(self.positions)
        if self.views == 1:
            return iter(order.tolist())
        views = (
            np.full(len(order), self.epoch + 1) if self.views is None else random.integers(0, self.views, len(order))
        )
        return zip(order.tolist(), views.tolist(), strict=True)


class GlobalBatches(Sampler[list[Any]]):
    """Batches of all processes together, divided into one share per process.

    The concatenated shares of the processes are the batch that a single process would see. They differ in size by one
    sample at most; in a last batch of fewer samples than processes some are empty. No sample is repeated.

    Args:
        sampler: the order of the samples.
        batch_size: samples of all processes together.
        rank: rank of this process.
        world: number of processes.
        resumed: (epoch, number of its finished batches), which are left out in that epoch alone.
    """

    def __init__(
        self,
        sampler: Sampler[Any] | Sequence[Any],
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        resumed: tuple[int, int] = (0, 0),
    ) -> None:
        self.sampler, self.batch_size, self.rank, self.world = sampler, batch_size, rank, world
        self.resumed = resumed

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[Any]]:
        order, (epoch, seen) = iter(self.sampler), self.resumed
        if epoch == getattr(self.sampler, "epoch", None):
            order = islice(order, seen * self.batch_size, None)
        while batch := list(islice(order, self.batch_size)):
            start, stop = (len(batch) * rank // self.world for rank in (self.rank, self.rank + 1))
            yield batch[start:stop]
