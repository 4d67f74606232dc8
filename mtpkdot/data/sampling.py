"""The order in which samples and their augmentations are seen: a function of the seed and the epoch alone."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from mtpkdot.data.batch import IntArray


class EpochSampler(Sampler[int | tuple[int, int]]):
    """A shuffle that depends on nothing but the seed and the epoch, so that a resumed run sees the same order.

    Args:
        positions: what to shuffle.
        seed: the run's seed.
        views: 1 for samples as they are; N > 1 for pairs (position, view) with a view drawn from 0..N-1 for every
            sample and epoch; None for pairs with a view of its own in every epoch.
    """

    def __init__(self, positions: IntArray, seed: int, views: int | None = 1) -> None:
        self.positions, self.seed, self.views, self.epoch = positions, seed, views, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before every epoch."""
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
    """Batches of all processes together, of which each process gets its share.

    The shares of the processes, one after the other, are the batch that a single process would see. They differ by one
    sample at most; in a last batch of fewer samples than processes some are empty. No sample is repeated.

    Args:
        sampler: the order of the samples.
        batch_size: samples of all processes together.
        rank: of this process.
        world: number of processes.
        resumed: (epoch, batches of it that have been seen): they are left out, in that epoch alone.
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
