"""Pool of processes that decode recordings, generate synthetic data and run the cells of studies.

A new process imports this module first. It does not import torch, so that the environment is set before torch reads it.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait
from typing import Any, TypeVar

from mtpkdot.errors import UserError

CARDS = "CUDA_VISIBLE_DEVICES"
# Libraries read these variables when they are imported in a new process.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")

Job = TypeVar("Job")
Result = TypeVar("Result")
Submit = Callable[..., "Future[Any]"]


@contextmanager
def workers(
    count: int,
    threads: int,
    killed: UserError,
    cards: Sequence[str] = (),
    start: Callable[[], None] | None = None,
) -> Iterator[Submit]:
    """Yield the `submit` function of a pool of processes, which end when this process ends or is killed.

    An error within the block, or Ctrl-C, kills them at once.

    Args:
        count: number of processes. They are spawned, since a fork of a process with threads (torch, OpenCV) may hang.
        threads: threads per process.
        killed: the error to raise if a process is killed from outside, as the system does when memory runs out.
        cards: graphics cards, as named in CUDA_VISIBLE_DEVICES. Each process gets one; if there are more processes
            than cards, several share one. Empty to give all processes the cards of this one.
        start: called in each process before its first job; a function of a module that does not import torch.

    Raises:
        UserError: `killed`.

    Example:
        >>> import math
        >>> with workers(2, 1, UserError("a process was killed", "Try again.")) as submit:
        ...     submit(math.sqrt, 9).result()
        3.0
    """
    context = multiprocessing.get_context("spawn")
    places = context.SimpleQueue()
    for place in range(count):
        places.put(cards[place % len(cards)] if cards else None)
    others = set(multiprocessing.active_children())
    with _threads(threads):
        pool = ProcessPoolExecutor(count, context, _start, (places, start))
        try:
            yield pool.submit
        except BaseException as error:
            # SIGTERM would only end the current job, since the Trainer turns it into an exception.
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            if isinstance(error, BrokenProcessPool):
                raise killed from error
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def completed(
    work: Callable[[Job], Result], jobs: Iterable[Job], count: int, killed: UserError
) -> Iterator[tuple[int, Result]]:
    """Yield the position of each job and its result, in the order of completion.

    Only as many jobs are submitted at a time as keep the processes busy.

    Args:
        work: a function on the top level of a module, so that other processes can import it.
        jobs: its arguments; must be picklable.
        count: number of processes, of one thread each; 1 runs the jobs in this process.
        killed: the error to raise if a process is killed.

    Raises:
        UserError: `killed`.

    Example:
        >>> list(completed(abs, [-1, 2], 1, UserError("a process was killed", "Try again.")))
        [(0, 1), (1, 2)]
    """
    queue = enumerate(jobs)
    if count < 2:
        for position, job in queue:
            yield position, work(job)
        return
    with workers(count, 1, killed) as submit:
        pending: dict[Future[Result], int] = {}
        while True:
            for position, job in islice(queue, 2 * count - len(pending)):
                pending[submit(work, job)] = position
            if not pending:
                return
            for done in wait_for(pending, return_when=FIRST_COMPLETED).done:
                yield pending.pop(done), done.result()


def visible_cards() -> list[str]:
    """Return the graphics cards that this process may use, as named in CUDA_VISIBLE_DEVICES."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get(CARDS)
    names = map(str, range(count)) if named is None else named.split(",")
    return [name.strip() for name in names][:count]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Limit the threads of processes that are started within the block."""
    # By environment variables: a spawned process may import torch before any function can be called in it.
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ |= dict.fromkeys(THREADS, str(count))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _start(places: Any, start: Callable[[], None] | None) -> None:
    card = places.get()
    if card is not None:
        os.environ[CARDS] = card
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    if start is not None:
        start()


def _end_with(sentinel: int) -> None:
    """End this process when its parent ends, since a killed parent cannot end its processes."""
    wait([sentinel])
    os._exit(1)
