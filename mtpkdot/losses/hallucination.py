"""Discrepancy between hallucinated and real privileged features."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mtpkdot.losses.transport import half_squared_distances

Discrepancy = Literal["mse", "mmd"]


def mmd(x: Tensor, y: Tensor, scales: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)) -> Tensor:
    """Compute the squared MMD with a sum of Gaussian kernels (Gretton et al., JMLR 2012), biased estimate.

    Args:
        x: (N, D) first sample.
        y: (M, D) second sample.
        scales: bandwidths as multiples of the mean squared distance within the joint sample (a detached constant).

    Returns:
        Scalar, not negative, and 0 for identical samples, up to rounding.

    Example:
        >>> x = torch.arange(4.0)[:, None]
        >>> mmd(x, x).item(), mmd(x, x + 10).item() > 1
        (0.0, True)
    """
    both = torch.cat([x, y])
    # A common shift leaves distances unchanged, and small coordinates lose fewer digits.
    both = both - both.detach().mean(dim=0)
    distances = 2 * half_squared_distances(both, both)
    n = len(both)
    bandwidth = (distances.detach().sum() / max(n * n - n, 1)).clamp_min(torch.finfo(both.dtype).eps)
    kernel = torch.stack([torch.exp(-distances / (bandwidth * scale)) for scale in scales]).sum(dim=0)
    split = len(x)
    return kernel[:split, :split].mean() + kernel[split:, split:].mean() - 2 * kernel[:split, split:].mean()


def hallucination_loss(kind: Discrepancy, hallucinated: Tensor, real: Tensor, present: Tensor) -> Tensor:
    """Compute the discrepancy on the samples that have both modalities; labels are not needed.

    Args:
        kind: `mse` compares features sample by sample, `mmd` their distributions in the batch.
        hallucinated: (B, D) features made from the prevalent modality.
        real: (B, D) features of the privileged modality.
        present: (B,) bool, True where both modalities were recorded.

    Returns:
        Scalar; 0 with zero gradient where no sample has both.

    Example:
        >>> made, real = torch.zeros(3, 2), torch.ones(3, 2)
        >>> hallucination_loss("mse", made, real, present=torch.tensor([True, False, True]))
        tensor(1.)
    """
    if not bool(present.any()):
        nothing = hallucinated[present].sum()  # 0, with zero gradient
        return nothing.to(torch.promote_types(nothing.dtype, torch.float32))
    with torch.autocast(device_type=hallucinated.device.type, enabled=False):
        kept = torch.promote_types(hallucinated.dtype, torch.float32)
        made, real = hallucinated[present].to(kept), real[present].to(kept)
        return F.mse_loss(made, real) if kind == "mse" else mmd(made, real)
