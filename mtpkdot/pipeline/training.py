"""Training one stage with a stock LightningCLI."""

import sys
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.callbacks.early_stopping import EarlyStopping, EarlyStoppingReason
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from mtpkdot.data.base import BaseData
from mtpkdot.errors import RunError
from mtpkdot.files import remove_torn
from mtpkdot.metrics.collections import best_mode
from mtpkdot.models.weights import without_pretrained
from mtpkdot.modules import BackboneModule, StageModule
from mtpkdot.pipeline.callbacks import (
    Announcement,
    Best,
    Built,
    Divergence,
    Last,
    ResumableEarlyStopping,
    StageProgressBar,
    StepSeed,
    Stopwatch,
)
from mtpkdot.pipeline.checkpoints import AtomicCheckpointIO
from mtpkdot.pipeline.energy import Energy
from mtpkdot.pipeline.features import FeatureCache, FeaturesAtHand
from mtpkdot.pipeline.preemption import LAST, Preemption
from mtpkdot.pipeline.store import CHECKPOINT
from mtpkdot.pipeline.tracking import Tracking
from mtpkdot.pipeline.trainer import BatchTrainer

LINKED = ("task", "targets", "modalities", "prevalent", "rates", "per_step")


class StageCLI(LightningCLI):
    """Stock command line of one stage: `data`, `model`, `trainer`, `seed_everything`.

    What belongs to this one training (its folder, callbacks and logger) is handed to the Trainer and not to the
    config, which must not name a folder that will be renamed.

    Args:
        module: class of the stage.
        config: the stage's sections as plain data.
        fit: the fields of StageFit.
        folder: where the stage trains, below a folder named after it.
        title: of the progress bar.
        features: where features of frozen encoders are kept.
        preemption: saves within epochs and stops when asked to.
        tracking: the fit's W&B run.
        read: the data set, read already, which the stage's own takes its samples from; None to read them.
    """

    def __init__(
        self,
        module: type[StageModule],
        config: dict[str, Any],
        fit: dict[str, Any],
        folder: Path,
        title: str,
        features: FeatureCache,
        preemption: Preemption,
        tracking: Tracking,
        read: BaseData | None = None,
    ) -> None:
        self.read = read
        self.fit_options, self.folder, self.title, self.features = fit, folder, title, features
        self.preemption, self.tracking, self.name = preemption, tracking, folder.parent.name
        self.stopwatch, self.energy = Stopwatch(), Energy()
        # Later stages take their encoders' weights from the backbones.
        weights = nullcontext() if issubclass(module, BackboneModule) else without_pretrained()
        with weights, warnings.catch_warnings():
            # The process has a command line of its own, which this config was made from.
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            super().__init__(
                module,
                BaseData,
                trainer_class=BatchTrainer,
                subclass_mode_data=True,
                save_config_callback=None,
                seed_everything_default=0,
                auto_configure_optimizers=False,
                args=config,
                run=False,
            )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What the data know, the model is told."""
        for name in LINKED:
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Let the data take what has been read; in the place of what notes arguments for data that save them."""
        self.parser.add_instantiator(self._data, BaseData)

    def _data(self, kind: type[BaseData], *args: Any, **kwargs: Any) -> BaseData:
        """Build the data; before the model, which is told their targets and shapes."""
        data = kind(*args, **kwargs)
        if self.read is not None:
            data.share(self.read)
        return data

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """The Trainer of this stage."""
        monitor = self.fit_options["monitor"] or self.model.monitors(self.model.task)[0]
        mode = self.fit_options["mode"] or best_mode(monitor)
        common: dict[str, Any] = {"dirpath": self.folder, "enable_version_counter": False}
        self.best, last = Best(monitor, mode, **common), Last(**common)
        chosen = self.config_init.trainer.callbacks or []
        self.chosen: list[Callback] = chosen if isinstance(chosen, list) else [chosen]
        self.model.keeps_scored = bool(self.chosen)
        callbacks: list[Callback] = [
            FeaturesAtHand(self.features),
            StepSeed(int(self.config.seed_everything)),
            *([Built()] if self.chosen else []),
            Divergence(self.name),
            self.stopwatch,
            self.energy,
            self.preemption,
            self.best,
            last,
        ]
        if self.fit_options["patience"] is not None:
            callbacks.append(ResumableEarlyStopping(monitor, mode=mode, patience=self.fit_options["patience"]))
        bar = self.config.trainer.enable_progress_bar is not False and sys.stdout.isatty()
        if bar:
            callbacks.append(StageProgressBar(self.title))
        callbacks += self.chosen
        logger = self.config_init.trainer.logger
        named = logger if isinstance(logger, list) else [logger] if isinstance(logger, Logger) else []
        # Of its own always: stages are shared, and whoever finds one trained looks for its curves there.
        log = CSVLogger(self.folder, name="logs")
        callbacks.append(Announcement(self.title, Path(log.log_dir) / ExperimentWriter.NAME_METRICS_FILE))
        loggers = [log, *self.tracking.loggers(self.name, named)]
        trainer = super().instantiate_trainer(
            default_root_dir=self.folder,
            callbacks=callbacks,
            logger=loggers,
            enable_progress_bar=bar,
            use_distributed_sampler=False,  # the data module cuts each batch into the processes' shares
            **kwargs,
        )
        # A plugin of the user's own (`trainer.plugins`) stays; one that wraps another cannot be given ours to wrap.
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer


