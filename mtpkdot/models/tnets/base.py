"""Base of the T-Nets, which hallucinate a privileged feature from the prevalent one."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mtpkdot.models.tried import named, tried


class TNet(nn.Module):
    """Base of the T-Nets. A subclass takes `in_dim` and `out_dim` first, and its settings after them.

    Args:
        in_dim: size of the prevalent feature.
        out_dim: size of the privileged feature.

    Example:
        >>> class Linear(TNet):
        ...     def __init__(self, in_dim, out_dim):
        ...         super().__init__(in_dim, out_dim)
        ...         self.layer = nn.Linear(in_dim, out_dim)
        ...
        ...     def forward(self, feature):
        ...         return self.layer(feature)
        >>> Linear(8, 3)(torch.zeros(2, 5, 8)).shape
        torch.Size([2, 5, 3])
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim

    def forward(self, feature: Tensor) -> Tensor:
        """Hallucinate a privileged feature (..., out_dim) from the prevalent one (..., in_dim), for each step."""
        raise NotImplementedError


TNetFactory = Callable[[int, int], TNet]


def check_tnet(build: TNetFactory) -> None:
    """Build a T-Net on small features and pass a batch through it.

    Args:
        build: factory of the T-Net.

    Raises:
        ValueError: the signature of the class, or the shape that it returns, is not that of a T-Net.
    """
    expected = "a T-Net is built from (in_dim, out_dim) and turns (B, T, in_dim) into (B, T, out_dim)"
    with tried(build, expected):
        tnet = build(4, 3)
        if not isinstance(tnet, TNet):
            raise ValueError(f"{type(tnet).__name__} is not a TNet; {expected}")
        found = tnet.eval()(torch.zeros(2, 5, 4))
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if shape != (2, 5, 3):
        raise ValueError(
            f"{named(build)} turns (2, 5, 4) into {shape}, not (2, 5, 3): {expected}; see mtpkdot.models.TNet"
        )
