"""Adapters: bottlenecks that map a backbone's feature into the space of the joint feature."""

from torch import Tensor, nn

from mtpkdot.models.head import Head


class Adapter(nn.Module):
    """Linear bottleneck with a head of its own (MT-PKDOT: 512-256-512).

    Args:
        in_dim: size of the backbone's feature.
        out_dim: size of the joint feature.
        bottleneck: hidden size.
        num_outputs: number of classes or targets.

    Example:
        >>> feature, output = Adapter(in_dim=16, out_dim=32, bottleneck=8, num_outputs=2)(torch.zeros(4, 16))
        >>> feature.shape, output.shape
        (torch.Size([4, 32]), torch.Size([4, 2]))
    """

    def __init__(self, in_dim: int, out_dim: int, bottleneck: int, num_outputs: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(in_dim, bottleneck), nn.Linear(bottleneck, out_dim)
        self.head = Head(out_dim, num_outputs)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Return the adapted feature (B, out_dim) and the output (B, num_outputs) of a pooled feature (B, in_dim)."""
        adapted = self.up(self.down(feature))
        return adapted, self.head(adapted)
