"""Encoding of masked sequences: only real steps are encoded, and padding never changes a result."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from mtpkdot.models.attention import AttentionBlock
from mtpkdot.models.encoder import sinusoids
from mtpkdot.models.exporting import is_exporting


class Temporal(nn.Module):
    """Attention blocks over time with sinusoidal positions, or the identity if there are none.

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
        """Attend between the real steps of (B, T, D), mask (B, T); masked steps become zeros."""
        if len(self.blocks):
            x = x + sinusoids(x.shape[1], x.shape[2]).to(x)
            # A sample without real steps attends to its first step: finite, and masked afterwards.
            readable = mask.clone()
            readable[:, 0] |= ~mask.any(dim=1)
            for block in self.blocks:
                x = block(x, x, readable)
        return torch.where(mask.unsqueeze(2), x, 0.0)


def encode_real(
    module: nn.Module, encode: Callable[[Tensor], Tensor], x: Tensor, real: Tensor, dim: int, chunk: int | None = None
) -> Tensor:
    """Encode only the real items; an exported network encodes all and masks the others.

    Args:
        module: module with the parameters that `encode` uses.
        encode: function (N', *) -> (N', dim), called with real items only and with at least one.
        x: (N, *) items; those that are not real may have any value.
        real: (N,) bool.
        dim: size of the features.
        chunk: largest number of items encoded at once while no gradients are recorded (with gradients, chunks would
            save no memory).

    Returns:
        (N, dim) features, zeros where not real.
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
    """Group samples by their length without the masked steps after the last real one.

    A network that reads a whole sequence would otherwise read padding, which depends on the other samples of a batch.

    Args:
        mask: (B, T) bool, True where a step is real.

    Yields:
        Length and (n,) indices of the samples of that length; samples without real steps are left out.
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

    An exported network reads every sequence to its end, and must be given sequences of one length at a time.

    Args:
        module: module with the parameters that `encode` uses.
        encode: function (n, t, *) -> (n, dim), for every t.
        x: (B, T, *) sequences without gaps: masked steps before the last real one must hold valid values.
        mask: (B, T) bool, True where a step is real.
        dim: size of the features.
        chunk: largest number of sequences encoded at once while no gradients are recorded.

    Returns:
        Features (B, 1, dim), zeros for samples without real steps, and their mask (B, 1).
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
    """Return for every step the index (B, T) of the last real step up to it, or else of the first real step after it.

    The index is 0 for samples without real steps (mask (B, T) bool).
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
    """Return a zero with a zero gradient for every trained parameter, which distributed training waits for."""
    parts = [parameter.flatten()[:1].float() for parameter in module.parameters() if parameter.requires_grad]
    return torch.cat(parts).sum() * 0.0 if parts else torch.zeros(())
