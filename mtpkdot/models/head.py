"""Output layer that works in standardised targets and returns values in the targets' own units."""

import torch
from torch import Tensor, nn


class Head(nn.Linear):
    """Linear layer whose output is scaled and shifted by the statistics of the training targets.

    `1 - CCC` has hardly any gradient while the means of predictions and targets are far apart, so that the predictions
    of a regression must start near its targets. Classification keeps mean 0 and scale 1.

    Args:
        dim: size of the feature.
        num_outputs: number of classes or targets.

    Example:
        >>> head = Head(dim=8, num_outputs=1)
        >>> head.fit(mean=torch.tensor([50.0]), scale=torch.tensor([10.0]))
        >>> head(torch.zeros(4, 8)).shape
        torch.Size([4, 1])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, num_outputs: int) -> None:
        super().__init__(dim, num_outputs)
        self.register_buffer("mean", torch.zeros(num_outputs))
        self.register_buffer("scale", torch.ones(num_outputs))

    def fit(self, mean: Tensor, scale: Tensor) -> None:
        """Set the mean and scale (num_outputs,) of the training targets; `scale` must be positive."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(self, feature: Tensor) -> Tensor:
        """Return the output (B, num_outputs) of a feature (B, dim)."""
        return super().forward(feature) * self.scale + self.mean
