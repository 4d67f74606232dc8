"""Attention block for self-attention over time and for attention across modalities."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AttentionBlock(nn.Module):
    """Multi-head attention and feed-forward, each with residual and post-normalisation (Vaswani et al., 2017).

    Args:
        dim: feature size D, a multiple of `heads`.
        heads: attention heads.
        feedforward: hidden size of the feed-forward part.
        dropout: probability on both residual branches.
        across_batch: attend over the samples of the batch instead of over time, as the released code does by mistake
            (protocol switch `batch_attention`): predictions then depend on the other samples of the batch.

    Raises:
        ValueError: `dim` is not a multiple of `heads`.

    Example:
        >>> x, mask = torch.zeros(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
        >>> AttentionBlock(8)(x, x, mask).shape
        torch.Size([2, 5, 8])
    """

    def __init__(
        self, dim: int, heads: int = 2, feedforward: int = 512, dropout: float = 0.1, across_batch: bool = False
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"the feature size {dim} is not a multiple of the {heads} attention heads")
        self.heads, self.across_batch = heads, across_batch
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.feedforward = nn.Sequential(
            nn.Linear(dim, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, dim)
        )
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Attend from every step of `x` to the steps of `context`.

        Args:
            x: (B, T, D) queries.
            context: (B, S, D) keys and values; `x` for self-attention. `across_batch` needs S = T.
            mask: (B, S) bool, True where a step of the context is real; each row needs a real step.

        Returns:
            (B, T, D) updated steps of `x`.
        """
        x = self.norm1(x + self.dropout(self._attend(x, context, mask)))
        result: Tensor = self.norm2(x + self.dropout(self.feedforward(x)))
        return result

    def _attend(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        if self.across_batch:
            x, context, mask = x.transpose(0, 1), context.transpose(0, 1), mask.transpose(0, 1)
            mask = mask | ~mask.any(dim=1, keepdim=True)  # finite for a step that is real in no sample
        attended = self._read(x, context, mask) if context.shape[1] > 1 else self._read_one(x, context)
        return attended.transpose(0, 1) if self.across_batch else attended

    def _read(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        query = self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(context).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        attended: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return attended

    def _read_one(self, x: Tensor, context: Tensor) -> Tensor:
        """Attend to a context of one step: the result is its value, independent of the query.

        Queries and keys, half of the computation, would only give weights of 1.
        """
        dim = x.shape[2]
        value = F.linear(context, self.key_value.weight[dim:], self.key_value.bias[dim:])
        # Gives queries and keys a zero gradient: distributed training waits for the gradient of every parameter.
        unread = 0.0 * (self.query.weight.sum() + self.query.bias.sum())
        attended: Tensor = (self.out(value) + unread).expand_as(x)
        return attended


def reduce_steps(x: Tensor, mask: Tensor, per_step: bool) -> Tensor:
    """Reduce steps to the rows that predictions are made for: one per sample, or one per step.

    Args:
        x: (B, T, D) features of steps.
        mask: (B, T) bool, True where a step is real.
        per_step: True if every step has a target.

    Returns:
        (B, D) means over the real steps, or (B * T, D) with zeros where masked.
    """
    return torch.where(mask.unsqueeze(2), x, 0.0).flatten(0, 1) if per_step else masked_mean(x, mask)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean over the real time steps.

    Args:
        x: (B, T, D) features of steps.
        mask: (B, T) bool, True where a step is real.

    Returns:
        (B, D) means; zeros for a sample without real steps.

    Example:
        >>> masked_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
        tensor([[2.]])
    """
    weight = mask.unsqueeze(2).to(x.dtype)
    return torch.where(mask.unsqueeze(2), x, 0.0).sum(dim=1) / weight.sum(dim=1).clamp_min(1.0)
