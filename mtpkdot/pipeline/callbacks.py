"""Callbacks of every stage: reproducible random numbers and a progress bar that says where in the pipeline it is."""

import time
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, TQDMProgressBar


class StepSeed(Callback):
    """Seeds the random numbers of every training step from (seed, epoch, batch).

    A resumed run then draws what the uninterrupted one drew, whatever happened between; restoring the generator's
    state from a checkpoint is not enough, for validation and loaders draw from it as well.

    Processes that share a batch draw differently, each for its own samples.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.built = seed, torch.get_rng_state()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Go on from where the module was built: starting several processes seeds them anew, starting one does not."""
        torch.set_rng_state(self.built)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed dropout and all else of this step."""
        key = [self.seed, trainer.current_epoch, batch_idx, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that holds when a run is resumed after the epoch that stopped it."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop again, before another epoch is trained: the decision itself is in no checkpoint."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class Stopwatch(Callback):
    """Wall time of a training, with that of the processes it was resumed from, up to their last checkpoint."""

    def __init__(self) -> None:
        self.started, self.before = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Up to now."""
        return self.before + time.monotonic() - self.started

    def state_dict(self) -> dict[str, Any]:
        """For the process that goes on."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on."""
        self.before = state_dict["seconds"]


class StageProgressBar(TQDMProgressBar):
    """Lightning's bar with the stage in front.

    Args:
        title: e.g. `[2/6] teacher`.
    """

    def __init__(self, title: str) -> None:
        super().__init__(leave=False)
        self.title = title

    def on_train_epoch_start(self, trainer: L.Trainer, *arguments: Any) -> None:
        """Say stage and epoch."""
        super().on_train_epoch_start(trainer, *arguments)
        self.train_progress_bar.set_description(f"{self.title}, epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """No second bar: validation is short beside training, and its flicker hides the stage."""

    def on_validation_batch_start(self, *arguments: Any, **keywords: Any) -> None:
        """See `on_validation_start`."""

    def on_validation_batch_end(self, *arguments: Any, **keywords: Any) -> None:
        """See `on_validation_start`."""
