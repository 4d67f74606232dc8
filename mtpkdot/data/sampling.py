"""The order in which samples and their augmentations are seen: a function of the seed and the epoch alone."""

from collections.abc import Iterator

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
