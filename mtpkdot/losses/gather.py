"""The rows of all processes, for losses that compare samples with each other.

A similarity structure of one process's share of a batch is another objective than that of the whole batch.
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
    """Within it, every process has batches of its own, and not shares of common ones: nothing is gathered."""
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Rows of all processes in the order of their ranks, with gradients.

    Every process then computes the same loss of all rows. Backward sums what all of them ask of a row, so that the mean
    over processes which DistributedDataParallel takes of the parameters' gradients is the gradient of that one loss.
    Without a process group, or in one of a single process, the tensors come back as they are.

    Args:
        tensors: (N_r, ...) each, with as many rows; processes may have different numbers of rows, also none.

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
    """Rows that each process has, in the order of their ranks."""
    if not _several():
        return [len(tensor)]
    own = torch.tensor([len(tensor)], device=tensor.device)
    counts = [torch.zeros_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, own)
    return [int(count) for count in counts]


def own_rows(gathered: Tensor, sizes: list[int]) -> Tensor:
    """Of rows that were gathered, those of this process.

    Args:
        gathered: (sum of `sizes`, ...).
        sizes: see `row_counts`.
    """
    return torch.split(gathered, sizes)[dist.get_rank() if len(sizes) > 1 else 0]


def _several() -> bool:
    return not _whole.get() and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _gather(tensor: Tensor, sizes: list[int]) -> Tensor:
    if not tensor.dtype.is_floating_point:
        # Collectives of some backends know no booleans, and integers need no gradient.
        return _Gather.apply(tensor.long(), sizes).to(tensor.dtype)  # type: ignore[no-any-return]
    return _Gather.apply(tensor, sizes)  # type: ignore[no-any-return]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, sizes: list[int]) -> Tensor:
        """Rows of all processes, of which each has the number in `sizes`."""
        ctx.sizes = sizes
        # Collectives want equal shapes: shorter shares travel with rows that are cut off again.
        padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """What all processes together ask of this one's rows."""
        # A copy: autograd may hand the same tensor to other nodes as well.
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return torch.split(gradient, ctx.sizes)[dist.get_rank()], None
