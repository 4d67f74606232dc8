"""Encoders, which map the raw steps of one modality to a sequence of features."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtpkdot.models.attention import AttentionBlock


@dataclass(frozen=True)
class Steps:
    """Shape and rate of the steps that an encoder reads.

    Attributes:
        shape: shape of one time step, (D,) for feature vectors.
        rate: recorded frames of a video, or samples of a signal or sound, per second (Hz); None if unknown.

    Example:
        >>> Steps((3, 112, 112), rate=25.0).rate
        25.0
    """

    shape: tuple[int, ...]
    rate: float | None = None


class Encoder(nn.Module):
    """Base of the encoders. A subclass takes `steps` first, its settings after it, and passes `dim` to this class.

    Args:
        steps: shape and rate of the steps.
        dim: size of the features that `forward` returns.

    Example:
        >>> class Linear(Encoder):
        ...     def __init__(self, steps, dim=16):
        ...         super().__init__(steps, dim)
        ...         self.layer = nn.Linear(steps.shape[0], dim)
        ...
        ...     def forward(self, x, mask):
        ...         return self.layer(x) * mask.unsqueeze(2), mask
        >>> Linear(Steps((3,)))(torch.zeros(2, 5, 3), torch.ones(2, 5, dtype=torch.bool))[0].shape
        torch.Size([2, 5, 16])
    """

    standardize: bool = True
    """True to standardise the input by the training part; False for encoders whose input has a known range."""

    def __init__(self, steps: Steps, dim: int) -> None:
        super().__init__()
        self.steps, self.dim = steps, dim

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            x: (B, T, *steps.shape), float32; pictures are RGB from 0 to 255, float32 or uint8.
            mask: (B, T) bool, True where the step is real. Masked steps may have any value.

        Returns:
            Features (B, T', dim) and their mask (B, T'). If every step has a target, T' must be T.
        """
        raise NotImplementedError


EncoderFactory = Callable[[Steps], Encoder]


class FeatureEncoder(Encoder):
    """Encoder of precomputed feature vectors, of single steps or sequences.

    Each step passes a linear layer with normalisation and GELU; attention blocks over time follow for sequences.

    Args:
        steps: of shape (D,).
        dim: feature size.
        hidden: size of an extra hidden layer before the projection; 0 for none.
        temporal_layers: number of attention blocks over time; 0 encodes every step separately.
        heads: attention heads of these blocks.
        dropout: probability, applied to the input projection and within the blocks.

    Example:
        >>> encoder = FeatureEncoder(Steps((17,)), dim=8)
        >>> features, mask = encoder(torch.zeros(2, 5, 17), torch.ones(2, 5, dtype=torch.bool))
        >>> features.shape
        torch.Size([2, 5, 8])
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
        """Encode (B, T, D) to (B, T, dim), with zeros for masked steps."""
        x = self.project(torch.where(mask.unsqueeze(2), x, 0.0))
        if len(self.temporal):
            x = x + sinusoids(x.shape[1], x.shape[2]).to(x)
            # A sample without real steps attends to its first step, which is zero: finite, and masked afterwards.
            readable = mask.clone()
            readable[:, 0] |= ~mask.any(dim=1)
            for block in self.temporal:
                x = block(x, x, readable)
        return torch.where(mask.unsqueeze(2), x, 0.0), mask


class LinearEncoder(Encoder):
    """Feature vectors as they are, standardised: with the linear head a model without a hidden layer.

    A linear student is a control: with `Concatenation` as the fusion and `hallucination: none` nothing of it is
    nonlinear.

    Args:
        steps: of shape (D,).
        dropout: probability that a feature is left out in training.

    Example:
        >>> encoder = LinearEncoder(Steps((17,)))
        >>> features, mask = encoder(torch.zeros(2, 5, 17), torch.ones(2, 5, dtype=torch.bool))
        >>> features.shape
        torch.Size([2, 5, 17])
    """

    def __init__(self, steps: Steps, dropout: float = 0.0) -> None:
        if len(steps.shape) != 1:
            raise ValueError(f"LinearEncoder reads vectors (D,), not steps of shape {steps.shape}")
        super().__init__(steps, steps.shape[0])
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, T, D) with zeros for masked steps."""
        return self.dropout(torch.where(mask.unsqueeze(2), x, 0.0)), mask


def sinusoids(steps: int, dim: int) -> Tensor:
    """Return the sinusoidal positions (steps, dim) of Vaswani et al. (2017), for even or odd `dim`."""
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10_000.0) / dim))
    angle = torch.arange(steps).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :dim]
