"""Preemption: a run that is asked to stop saves a checkpoint after its step, and resumes from there bit for bit."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from mtpkdot.errors import Terminated
from mtpkdot.pipeline.ranks import Ranks

LAST = "last.ckpt"
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # Slurm sends one of them before it takes a node away, as the job asks.


class Preemption(Callback):
    """Callback that saves within epochs, and stops training when a signal asks for it.

    It saves only after an optimiser step (gradients that are still being accumulated are in no checkpoint) and not
    where validation follows (its end has a checkpoint of its own): a signal there takes effect after the validation.

    Args:
        every: optimiser steps between checkpoints, the most that a killed process loses; None for one per epoch.
        ranks: the processes, which stop together.
    """

    def __init__(self, every: int | None, ranks: Ranks) -> None:
        self.every, self.ranks = every, ranks
        self.signum: int | None = None  # The signal that has asked this process to stop.
        self.steps_saved = 0

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """Defer signals within the block: they take effect at the next opportunity and not at once."""
        before = {signum: signal.getsignal(signum) for signum in SIGNALS}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def stop_if_asked(self) -> None:
        """Exit the program if any of its processes was asked to stop by a signal.

        Raises:
            Terminated: a process has received a signal; the error holds that of this process.
        """
        if self.ranks.on_any(self.signum is not None):
            raise Terminated(self.signum)

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install the signal handlers; the Trainer's own ones, set just before, would end the step."""
        for signum in SIGNALS:
            signal.signal(signum, self._ask)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install the signal handlers, and count steps from here."""
        self.on_sanity_check_start(trainer, pl_module)
        self.steps_saved = trainer.global_step

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop before the epoch if asked to; the previous one has been saved."""
        self.stop_if_asked()
        self.steps_saved = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if a checkpoint is due, and stop if asked to."""
        done = batch_idx + 1
        validates = trainer.val_check_batch is not None and done % trainer.val_check_batch == 0
        if done == trainer.num_training_batches or done % trainer.accumulate_grad_batches or validates:
            return
        asked = self.ranks.on_any(self.signum is not None)
        if asked or (self.every is not None and trainer.global_step - self.steps_saved >= self.every):
            trainer.save_checkpoint(Path(trainer.default_root_dir) / LAST)
            self.steps_saved = trainer.global_step
        if asked:
            raise Terminated(self.signum)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            self.ranks.signal(signum)
