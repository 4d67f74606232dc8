"""Standardisation as a layer: a checkpoint carries the preprocessing its weights were trained with."""

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """`(x - mean) / scale` per feature, NaN to 0 (the training mean), clipped to +-`clip`.

    The statistics are those of the training part (`fit`); before that the layer only replaces NaN.

    Args:
        step_shape: shape of one time step.
        clip: bound in standard deviations. A column that is constant in training but not at test time would
            otherwise outweigh all others.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, step_shape: tuple[int, ...], clip: float = 10.0) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(step_shape))
        self.register_buffer("scale", torch.ones(step_shape))
        # A number and no bool, for callbacks that average all buffers.
        self.register_buffer("fitted", torch.tensor(0, dtype=torch.uint8))
        self.fitted: Tensor

    def fit(self, mean: Tensor, scale: Tensor) -> None:
        """Adopt statistics of shape `step_shape`; `scale` must be positive."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        self.fitted.fill_(1)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise (B, T, *step_shape)."""
        x = (x - self.mean) / self.scale
        x = torch.where(x.isnan(), torch.zeros_like(x), x)
        return torch.where(self.fitted.bool(), x.clamp(-self.clip, self.clip), x)
