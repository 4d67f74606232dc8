"""Gated cross-modal transformer: any number of modalities and time steps, any of them absent."""

import torch
from torch import Tensor, nn

from mtpkdot.models.attention import AttentionBlock, masked_mean


class GatedFusion(nn.Module):
    """Joint feature of several modalities (the fusion transformer of MT-PKDOT, extended to M modalities).

    Per modality a projection, one self-attention block over time and one attention block to the steps of all other
    modalities; the pooled results are mixed by a gate, `z = sum_m g_m * v_m` with `g` a softmax over the modalities
    that are present, per feature. For two modalities this is the published `sigmoid(W[v; p])`.

    Every modality has a learned token. It stands in for the modality where it is absent and is read nowhere else; so
    attention is defined where every step is masked.

    With `per_step` nothing is pooled: every step has a gate and a joint feature of its own (as in the joint
    cross-attention that the Aff-Wild2 model files point to), and all modalities have the same steps. The token stands
    in wherever a step is masked.

    Args:
        dims: feature size per modality, in a fixed order.
        dim: size D of the joint feature.
        heads: attention heads.
        feedforward: hidden size of the attention blocks.
        dropout: probability within the blocks.
        batch_attention: protocol switch: attend across the batch, as the released code does.
        frozen_projections: protocol switch: keep the projections random, as the released code does.
        per_step: a joint feature per step.
    """

    def __init__(
        self,
        dims: dict[str, int],
        dim: int = 128,
        heads: int = 2,
        feedforward: int = 512,
        dropout: float = 0.1,
        batch_attention: bool = False,
        frozen_projections: bool = False,
        per_step: bool = False,
    ) -> None:
        super().__init__()
        self.settings: dict[str, int | float | bool] = {
            "dim": dim,
            "heads": heads,
            "feedforward": feedforward,
            "dropout": dropout,
            "batch_attention": batch_attention,
            "frozen_projections": frozen_projections,
            "per_step": per_step,
        }
        self.per_step = per_step
        self.modalities, self.dim, self.batch_attention = list(dims), dim, batch_attention
        self.project = nn.ModuleList(nn.Linear(size, dim) for size in dims.values())
        self.tokens = nn.Parameter(torch.randn(len(dims), dim) * 0.02)

        def block() -> AttentionBlock:
            return AttentionBlock(dim, heads, feedforward=feedforward, dropout=dropout, across_batch=batch_attention)

        self.within = nn.ModuleList(block() for _ in dims)
        self.across = nn.ModuleList(block() for _ in dims) if len(dims) > 1 else None
        self.gate = nn.Linear(len(dims) * dim, len(dims) * dim)
        if frozen_projections:
            self.project.requires_grad_(False)

    def forward(self, features: dict[str, Tensor], masks: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Fuse.

        Args:
            features: (B, T_m, dims[m]) per modality. Modalities may differ in length.
            masks: (B, T_m) bool per modality.

        Returns:
            Joint feature (N, D), and the mean gate of each modality (N, M); N = B, or B * T per step. A row without
            any modality gets the mixture of the tokens alone.
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
        # A token that stood in for nothing has a gradient all the same, of zero: no parameter is ever left out.
        joint = (gate * values).sum(dim=1) + 0.0 * self.tokens.sum()
        return joint, gate.mean(dim=2)

    def _with_token(self, index: int, features: dict[str, Tensor], masks: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Projected steps of a modality and what of them can be read; with its token in front where one is needed."""
        name = self.modalities[index]
        mask = masks[name]
        # Masked before the projection: an infinite value in a masked step has no finite gradient after it.
        x = self.project[index](torch.where(mask.unsqueeze(2), features[name], 0.0))
        absent = ~mask.any(dim=1, keepdim=True)
        if not bool((~mask if self.per_step else absent).any()):
            return x, mask
        token = self.tokens[index].expand(len(x), 1, -1)
        return torch.cat([token, x], dim=1), torch.cat([absent, mask], dim=1)

    def _read_others(self, index: int, sequences: list[Tensor], readable: list[Tensor]) -> Tensor:
        assert self.across is not None
        x = sequences[index]
        others = [i for i in range(len(sequences)) if i != index]
        context, mask = torch.cat([sequences[i] for i in others], 1), torch.cat([readable[i] for i in others], 1)
        if self.batch_attention and context.shape[1] != x.shape[1]:
            # Across the batch, each step reads the mean of the other modalities.
            context, mask = masked_mean(context, mask)[:, None].expand_as(x), mask.new_ones(x.shape[:2])
        fused: Tensor = self.across[index](x, context, mask)
        return fused


def _steps(x: Tensor, mask: Tensor) -> Tensor:
    """Real steps (B, T, D) of a sequence, with the token in the place of the masked ones."""
    if x.shape[1] == mask.shape[1]:
        return x
    return torch.where(mask[:, :, None], x[:, 1:], x[:, :1])
