"""What encoders of raw media share: only real steps are encoded, and padding never changes a result."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from mtpkdot.models.attention import AttentionBlock
from mtpkdot.models.encoder import sinusoids
from mtpkdot.models.exporting import is_exporting


class Temporal(nn.Module):
    """Attention blocks over time, with sinusoidal positions; the identity without blocks.

    Args:
        dim: feature size D, a multiple of `heads`.
        layers: number of blocks.
        heads: attention heads.
        dropout: probability within the blocks.
    """

    def __init__(self, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(AttentionBlock(dim, heads, 2 * dim, dropout) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Let the real steps of (B, T, D), mask (B, T), read each other; masked steps come out as zeros."""
        if len(self.blocks):
            x = x + sinusoids(x.shape[1], x.shape[2]).to(x)
            # A sample without a real step attends to its first one: finite, and masked afterwards.
            readable = mask.clone()
            readable[:, 0] |= ~mask.any(dim=1)
            for block in self.blocks:
                x = block(x, x, readable)
        return torch.where(mask.unsqueeze(2), x, 0.0)


def encode_real(
    module: nn.Module, encode: Callable[[Tensor], Tensor], x: Tensor, real: Tensor, dim: int, chunk: int | None = None
) -> Tensor:
    """Encode the real ones of a number of items; the others cost nothing, but for an exported network.

    Args:
        module: whose parameters `encode` uses.
        encode: (N', *) -> (N', dim), called with real items only and never with none.
        x: (N, *) items; those that are not real may hold anything.
        real: (N,) bool.
        dim: size of the features.
        chunk: most items at once while no gradients are recorded (with gradients it would save no memory).

    Returns:
        (N, dim), zeros where not real.
    """
    if is_exporting():
        return torch.where(real.unsqueeze(1), encode(x), 0.0)
    chosen = x[real]
    if not len(chosen):
        return x.new_zeros(len(x), dim, dtype=torch.float32) + _zero(module).to(x.device)
    encoded = _in_chunks(encode, chosen, chunk)
    result = encoded.new_zeros(len(x), dim)
    result[real] = encoded
    return result


def by_length(mask: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Samples that are equally long once the masked steps after their last real one are dropped.

    A network that reads a whole sequence would see the padding, which depends on the other samples of a batch.

    Args:
        mask: (B, T) bool.

    Yields:
        Length and (n,) indices of the samples of that length; samples without a real step are left out.
    """
    positions = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    lengths = (mask * positions).amax(dim=1)
    for length in sorted(set(lengths.tolist())):
        if length:
            yield int(length), (lengths == length).nonzero().flatten()


def encode_sequences(
    module: nn.Module, encode: Callable[[Tensor], Tensor], x: Tensor, mask: Tensor, dim: int, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Encode whole sequences to one feature each, independent of padding.

    An exported network reads every sequence to its end: it is to be given sequences of one length at a time.

    Args:
        module: whose parameters `encode` uses.
        encode: (n, t, *) -> (n, dim), for every t.
        x: (B, T, *) without gaps: masked steps before the last real one hold something sensible.
        mask: (B, T) bool.
        dim: size of the features.
        chunk: most sequences at once while no gradients are recorded.

    Returns:
        Features (B, 1, dim), zeros for samples without a real step, and their mask (B, 1).
    """
    present = mask.any(dim=1)
    if is_exporting():
        return torch.where(present.unsqueeze(1), encode(x), 0.0).unsqueeze(1), present.unsqueeze(1)
    groups = list(by_length(mask))
    if not groups:
        return encode_real(module, encode, x=x, real=present, dim=dim).unsqueeze(1), present.unsqueeze(1)
    encoded = torch.cat([_in_chunks(encode, x[index, :length], chunk) for length, index in groups])
    result = encoded.new_zeros(len(x), dim)
    result[torch.cat([index for _, index in groups])] = encoded
    return result.unsqueeze(1), present.unsqueeze(1)


def nearest_real(mask: Tensor) -> Tensor:
    """For every step the index (B, T) of the nearest earlier real step, itself included, or else of the next later.

    Samples without a real step (mask (B, T) bool) get 0.
    """
    positions = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    latest = torch.where(mask, positions, -1).cummax(dim=1).values
    first = mask.to(torch.uint8).argmax(dim=1, keepdim=True)
    return torch.where(latest < 0, first, latest)


def _in_chunks(encode: Callable[[Tensor], Tensor], x: Tensor, chunk: int | None) -> Tensor:
    if chunk and len(x) > chunk and not torch.is_grad_enabled():
        return torch.cat([encode(part) for part in torch.split(x, chunk)])
    return encode(x)


def _zero(module: nn.Module) -> Tensor:
    """A zero that every trained parameter takes part in: a distributed step waits for the gradients of all."""
    parts = [parameter.flatten()[:1].float() for parameter in module.parameters() if parameter.requires_grad]
    return torch.cat(parts).sum() * 0.0 if parts else torch.zeros(())
