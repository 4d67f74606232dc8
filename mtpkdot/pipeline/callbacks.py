"""Callbacks of every stage: reproducible random numbers, checkpoints, divergence, and a progress bar."""

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
    """Callback that builds a module before callbacks of the user copy it (weight averaging, for example).

    Its setup runs before theirs. Lightning calls the module's own `setup` after theirs, which is harmless a second
    time. When a training is resumed, the copy also receives the frozen models, which are in no checkpoint.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Build the layers whose sizes depend on upstream models."""
        pl_module.setup(stage)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Complete the state of a weight average with the state of the frozen models."""
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
    """Checkpoint of the epoch with the best score, with the weights that were scored.

    It is saved right after validation, before anything else can change the weights. Where the weights were swapped for
    the validation alone, `StageModule.scored` holds the scored ones.

    Args:
        monitor: logged value that selects the epoch.
        mode: `min` or `max`: the better direction of the monitored value.
        selects: False to keep the last epoch.
        options: see ModelCheckpoint.
    """

    def __init__(self, monitor: str, mode: str, selects: bool = True, **options: Any) -> None:
        # The training loss is known only at the end of the epoch.
        late = monitor.startswith("train/")
        super().__init__(
            filename="best",
            monitor=monitor if selects else None,
            mode=mode,
            save_weights_only=True,
            save_on_train_epoch_end=late,
            **options,
        )


class Last(ModelCheckpoint):
    """Checkpoint from which training can continue after the last finished epoch.

    Args:
        options: see ModelCheckpoint.
    """

    def __init__(self, **options: Any) -> None:
        # Saved after `Best`, whose state it contains: after a kill, either both are new or both are old.
        super().__init__(filename="last", save_top_k=1, every_n_epochs=1, save_on_train_epoch_end=True, **options)


class Divergence(Callback):
    """Callback that stops a diverged training before any of its results is kept.

    Losses and gradients are the same on all processes that share a batch, and so is the decision.

    Args:
        stage: name of the stage, and of its section in the config.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Check the loss of every step.

        Raises:
            DivergedError: the loss is not finite.
        """
        if not bool(loss.isfinite()):
            self._stop(trainer, f"the loss is {float(loss.detach())}")

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Check the gradients of every step before they are clipped.

        Raises:
            DivergedError: a gradient is not finite.
        """
        if trainer.precision == "16-mixed":
            return  # The gradient scaler tries scales that are too large on purpose, and skips such a step.
        found = [(name, p.grad) for name, p in pl_module.named_parameters() if p.grad is not None]
        if bool(get_total_norm([gradient for _, gradient in found]).isfinite()):
            return
        for name, gradient in found:
            if not bool(gradient.isfinite().all()):  # The norm of finite gradients can still overflow.
                self._stop(trainer, f"the gradient of {name} is not finite")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the metric of every validation, which is NaN if an output is not finite.

        Raises:
            DivergedError: the metric is NaN.
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
    """Callback that seeds the random numbers of every training step from (seed, epoch, batch).

    A resumed run then draws the same numbers as an uninterrupted one. Restoring the state of the generator from a
    checkpoint is not enough, because validation and loaders draw from it as well.

    Processes that share a batch draw differently, each for its own samples.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.built = seed, torch.get_rng_state()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Restore the random state after building, because starting several processes seeds them anew."""
        torch.set_rng_state(self.built)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed dropout and all other random numbers of this step."""
        key = [self.seed, trainer.current_epoch, batch_idx, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that also holds when a run is resumed after the epoch that stopped it."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop again before another epoch is trained: the decision itself is in no checkpoint."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class Stopwatch(Callback):
    """Wall time of a training, including the processes it was resumed from, up to their last checkpoint."""

    def __init__(self) -> None:
        self.started, self.before = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Seconds up to now."""
        return self.before + time.monotonic() - self.started

    def state_dict(self) -> dict[str, Any]:
        """Return the elapsed time, for the process that resumes the training."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the elapsed time."""
        self.before = state_dict["seconds"]


class Announcement(Callback):
    """Message about the size of a stage's model, its trainable share, and the place of its log.

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
    """Progress bar of Lightning, preceded by the stage.

    Args:
        title: e.g. `[2/6] teacher`.
    """

    def __init__(self, title: str) -> None:
        super().__init__(leave=False)
        self.title = title

    def on_train_epoch_start(self, trainer: L.Trainer, *arguments: Any) -> None:
        """Set the description to stage and epoch."""
        super().on_train_epoch_start(trainer, *arguments)
        self.train_progress_bar.set_description(f"{self.title}, epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show no second bar: validation is short beside training, and its flicker hides the stage."""

    def on_validation_batch_start(self, *arguments: Any, **keywords: Any) -> None:
        """See `on_validation_start`."""

    def on_validation_batch_end(self, *arguments: Any, **keywords: Any) -> None:
        """See `on_validation_start`."""
