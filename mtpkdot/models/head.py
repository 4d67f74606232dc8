"""Output layer that works in standardised targets and answers in the targets' own units."""

import torch
from torch import Tensor, nn


class Head(nn.Linear):
    """`W x + b`, scaled and shifted by the statistics of the training targets.

    `1 - CCC` has hardly any gradient while the means of predictions and targets are far apart, so a regression must
    start where its targets are. Classification keeps mean 0 and scale 1.

    Args:
        dim: size of the feature.
        num_outputs: classes or targets.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, num_outputs: int) -> None:
        super().__init__(dim, num_outputs)
        self.register_buffer("mean", torch.zeros(num_outputs))
        self.register_buffer("scale", torch.ones(num_outputs))

    def fit(self, mean: Tensor, scale: Tensor) -> None:
        """Adopt mean and scale (num_outputs,) of the training targets; `scale` must be positive."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(self, feature: Tensor) -> Tensor:
        """Output (B, num_outputs) of a feature (B, dim)."""
        return super().forward(feature) * self.scale + self.mean
