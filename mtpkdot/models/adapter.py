"""Adapters: bottlenecks that carry a backbone's feature into the joint feature's space."""

from torch import Tensor, nn

from mtpkdot.models.head import Head


class Adapter(nn.Module):
    """Linear bottleneck with a head of its own (MT-PKDOT: 512-256-512).

    Args:
        in_dim: size of the backbone's feature.
        out_dim: size of the joint feature.
        bottleneck: hidden size.
        num_outputs: classes or targets.
    """

    def __init__(self, in_dim: int, out_dim: int, bottleneck: int, num_outputs: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(in_dim, bottleneck), nn.Linear(bottleneck, out_dim)
        self.head = Head(out_dim, num_outputs)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Adapted feature (B, out_dim) and output (B, num_outputs) of a pooled backbone feature (B, in_dim)."""
        adapted = self.up(self.down(feature))
        return adapted, self.head(adapted)
