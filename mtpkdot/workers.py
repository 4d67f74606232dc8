"""Processes that run the cells of a study, each with its own threads and its own graphics card.

A new process imports this module first. It imports no torch, so that all is set when torch looks at it.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

CARDS = "CUDA_VISIBLE_DEVICES"

Submit = Callable[..., "Future[Any]"]


@contextmanager
def workers(jobs: int, threads: int, cards: Sequence[str] = ()) -> Iterator[Submit]:
    """Yield the `submit` of a pool of processes that end with this one, however it ends.

    Args:
        jobs: processes.
        threads: threads of each.
        cards: graphics cards, as CUDA_VISIBLE_DEVICES names them. Each process sees one; where there are more
            processes than cards, several share one. Empty to let all see whatever this process sees.
    """
    # Every library counts its own threads, when it is imported in a new process.
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    context = multiprocessing.get_context("spawn")
    places = context.SimpleQueue()
    for job in range(jobs):
        places.put(cards[job % len(cards)] if cards else None)
    pool = ProcessPoolExecutor(jobs, context, _start, (threads, places))
    try:
        yield pool.submit
    except BaseException:
        # A polite signal would end the cell in hand alone: the Trainer turns it into an exception.
        for process in multiprocessing.active_children():
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def visible_cards() -> list[str]:
    """Return the graphics cards that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get(CARDS)
    names = map(str, range(count)) if named is None else named.split(",")
    return [name.strip() for name in names][:count]


def _start(threads: int, places: Any) -> None:
    card = places.get()
    if card is not None:
        os.environ[CARDS] = card
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    # Its logger keeps the stream that it finds when it is imported, which must outlast the log of a cell.
    import lightning.pytorch  # noqa: F401
    import torch

    from mtpkdot.pipeline.notices import quieten

    torch.set_num_threads(threads)
    quieten()


def _end_with(sentinel: int) -> None:
    """A parent that was killed cannot end its processes."""
    wait([sentinel])
    os._exit(1)
