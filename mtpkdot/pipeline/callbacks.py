"""Callbacks of every stage: reproducible random numbers, what is kept, when training has diverged, a progress bar."""

import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from mtpkdot.errors import DivergedError
from mtpkdot.modules import StageModule


class Built(Callback):
    """Prepares a module for callbacks of the user that copy it, as those do that average weights.

    It is set up before their own setup; Lightning calls the module's `setup` after theirs, which is harmless a second
    time. And the copy of a training that goes on gets the frozen models, which are in no checkpoint.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Build what only upstream models know the sizes of."""
        pl_module.setup(stage)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Complete the state of an average with that of the frozen models."""
        if "averaging_state" not in checkpoint:
            return
        frozen = {
            f"{name}.{key}": value
            for name, part in pl_module.named_modules()
            if name.startswith("frozen.")
            for key, value in [*part._parameters.items(), *part._buffers.items()]
            if value is not None and key not in part._non_persistent_buffers_set
        }
        checkpoint["state_dict"] = {**frozen, **checkpoint["state_dict"]}


class Best(ModelCheckpoint):
    """Keeps the epoch with the best score, with the weights that were scored.

    It saves right after validation, before anything else can change the weights. Where they were swapped for the
    validation alone, `StageModule.scored` holds those that were scored.

    Args:
        monitor: logged value that selects the epoch.
        mode: whether it should be low or high.
        options: see ModelCheckpoint.
    """

    def __init__(self, monitor: str, mode: str, **options: Any) -> None:
        # Losses of the training part are known at the end of the epoch alone.
        late = monitor.startswith("train/")
        super().__init__(
            filename="best", monitor=monitor, mode=mode, save_weights_only=True, save_on_train_epoch_end=late, **options
        )


class Last(ModelCheckpoint):
    """Keeps what it takes to go on after the last finished epoch.

    Args:
        options: see ModelCheckpoint.
    """

    def __init__(self, **options: Any) -> None:
        # Saved after `Best`, whose state it holds: a killed run finds both or the pair before.
        super().__init__(filename="last", save_top_k=1, every_n_epochs=1, save_on_train_epoch_end=True, **options)


class Divergence(Callback):
    """Stops a training that has diverged, before anything of it is kept.

    Losses and gradients are the same on all processes that share a batch, and so is the decision.

    Args:
        stage: name of the stage, which is that of its section in the config.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Look at the loss of every step.

        Raises:
            DivergedError: it is not finite.
        """
        if not bool(loss.isfinite()):
            self._stop(trainer, f"the loss is {float(loss.detach())}")

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Look at the gradients of every step, before they are clipped.

        Raises:
            DivergedError: one is not finite.
        """
        if trainer.precision == "16-mixed":
            return  # its scaler tries too large a scale on purpose, and leaves such a step out
        found = [(name, p.grad) for name, p in pl_module.named_parameters() if p.grad is not None]
        if bool(get_total_norm([gradient for _, gradient in found]).isfinite()):
            return
        for name, gradient in found:
            if not bool(gradient.isfinite().all()):  # finite ones may have a norm that is not
                self._stop(trainer, f"the gradient of {name} is not finite")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the metric of every validation, which is NaN if an output is not finite.

        Raises:
            DivergedError: it is.
        """
        assert isinstance(pl_module, StageModule)
        value = trainer.callback_metrics.get(pl_module.monitors(pl_module.task)[0])
        if value is not None and not bool(value.isfinite()) and not trainer.sanity_checking:
            self._stop(trainer, "an output on the validation part is not finite")

    def _stop(self, trainer: L.Trainer, what: str) -> None:
        step = trainer.fit_loop.epoch_loop.batch_idx + 1
        raise DivergedError(
            f"{self.stage} diverged in epoch {trainer.current_epoch + 1}, step {step}: {what}",
            f"Lower {self.stage}.model.lr, or set {self.stage}.fit.gradient_clip_val; checkpoints of the epochs before "
            f"are in {trainer.default_root_dir}.",
        )


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


class Announcement(Callback):
    """Prints how large the model of a stage is, how much of it is trained, and where its log is.

    Args:
        title: e.g. `[2/6] teacher`.
        log: file of the values of every epoch.
    """

    def __init__(self, title: str, log: Path) -> None:
        self.title, self.path = title, log

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the parameters, once setup has built all of them."""
        if not trainer.is_global_zero:
            return
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        trained = {id(parameter): parameter.numel() for group in groups for parameter in group["params"]}
        size = sum(parameter.numel() for parameter in pl_module.parameters())
        print(f"{self.title}: {size:,} parameters, {sum(trained.values()):,} trained; log {self.path}", flush=True)


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
