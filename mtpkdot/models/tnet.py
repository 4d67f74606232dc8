"""T-Net: hallucinates a privileged feature from the prevalent one."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class TNet(nn.Module):
    """Hourglass of linear layers, applied to each time step.

    PKDOT: hidden (256, 128, 256) with ReLU; MT-PKDOT: (2048, 1024, 512, 256, 512, 1024, 2048), linear.

    Args:
        in_dim: size of the prevalent feature.
        out_dim: size of the privileged feature.
        hidden: sizes of the layers between.
        activation: ReLU between the layers, or none.
    """

    def __init__(
        self, in_dim: int, out_dim: int, hidden: Sequence[int] = (256, 128, 256), activation: bool = True
    ) -> None:
        super().__init__()
        sizes = [in_dim, *hidden, out_dim]
        layers: list[nn.Module] = []
        for size, following in pairwise(sizes):
            layers += [nn.Linear(size, following), nn.ReLU()] if activation else [nn.Linear(size, following)]
        self.layers = nn.Sequential(*(layers[:-1] if activation else layers))

    def forward(self, feature: Tensor) -> Tensor:
        """Hallucinate (..., out_dim) from (..., in_dim)."""
        hallucinated: Tensor = self.layers(feature)
        return hallucinated
