"""A backbone: standardisation, encoder and head of one modality."""

from torch import Tensor, nn

from mtpkdot.models.attention import masked_mean
from mtpkdot.models.encoder import Encoder, EncoderFactory, FeatureEncoder
from mtpkdot.models.head import Head
from mtpkdot.models.normalise import Standardize


class Backbone(nn.Module):
    """One modality, from raw steps to features and predictions.

    Args:
        step_shape: shape of one raw time step.
        num_outputs: classes or targets.
        encoder: builds the encoder from `step_shape`; None for a `FeatureEncoder`.
    """

    def __init__(self, step_shape: tuple[int, ...], num_outputs: int, encoder: EncoderFactory | None = None) -> None:
        super().__init__()
        self.normalise = Standardize(step_shape)
        self.encoder: Encoder = (encoder or FeatureEncoder)(step_shape)
        self.head = Head(self.encoder.dim, num_outputs)

    @property
    def dim(self) -> int:
        """Size of the features."""
        return self.encoder.dim

    def features(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Feature sequence (B, T', dim) and mask (B, T') of raw steps (B, T, *step_shape) with mask (B, T)."""
        encoded: tuple[Tensor, Tensor] = self.encoder(self.normalise(x), mask)
        return encoded

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled feature (B, dim) and output (B, num_outputs); finite for fully masked samples."""
        pooled = masked_mean(*self.features(x, mask))
        output: Tensor = self.head(pooled)
        return pooled, output
