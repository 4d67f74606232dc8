"""Standardisation as a layer, so that a checkpoint contains the statistics that its weights were trained with."""

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Standardisation `(x - mean) / scale` per feature, clipped to +-`clip`, with NaN replaced by 0 (the mean).

    The statistics are those of the training part; before `fit` the layer only replaces NaN.

    Args:
        step_shape: shape of one time step.
        clip: bound in standard deviations. A column that is constant in training but not at test time would otherwise
            outweigh all others.

    Example:
        >>> layer = Standardize((2,))
        >>> layer.fit(mean=torch.tensor([1.0, 0.0]), scale=torch.tensor([2.0, 1.0]))
        >>> layer(torch.tensor([[[3.0, float("nan")]]]))
        tensor([[[1., 0.]]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, step_shape: tuple[int, ...], clip: float = 10.0) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(step_shape))
        self.register_buffer("scale", torch.ones(step_shape))
        # An integer instead of a bool, for callbacks that average all buffers.
        self.register_buffer("fitted", torch.tensor(0, dtype=torch.uint8))
        self.fitted: Tensor

    def fit(self, mean: Tensor, scale: Tensor) -> None:
        """Set mean and scale of shape `step_shape`; `scale` must be positive."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        self.fitted.fill_(1)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise (B, T, *step_shape)."""
        x = (x - self.mean) / self.scale
        x = torch.where(x.isnan(), torch.zeros_like(x), x)
        return torch.where(self.fitted.bool(), x.clamp(-self.clip, self.clip), x)
