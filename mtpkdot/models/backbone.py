"""Backbone: standardisation, encoder and head of one modality."""

from torch import Tensor, nn

from mtpkdot.models.attention import reduce_steps
from mtpkdot.models.encoder import Encoder, EncoderFactory, FeatureEncoder, Steps
from mtpkdot.models.head import Head
from mtpkdot.models.normalise import Standardize


class Backbone(nn.Module):
    """Network of one modality, from raw steps to features and predictions.

    Args:
        steps: shape and rate of the raw steps.
        num_outputs: number of classes or targets.
        encoder: factory that builds the encoder from `steps`; None for a `FeatureEncoder`.
        per_step: True if every step has a target.

    Example:
        >>> backbone = Backbone(Steps((17,)), num_outputs=2)
        >>> feature, output = backbone(torch.zeros(4, 10, 17), torch.ones(4, 10, dtype=torch.bool))
        >>> feature.shape == (4, backbone.dim), output.shape
        (True, torch.Size([4, 2]))
    """

    def __init__(
        self, steps: Steps, num_outputs: int, encoder: EncoderFactory | None = None, per_step: bool = False
    ) -> None:
        super().__init__()
        self.encoder: Encoder = (encoder or FeatureEncoder)(steps)
        self.normalise: nn.Module = Standardize(steps.shape) if self.encoder.standardize else nn.Identity()
        self.per_step = per_step
        self.head = Head(self.encoder.dim, num_outputs)

    @property
    def dim(self) -> int:
        """Size of the features."""
        return self.encoder.dim

    def features(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the feature sequence (B, T', dim) and mask (B, T') of raw steps (B, T, *shape) with mask (B, T).

        Raises:
            ValueError: every step has a target, and the encoder changes the number of steps.
        """
        encoded: tuple[Tensor, Tensor] = self.encoder(self.normalise(x), mask)
        if self.per_step and encoded[1].shape != mask.shape:
            raise ValueError(
                f"{type(self.encoder).__name__} turns {mask.shape[1]} steps into {encoded[1].shape[1]}, "
                "but every step has a target of its own"
            )
        return encoded

    def read(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return row features (N, dim) and outputs (N, num_outputs) of a feature sequence; N = B, or B * T per step."""
        feature = reduce_steps(features, mask, self.per_step)
        output: Tensor = self.head(feature)
        return feature, output

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return row features (N, dim) and outputs (N, num_outputs); finite also for fully masked samples."""
        return self.read(*self.features(x, mask))
