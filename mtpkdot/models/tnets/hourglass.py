"""T-Net of the papers: an hourglass of linear layers."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from mtpkdot.models.tnets.base import TNet


class Hourglass(TNet):
    """Hourglass of linear layers, applied to each time step (PKDOT, arXiv 2401.15489; MT-PKDOT, arXiv 2408.09035).

    PKDOT: hidden (256, 128, 256) with ReLU; MT-PKDOT: (2048, 1024, 512, 256, 512, 1024, 2048), linear.

    Args:
        in_dim: size of the prevalent feature.
        out_dim: size of the privileged feature.
        hidden: sizes of the hidden layers.
        activation: True for a ReLU between the layers.

    Example:
        >>> Hourglass(512, 64, hidden=[128, 32, 128])(torch.zeros(2, 10, 512)).shape
        torch.Size([2, 10, 64])
    """

    def __init__(
        self, in_dim: int, out_dim: int, hidden: Sequence[int] = (256, 128, 256), activation: bool = True
    ) -> None:
        super().__init__(in_dim, out_dim)
        sizes = [in_dim, *hidden, out_dim]
        layers: list[nn.Module] = []
        for size, following in pairwise(sizes):
            layers += [nn.Linear(size, following), nn.ReLU()] if activation else [nn.Linear(size, following)]
        self.layers = nn.Sequential(*(layers[:-1] if activation else layers))

    def forward(self, feature: Tensor) -> Tensor:
        """Hallucinate a privileged feature (..., out_dim) from the prevalent one (..., in_dim)."""
        hallucinated: Tensor = self.layers(feature)
        return hallucinated