@dataclass(frozen=True)
class Trained:
    """What is worth recording of a training.

    Attributes:
        monitor: the value that selected the epoch.
        score: its best value.
        epochs: epochs trained.
        seconds: wall time, that of processes it was resumed from included.
        joules: of the processors and cards it ran on, where they tell it; see `Energy`.
        notes: sentences on what a user would not expect: a training cut short, another model handed on.
    """

    monitor: str
    score: float | None
    epochs: int
    seconds: float
    joules: dict[str, float]
    notes: list[str]


def train(
    module: type[StageModule],
    config: dict[str, Any],
    fit: dict[str, Any],
    folder: Path,
    title: str,
    features: FeatureCache,
    preemption: Preemption,
    tracking: Tracking,
    read: BaseData | None = None,
) -> Trained:
    """Train a stage in its folder, or go on where a killed process left it.

    Args:
        module: class of the stage.
        config: stock sections `seed_everything`, `trainer`, `model`, `data`.
        fit: the fields of StageFit.
        folder: receives `config.yaml`, `model.ckpt` (best epoch) and `logs/`.
        title: of the progress bar.
        features: where features of frozen encoders are kept.
        preemption: saves within epochs and stops when asked to.
        tracking: the fit's W&B run.
        read: see StageCLI.

    Returns:
        The record. The folder then holds the weights of the best epoch and nothing of the way there.

    Raises:
        RunError: no epoch was finished.
        SystemExit: a signal has stopped it; the folder holds what it takes to go on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cli = StageCLI(module, config, fit, folder, title, features, preemption, tracking, read)
    first = cli.trainer.is_global_zero
    if first:
        remove_torn(folder)
        cli.parser.save(cli.config, folder / "config.yaml", overwrite=True, skip_unset=False)
    last = folder / LAST
    with preemption.heeded():
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=str(last) if last.is_file() else None)
    if not (folder / "best.ckpt").is_file():
        limit = config["trainer"]["max_time"]
        if limit is not None:
            raise RunError(f"{title} scored no epoch within trainer.max_time {limit}", "Raise trainer.max_time.")
        raise RunError(f"{title} scored no epoch", "Raise the stage's fit.max_epochs, or validate more often.")
    notes = [*_cut_short(cli, fit["max_epochs"], config["trainer"]["max_time"]), *module.notes(folder / "best.ckpt")]
    cli.trainer.strategy.barrier()
    if first:
        last.unlink(missing_ok=True)  # first: a process killed between these lines only trains again
        (folder / "best.ckpt").replace(folder / CHECKPOINT)
    score = cli.best.best_model_score
    return Trained(
        str(cli.best.monitor),
        cli.model.reached(str(cli.best.monitor), None if score is None else float(score)),
        cli.trainer.current_epoch,
        cli.stopwatch.seconds,
        cli.energy.read(),
        notes,
    )


def _cut_short(cli: StageCLI, epochs: int, limit: Any) -> list[str]:
    """Return a sentence if something else than patience has ended a training before its last epoch."""
    trainer = cli.trainer
    stops = [stop for stop in trainer.early_stopping_callbacks if isinstance(stop, EarlyStopping)]
    patience = any(stop.stopping_reason is not EarlyStoppingReason.NOT_STOPPED for stop in stops)
    if trainer.current_epoch >= epochs or patience:
        return []
    by = "a callback" if limit is None else f"trainer.max_time {limit}"
    return [f"cut short by {by} after {trainer.current_epoch} of {epochs} epochs"]


def versions() -> dict[str, str]:
    """Versions of what computed a result."""
    return {name: version(name) for name in ("mtpkdot", "torch", "lightning", "numpy")}
