"""Processes of a run: each trains on its share of every batch; the first one decides, writes and prints."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import lightning as L
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies import DDPStrategy

from mtpkdot.errors import ConfigError, DivergedError, UserError

T = TypeVar("T")
# Processes wait for the first one while another run trains the stage that they need.
_PATIENCE = timedelta(days=7)
_PLACED = {"NODE_RANK", "GROUP_RANK", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID"}  # Every launcher sets one of them.
_PLACE = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


class Ranks:
    """Processes that share the devices of a run, started by Lightning, torchrun or srun.

    Args:
        trainer: the shared Trainer section, whose accelerator, devices, num_nodes and strategy are used.

    Attributes:
        size: number of the processes.
        rank: number of this process.
        started: `devices` and `num_nodes` by the processes that torchrun has started, if the section has the defaults;
            else empty.

    Raises:
        ConfigError: devices are not available, or the strategy is neither `auto` nor one of DDP.
    """

    def __init__(self, trainer: Mapping[str, Any]) -> None:
        self.started = _started(trainer)
        trainer = {**trainer, **self.started}
        try:
            probe = L.Trainer(
                **{key: trainer[key] for key in ("accelerator", "devices", "num_nodes", "strategy")},
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
        except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
            step = "Correct it, e.g. with --trainer.accelerator cpu --trainer.devices 1."
            raise ConfigError(f"the trainer section: {' '.join(str(error).split())}", step) from error
        if trainer["num_nodes"] > 1 and not _PLACED & os.environ.keys():
            raise ConfigError(
                f"trainer.num_nodes is {trainer['num_nodes']}, but nothing has started the program on several machines",
                "Start it with torchrun or srun, or set NODE_RANK and MASTER_ADDR on every machine.",
            )
        self._strategy: Any = probe.strategy
        self._shared_error: UserError | None = None
        self.size, self.rank = probe.world_size, probe.global_rank if probe.world_size > 1 else 0
        launched = getattr(self._strategy, "_start_method", None) == "popen"
        if self.size > 1 and not (isinstance(self._strategy, DDPStrategy) and launched):
            raise ConfigError(
                f"trainer.strategy is {trainer['strategy']!r}, but batches are shared exactly by copies of the model",
                "Set --trainer.strategy ddp.",
            )

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        device: torch.device = self._strategy.root_device
        return device

    @property
    def devices(self) -> str:
        """Description of the devices of all processes."""
        kind = self.device.type
        if kind == "cuda":
            kind = torch.cuda.get_device_name(self.device)
        elif kind == "cpu":
            kind = f"cpu, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
        return kind if self.size == 1 else f"{self.size} x {kind}"

    @property
    def first(self) -> bool:
        """True for the process that decides, writes and prints."""
        return self.rank == 0

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Start the other processes if no launcher has, and join them in one group; they print nothing."""
        # A Slurm job that holds several runs of one process each numbers these processes, which is not a rank.
        rank_zero_only.rank = self.rank  # type: ignore[attr-defined]
        if self.size == 1:
            yield
            return
        place = {name: os.environ.get(name) for name in _PLACE}
        launcher = self._strategy.launcher
        try:
            with self.ending():
                launcher.launch(self._join)
        except ValueError as error:  # started with a number of processes that differs from that of the devices
            raise ConfigError(
                " ".join(str(error).split()), "Set --trainer.devices to the processes of a node."
            ) from error
        if self.started and self.first:
            print(f"torchrun has started {self.size} processes, which share the work", flush=True)
        with contextlib.ExitStack() as stack:
            if not self.first:
                nothing = stack.enter_context(open(os.devnull, "w"))  # noqa: PTH123 - not a path of the user
                stack.enter_context(contextlib.redirect_stdout(nothing))
            try:
                yield
                dist.barrier(self._group)
            except (UserError, SystemExit) as end:
                if not self.first and (end is self._shared_error or isinstance(end, SystemExit | DivergedError)):
                    sys.exit(0)  # reported by the first process; the one that has started the others would be killed
                raise
            finally:
                dist.destroy_process_group()
                for name, value in place.items():
                    os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        for process in launcher.procs:
            process.wait()

    def decided(self, decide: Callable[[], T]) -> T:
        """Return the result of the first process on all of them; its errors are raised on all of them too."""
        if self.size == 1:
            return decide()
        shared: list[Any] = [None, None]
        if self.first:
            try:
                shared[0] = decide()
            except UserError as error:
                shared[1] = error
        dist.broadcast_object_list(shared, 0, self._group)
        if shared[1] is not None:
            self._shared_error = shared[1]
            raise self._shared_error
        found: T = shared[0]
        return found

    def gathered(self, make: Callable[[], T]) -> list[T] | None:
        """Return the results of all processes in the order of their ranks on the first one, None on the others.

        An error of one process is raised on all of them.
        """
        if self.size == 1:
            return [make()]
        own: list[Any] = [None, None]
        try:
            own[0] = make()
        except UserError as error:
            own[1] = error
        found: list[Any] = [None] * self.size
        dist.gather_object(own, found if self.first else None, 0, self._group)

        def check() -> None:
            for _, error in found:
                if error is not None:
                    raise error

        self.decided(check)
        return [made for made, _ in found] if self.first else None

    def on_any(self, mine: bool) -> bool:
        """Return whether a value is true on any process."""
        if self.size == 1:
            return mine
        found = torch.tensor(int(mine))
        dist.all_reduce(found, dist.ReduceOp.MAX, self._group)
        return bool(found)

    def signal(self, signum: int) -> None:
        """Pass a signal on to the processes that this one has started."""
        if self.size > 1:
            self._strategy.launcher.kill(signum)

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Forward signals that end the first process to the processes it has started, which would wait for it."""
        try:
            yield
        except SystemExit:
            if self.first:
                self.signal(signal.SIGTERM)
            raise

    def _join(self) -> None:
        self._strategy.setup_environment()
        group = dist.new_group(timeout=_PATIENCE, backend="gloo")
        assert isinstance(group, dist.ProcessGroup)
        self._group = group


def _started(trainer: Mapping[str, Any]) -> dict[str, int]:
    """Return devices and nodes that torchrun has started processes for, if the section does not set them."""
    if not TorchElasticEnvironment.detect() or str(trainer["devices"]) not in ("1", "-1", "auto"):
        return {}
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if trainer["num_nodes"] not in (1, world // local):
        return {}
    return {"devices": local, "num_nodes": world // local}
