"""Base of the fusions, which make one joint feature from the feature sequences of several modalities."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mtpkdot.models.tried import named, tried


class Fusion(nn.Module):
    """Base of the fusions. A subclass takes `dims` and `per_step` first, and its settings after them.

    Args:
        dims: feature size D_m per modality, in a fixed order.
        per_step: make a joint feature per step, all modalities having the same steps; otherwise one per sample.
        dim: size D of the joint feature.

    Attributes:
        modalities: names of the modalities, in order.
        protocol: values of the protocol switches, by name; see `use_protocol`.

    Example:
        >>> class Mean(Fusion):
        ...     def __init__(self, dims, per_step=False, dim=16):
        ...         super().__init__(dims, per_step, dim)
        ...         self.layers = nn.ModuleList(nn.Linear(size, dim) for size in dims.values())
        ...
        ...     def forward(self, features, masks):
        ...         pooled = [masked_mean(features[name], masks[name]) for name in self.modalities]
        ...         values = torch.stack([layer(x) for layer, x in zip(self.layers, pooled)], dim=1)
        ...         gate = torch.stack([masks[name].any(dim=1) for name in self.modalities], dim=1).float()
        ...         gate = gate / gate.sum(dim=1, keepdim=True).clamp_min(1)
        ...         return (gate[:, :, None] * values).sum(dim=1), gate
        >>> from mtpkdot.models.attention import masked_mean
        >>> fusion = Mean({"video": 4, "sound": 3})
        >>> features = {"video": torch.zeros(2, 5, 4), "sound": torch.zeros(2, 9, 3)}
        >>> masks = {name: torch.ones(x.shape[:2], dtype=torch.bool) for name, x in features.items()}
        >>> [tuple(x.shape) for x in fusion(features, masks)]
        [(2, 16), (2, 2)]
    """

    def __init__(self, dims: Mapping[str, int], per_step: bool = False, dim: int = 128) -> None:
        super().__init__()
        self.modalities, self.per_step, self.dim = list(dims), per_step, dim
        self.protocol: dict[str, bool] = {}

    def forward(self, features: dict[str, Tensor], masks: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the joint feature of several modalities.

        Args:
            features: (B, T_m, D_m) per modality. Modalities may differ in length, unless `per_step`.
            masks: (B, T_m) bool per modality, True where a step is real. Masked steps may have any value, and any
                modality may be absent from a sample.

        Returns:
            Joint feature (N, D), finite in every row, and the mean gate of each modality (N, M), which is logged;
            N = B, or B * T per step.
        """
        raise NotImplementedError

    def use_protocol(self, batch_attention: bool = False, frozen_projections: bool = False) -> None:
        """Set the protocol switches, which reproduce deviations of the released code from the method.

        Args:
            batch_attention: attend across the batch instead of over time.
            frozen_projections: keep the projections at their random initial weights.

        Raises:
            ValueError: the fusion does not support a switch that is set.
        """
        wanted = {"batch_attention": batch_attention, "frozen_projections": frozen_projections}
        if on := [name for name, value in wanted.items() if value]:
            raise ValueError(f"{type(self).__name__} has no {on[0]}; set protocol to clean")


FusionFactory = Callable[[dict[str, int], bool], Fusion]


def fusion_size(build: FusionFactory, modalities: list[str], per_step: bool) -> int:
    """Build a fusion on small features, pass a batch through it, and return the size of its joint feature.

    Args:
        build: factory of the fusion.
        modalities: names of the modalities.
        per_step: True for a joint feature per step.

    Raises:
        ValueError: the signature of the class, or the shapes that it returns, are not those of a fusion.
    """
    dims = {name: 4 + index for index, name in enumerate(modalities)}
    expected = "a fusion is built from (dims, per_step) and returns a joint feature (N, dim) and gates (N, M)"
    with tried(build, expected):
        fusion = build(dims, per_step)
        if not isinstance(fusion, Fusion):
            raise ValueError(f"{type(fusion).__name__} is not a Fusion; {expected}")
        features = {name: torch.zeros(2, 3, size) for name, size in dims.items()}
        found = fusion.eval()(features, {name: torch.ones(2, 3, dtype=torch.bool) for name in dims})
    rows = 6 if per_step else 2
    shapes = [tuple(x.shape) for x in found] if isinstance(found, tuple) else type(found).__name__
    if shapes != [(rows, fusion.dim), (rows, len(dims))]:
        raise ValueError(
            f"{named(build)} returns {shapes} for 2 samples of 3 steps, not [({rows}, {fusion.dim}), ({rows}, "
            f"{len(dims)})]: {expected}; see mtpkdot.models.Fusion"
        )
    return fusion.dim
