"""Past features, which make a small batch's similarity structure that of a larger one."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class FeatureQueue(nn.Module):
    """The features of the last samples in several spaces, first in, first out (He et al., MoCo, CVPR 2020).

    Its contents are buffers: a checkpoint carries them, so that a resumed training goes on as it was.

    Args:
        size: samples that are kept.
        dims: size of the feature per space.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> queue = FeatureQueue(3, {"student": 1})
        >>> for batch in (torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])):
        ...     queue.push({"student": batch})
        >>> queue.past()["student"].flatten().tolist()
        [2.0, 3.0, 4.0]
    """

    filled: Tensor

    def __init__(self, size: int, dims: Mapping[str, int]) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"the size of a queue is 1 or more, not {size}")
        self.size, self.names = size, list(dims)
        for number, dim in enumerate(dims.values()):
            # Numbered, for a name may hold what a buffer's must not.
            self.register_buffer(f"features_{number}", torch.zeros(size, dim))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def past(self) -> dict[str, Tensor]:
        """(Q, D) features per space, oldest first, with Q <= `size` the number of samples seen so far."""
        filled = int(self.filled)
        return {name: self.get_buffer(f"features_{i}")[self.size - filled :] for i, name in enumerate(self.names)}

    @torch.no_grad()
    def push(self, features: Mapping[str, Tensor]) -> None:
        """Take in a batch.

        Args:
            features: (B, D) per space, of the same samples.

        Raises:
            ValueError: spaces with different numbers of samples.
        """
        rows = len(features[self.names[0]])
        if any(len(features[name]) != rows for name in self.names):
            raise ValueError(f"all spaces must see the same samples, not {[len(features[n]) for n in self.names]}")
        for number, name in enumerate(self.names):
            kept = self.get_buffer(f"features_{number}")
            new = features[name].detach().to(kept.dtype)
            # Replaced, not written over: the loss of this step still holds the old ones.
            setattr(self, f"features_{number}", torch.cat([kept, new])[-self.size :])
        self.filled = (self.filled + rows).clamp_max(self.size)
