"""Gathering of rows from all processes, for losses that compare samples with each other.

The similarity structure of one process's share of a batch is a different objective from that of the whole batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_whole: ContextVar[bool] = ContextVar("whole", default=False)


@contextmanager
def whole_batches() -> Iterator[None]:
    """Gather nothing within the block: every process has whole batches of its own."""
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Gather the rows of all processes in the order of their ranks, with gradients.

    Every process then computes the same loss on all rows. The backward pass sums the gradients of a row over all
    processes, so that the mean that DistributedDataParallel takes of the parameters' gradients is the gradient of that
    loss. Without a process group, or with a single process, the tensors are returned unchanged.

    Args:
        tensors: (N_r, ...) tensors with the same number of rows. N_r may differ between processes and may be 0.

    Returns:
        The tensors with `sum_r N_r` rows.

    Example:
        >>> features, labels = gather_rows(torch.randn(4, 8), torch.arange(4))  # a single process: nothing changes
        >>> tuple(features.shape), labels.tolist()
        ((4, 8), [0, 1, 2, 3])
    """
    if not _several():
        return tensors
    sizes = row_counts(tensors[0])
    return tuple(_gather(tensor, sizes) for tensor in tensors)


def row_counts(tensor: Tensor) -> list[int]:
    """Return the number of rows of each process, in the order of the ranks."""
    if not _several():
        return [len(tensor)]
    own = torch.tensor([len(tensor)], device=tensor.device)
    counts = [torch.zeros_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, own)
    return [int(count) for count in counts]


def own_rows(gathered: Tensor, sizes: list[int]) -> Tensor:
    """Return this process's part of gathered rows.

    Args:
        gathered: (sum of `sizes`, ...) rows of all processes.
        sizes: rows of each process, see `row_counts`.

    Returns:
        (N_r, ...), N_r being the entry of `sizes` for this rank.
    """
    return torch.split(gathered, sizes)[dist.get_rank() if len(sizes) > 1 else 0]


def _several() -> bool:
    return not _whole.get() and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _gather(tensor: Tensor, sizes: list[int]) -> Tensor:
    if not tensor.dtype.is_floating_point:
        # Some backends cannot gather booleans, and integers need no gradient.
        return _Gather.apply(tensor.long(), sizes).to(tensor.dtype)  # type: ignore[no-any-return]
    return _Gather.apply(tensor, sizes)  # type: ignore[no-any-return]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, sizes: list[int]) -> Tensor:
        """Gather the rows of all processes, whose numbers are `sizes`."""
        ctx.sizes = sizes
        # Collectives need equal shapes: shorter tensors are padded, and the padding is cut off again.
        padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Sum the gradients of this process's rows over all processes."""
        # A copy, since autograd may pass the same tensor to other nodes as well.
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return torch.split(gradient, ctx.sizes)[dist.get_rank()], None
