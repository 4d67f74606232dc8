"""Gated cross-modal transformer for any number of modalities and time steps, with absent ones."""

import torch
from torch import Tensor, nn

from mtpkdot.models.attention import AttentionBlock, masked_mean
from mtpkdot.models.exporting import is_exporting
from mtpkdot.models.fusions.base import Fusion


class GatedFusion(Fusion):
    """Gated cross-modal fusion (the fusion transformer of MT-PKDOT, extended to M modalities).

    Each modality passes a projection, a self-attention block over time and an attention block to the steps of all other
    modalities. A gate mixes the pooled results, `z = sum_m g_m * v_m`, where `g` is a softmax over the present
    modalities, per feature. For two modalities this is the published `sigmoid(W[v; p])`.

    Every modality has a learned token, which replaces it where it is absent and is used nowhere else; attention is
    therefore defined also if every step is masked.

    With `per_step` nothing is pooled: every step has its own gate and joint feature (as in the joint cross-attention
    that the Aff-Wild2 model files suggest), and all modalities have the same steps. The token replaces every masked
    step.

    Args:
        dims: feature size per modality, in a fixed order.
        per_step: make a joint feature per step.
        dim: size D of the joint feature.
        heads: attention heads.
        feedforward: hidden size of the attention blocks.
        dropout: probability within the blocks.

    Example:
        >>> fusion = GatedFusion({"video": 4, "sound": 3}, dim=8)
        >>> features = {"video": torch.zeros(2, 5, 4), "sound": torch.zeros(2, 9, 3)}
        >>> masks = {name: torch.ones(x.shape[:2], dtype=torch.bool) for name, x in features.items()}
        >>> joint, gate = fusion(features, masks)
        >>> joint.shape, gate.shape
        (torch.Size([2, 8]), torch.Size([2, 2]))
    """

    def __init__(
        self,
        dims: dict[str, int],
        per_step: bool = False,
        dim: int = 128,
        heads: int = 2,
        feedforward: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(dims, per_step, dim)
        if dim % heads or not 0 <= dropout < 1:
            raise ValueError(f"dim {dim} must be a multiple of heads {heads}, and dropout {dropout} lie in [0, 1)")
        self.batch_attention = False
        self.project = nn.ModuleList(nn.Linear(size, dim) for size in dims.values())
        self.tokens = nn.Parameter(torch.randn(len(dims), dim) * 0.02)

        def block() -> AttentionBlock:
            return AttentionBlock(dim, heads, feedforward, dropout)

        self.within = nn.ModuleList(block() for _ in dims)
        self.across = nn.ModuleList(block() for _ in dims) if len(dims) > 1 else None
        self.gate = nn.Linear(len(dims) * dim, len(dims) * dim)

    def use_protocol(self, batch_attention: bool = False, frozen_projections: bool = False) -> None:
        """Set the protocol switches: attend across the batch, or keep the projections random."""
        self.protocol = {"batch_attention": batch_attention, "frozen_projections": frozen_projections}
        self.batch_attention = batch_attention
        for block in self.modules():
            if isinstance(block, AttentionBlock):
                block.across_batch = batch_attention
        self.project.requires_grad_(not frozen_projections)

    def forward(self, features: dict[str, Tensor], masks: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the joint feature of several modalities.

        Args:
            features: (B, T_m, dims[m]) per modality. Modalities may differ in length.
            masks: (B, T_m) bool per modality, True where a step is real.

        Returns:
            Joint feature (N, D), and the mean gate of each modality (N, M); N = B, or B * T per step. The feature of a
            row without any modality is a mixture of the tokens.
        """
        sequences, readable = [], []
        for index in range(len(self.modalities)):
            x, mask = self._with_token(index, features, masks)
            sequences.append(self.within[index](x, x, mask))
            readable.append(mask)
        if self.across is not None:
            sequences = [self._read_others(index, sequences, readable) for index in range(len(sequences))]
        real = [masks[name] for name in self.modalities]
        if self.per_step:
            present = torch.stack([mask.flatten() for mask in real], dim=1)
            values = torch.stack([_steps(x, mask).flatten(0, 1) for x, mask in zip(sequences, real, strict=True)], 1)
        else:
            present = torch.stack([mask.any(dim=1) for mask in real], dim=1)
            values = torch.stack([masked_mean(x, mask) for x, mask in zip(sequences, readable, strict=True)], dim=1)
        logits = self.gate(values.flatten(1)).unflatten(1, (len(self.modalities), self.dim))
        seen = present | ~present.any(dim=1, keepdim=True)
        gate = logits.masked_fill(~seen.unsqueeze(2), -torch.inf).softmax(dim=1)
        # Gives unused tokens a zero gradient: distributed training waits for the gradient of every parameter.
        joint = (gate * values).sum(dim=1) + 0.0 * self.tokens.sum()
        return joint, gate.mean(dim=2)

    def _with_token(self, index: int, features: dict[str, Tensor], masks: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the projected steps of a modality and their mask, with the token in front if one is needed."""
        name = self.modalities[index]
        mask = masks[name]
        # Masked before the projection: an infinite value in a masked step would make its gradient NaN.
        x = self.project[index](torch.where(mask.unsqueeze(2), features[name], 0.0))
        absent = ~mask.any(dim=1, keepdim=True)
        # An exported graph must not branch on data: it always has the token, masked where nothing is absent.
        if not is_exporting() and not bool((~mask if self.per_step else absent).any()):
            return x, mask
        token = self.tokens[index].expand(x.shape[0], 1, -1)  # len() would fix the batch of an exported graph
        return torch.cat([token, x], dim=1), torch.cat([absent, mask], dim=1)

    def _read_others(self, index: int, sequences: list[Tensor], readable: list[Tensor]) -> Tensor:
        assert self.across is not None
        x = sequences[index]
        others = [i for i in range(len(sequences)) if i != index]
        context, mask = torch.cat([sequences[i] for i in others], 1), torch.cat([readable[i] for i in others], 1)
        if self.batch_attention and context.shape[1] != x.shape[1]:
            # Attention across the batch needs equal lengths: each step gets the mean of the other modalities.
            context, mask = masked_mean(context, mask)[:, None].expand_as(x), mask.new_ones(x.shape[:2])
        fused: Tensor = self.across[index](x, context, mask)
        return fused


def _steps(x: Tensor, mask: Tensor) -> Tensor:
    """Return the steps (B, T, D) of a sequence, with the token in place of masked steps."""
    if x.shape[1] == mask.shape[1]:
        return x
    return torch.where(mask[:, :, None], x[:, 1:], x[:, :1])
