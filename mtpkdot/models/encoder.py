"""Encoders: from the raw steps of one modality to a sequence of features."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtpkdot.models.attention import AttentionBlock


@dataclass(frozen=True)
class Steps:
    """What an encoder reads: a sequence of steps.

    Attributes:
        shape: shape of one time step, (D,) for feature vectors.
        rate: what was recorded per second, in Hz: frames of a video, samples of a signal or sound; None if unknown.
    """

    shape: tuple[int, ...]
    rate: float | None = None


class Encoder(nn.Module):
    """Base of all encoders. Subclasses take the steps they read first and say the size of their features.

    Args:
        steps: shape and rate of the steps.
        dim: size of the features that `forward` returns.
    """

    standardize: bool = True
    """Whether the input is standardised by the training part. False for encoders that know their input's range."""

    def __init__(self, steps: Steps, dim: int) -> None:
        super().__init__()
        self.steps, self.dim = steps, dim

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            x: (B, T, *steps.shape), float32; pictures are RGB from 0 to 255, float32 or uint8.
            mask: (B, T) bool, True where the step is real. Masked steps may hold anything.

        Returns:
            Features (B, T', dim) and their mask (B, T'). Where targets are given per step, T' must be T.
        """
        raise NotImplementedError


EncoderFactory = Callable[[Steps], Encoder]


class FeatureEncoder(Encoder):
    """Encoder for precomputed feature vectors, of single steps or sequences.

    A linear layer with normalisation and GELU per step; for sequences, attention blocks over time on top.

    Args:
        steps: of shape (D,).
        dim: feature size.
        hidden: size of an extra hidden layer before the projection; 0 for none.
        temporal_layers: attention blocks over time; 0 treats the steps one by one.
        heads: attention heads of these blocks.
        dropout: probability, applied to the input projection and within the blocks.
    """

    def __init__(
        self,
        steps: Steps,
        dim: int = 128,
        hidden: int = 0,
        temporal_layers: int = 0,
        heads: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(steps, dim)
        if len(steps.shape) != 1:
            raise ValueError(f"FeatureEncoder reads vectors (D,), not steps of shape {steps.shape}")
        size = steps.shape[0]
        layers: list[nn.Module] = []
        if hidden:
            layers += [nn.Linear(size, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout)]
            size = hidden
        layers += [nn.Linear(size, dim), nn.LayerNorm(dim), nn.GELU(), nn.Dropout(dropout)]
        self.project = nn.Sequential(*layers)
        self.temporal = nn.ModuleList(AttentionBlock(dim, heads, 2 * dim, dropout) for _ in range(temporal_layers))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, T, D) to (B, T, dim); masked steps come out as zeros."""
        x = self.project(torch.where(mask.unsqueeze(2), x, 0.0))
        if len(self.temporal):
            x = x + sinusoids(x.shape[1], x.shape[2]).to(x)
            # A sample without a real step attends to its first, zeroed one: finite, and masked afterwards.
            readable = mask.clone()
            readable[:, 0] |= ~mask.any(dim=1)
            for block in self.temporal:
                x = block(x, x, readable)
        return torch.where(mask.unsqueeze(2), x, 0.0), mask


def sinusoids(steps: int, dim: int) -> Tensor:
    """Sinusoidal positions (steps, dim) of Vaswani et al. (2017), for even and odd `dim`."""
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10_000.0) / dim))
    angle = torch.arange(steps).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :dim]
