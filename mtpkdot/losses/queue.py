"""Queue of past features, which extends the similarity structure of a small batch to that of a larger one."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class FeatureQueue(nn.Module):
    """First-in, first-out queue of features in several spaces (He et al., MoCo, CVPR 2020).

    Its contents are buffers and part of a checkpoint, so that a resumed training continues unchanged.

    Args:
        size: number of samples that are kept.
        dims: feature size per space.

    Raises:
        ValueError: the size is below 1.

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
            raise ValueError(f"the size of a queue must be 1 or more, not {size}")
        self.size, self.names = size, list(dims)
        for number, dim in enumerate(dims.values()):
            # Numbered, since a space's name may contain characters that a buffer's name must not.
            self.register_buffer(f"features_{number}", torch.zeros(size, dim))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def past(self) -> dict[str, Tensor]:
        """Return the stored features (Q, D) per space, oldest first; Q <= `size`."""
        filled = int(self.filled)
        return {name: self.get_buffer(f"features_{i}")[self.size - filled :] for i, name in enumerate(self.names)}

    @torch.no_grad()
    def push(self, features: Mapping[str, Tensor]) -> None:
        """Append a batch.

        Args:
            features: (B, D) features per space, of the same samples.

        Raises:
            ValueError: the spaces have different numbers of samples.
        """
        rows = len(features[self.names[0]])
        if any(len(features[name]) != rows for name in self.names):
            raise ValueError(f"all spaces must see the same samples, not {[len(features[n]) for n in self.names]}")
        for number, name in enumerate(self.names):
            kept = self.get_buffer(f"features_{number}")
            new = features[name].detach().to(kept.dtype)
            # A new tensor instead of a write in place: the graph of this step's loss still uses the old one.
            setattr(self, f"features_{number}", torch.cat([kept, new])[-self.size :])
        self.filled = (self.filled + rows).clamp_max(self.size)
