"""Concatenation of the pooled features, without weights."""

import torch
from torch import Tensor

from mtpkdot.models.attention import reduce_steps
from mtpkdot.models.fusions.base import Fusion


class Concatenation(Fusion):
    """Means over the steps of every modality, concatenated; zeros where a modality is absent.

    It has no weights: with linear encoders the multimodal teacher is a linear model of all modalities, and a student
    without hallucination one of the prevalent modality.

    Args:
        dims: feature size D_m per modality, in a fixed order; the joint feature has the size of their sum.
        per_step: make a joint feature per step.

    Example:
        >>> fusion = Concatenation({"video": 4, "sound": 3})
        >>> features = {"video": torch.ones(2, 5, 4), "sound": torch.ones(2, 9, 3)}
        >>> masks = {name: torch.ones(x.shape[:2], dtype=torch.bool) for name, x in features.items()}
        >>> fusion(features, masks)[0].shape
        torch.Size([2, 7])
    """

    def __init__(self, dims: dict[str, int], per_step: bool = False) -> None:
        super().__init__(dims, per_step, sum(dims.values()))

    def forward(self, features: dict[str, Tensor], masks: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the joint feature (N, sum of D_m) and equal gates of the present modalities (N, M); see Fusion."""
        pooled = [reduce_steps(features[name], masks[name], self.per_step) for name in self.modalities]
        present = [masks[n].flatten() if self.per_step else masks[n].any(dim=1) for n in self.modalities]
        gate = torch.stack(present, dim=1).to(pooled[0])
        return torch.cat(pooled, dim=1), gate / gate.sum(dim=1, keepdim=True).clamp_min(1)
