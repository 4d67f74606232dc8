"""Training of one stage with a stock LightningCLI."""

import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.callbacks.early_stopping import EarlyStopping, EarlyStoppingReason
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from mtpkdot.data.base import BaseData
from mtpkdot.errors import ConfigError, RunError
from mtpkdot.files import remove_torn
from mtpkdot.metrics.collections import best_mode
from mtpkdot.models.weights import without_pretrained
from mtpkdot.modules import StageModule
from mtpkdot.modules.declaration import LINKED
from mtpkdot.pipeline.averaging import AverageWeights
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
from mtpkdot.pipeline.features import FeatureCache, FeaturesAtHand
from mtpkdot.pipeline.preemption import LAST, Preemption
from mtpkdot.pipeline.store import CHECKPOINT
from mtpkdot.pipeline.tracking import Tracking
from mtpkdot.pipeline.trainer import BatchTrainer


class StageCLI(LightningCLI):
    """Stock command line of one stage: `data`, `model`, `trainer`, `seed_everything`.

    Folder, callbacks and logger of this training are passed to the Trainer and not to the config, which must not name a
    folder that will be renamed.

    The config is parsed once. Objects that were built from it for the checks are released (`release`) and built again
    for training (`rebuild`) from the same seed, so that at most one stage lies in memory.

    Args:
        module: class of the stage.
        config: the stage's sections as plain data.
        fit: the fields of StageFit.
        folder: folder of the training, below a folder named after the stage.
        title: title of the progress bar.
        features: cache of the features of frozen encoders.
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
        self.fit_options, self.features, self.preemption, self.tracking = fit, features, preemption, tracking
        self.stage, self.read = module, read
        self._place(folder, title)
        with _weights_of(module), warnings.catch_warnings():
            # The command line of the process is another one, from which this config was made.
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

    def _place(self, folder: Path, title: str) -> None:
        self.folder, self.title, self.name = folder, title, folder.parent.name
        self.stopwatch = Stopwatch()

    def release(self) -> None:
        """Release everything but the parsed config; `rebuild` builds it again."""
        for name in ("config_init", "datamodule", "model", "trainer", "best", "chosen"):
            delattr(self, name)

    def rebuild(self, folder: Path, title: str) -> None:
        """Build data, model and Trainer as the constructor does, from the same seed.

        Args:
            folder: folder of the training, below a folder named after the stage.
            title: title of the progress bar.
        """
        self._place(folder, title)
        with _weights_of(self.stage):
            self._set_seed()
            self.instantiate_classes()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link model arguments to properties of the data."""
        for name in LINKED:
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Reuse data that were read before; overrides the hook that records arguments for data that save them."""
        self.parser.add_instantiator(self._data, BaseData)

    def _data(self, kind: type[BaseData], *args: Any, **kwargs: Any) -> BaseData:
        """Build the data; before the model, whose arguments depend on their targets and shapes.

        Raises:
            ConfigError: an argument differs from that of the data read before, though both are built from one config.
        """
        data = kind(*args, **kwargs)
        if self.read is None:
            return data
        if differing := data.differing(self.read):
            raise ConfigError(
                f"data.init_args.{differing[0]} of {kind.__name__} is not equal to another object of the same "
                "settings, so stages cannot share what has been read",
                "Give its class an __eq__, for example by @dataclass.",
            )
        data.share(self.read)
        return data

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Return the Trainer of this stage."""
        monitor = self.fit_options["monitor"] or self.model.monitors(self.model.task)[0]
        mode = self.fit_options["mode"] or best_mode(monitor)
        common: dict[str, Any] = {"dirpath": self.folder, "enable_version_counter": False}
        # Without people to select an epoch by, each epoch takes the place of the one before.
        selects = self.datamodule.validation_labels == "select"
        self.best, last = Best(monitor, mode, selects=selects, **common), Last(**common)
        chosen = self.config_init.trainer.callbacks or []
        self.chosen: list[Callback] = chosen if isinstance(chosen, list) else [chosen]
        average = self.fit_options["average"]
        self.model.keeps_scored = bool(self.chosen) or average is not None
        callbacks: list[Callback] = [
            FeaturesAtHand(self.features),
            StepSeed(int(self.config.seed_everything)),
            *([Built()] if self.chosen else []),
            Divergence(self.name),
            self.stopwatch,
            *([AverageWeights(average)] if average is not None else []),
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
        # Always its own logger: stages are shared, and the curves of a stage are looked up here.
        log = CSVLogger(self.folder, name="logs")
        callbacks.append(Announcement(self.title, Path(log.log_dir) / ExperimentWriter.NAME_METRICS_FILE))
        loggers = [log, *self.tracking.loggers(self.name, named)]
        trainer = super().instantiate_trainer(
            default_root_dir=self.folder,
            callbacks=callbacks,
            logger=loggers,
            enable_progress_bar=bar,
            use_distributed_sampler=False,  # The data module divides each batch among the processes.
            **kwargs,
        )
        # A plugin of the user (`trainer.plugins`) stays; one that wraps another cannot wrap ours.
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer


def _weights_of(module: type[StageModule]) -> AbstractContextManager[None]:
    """Skip the loading of pretrained weights if the encoders of a stage get those of the backbones."""
    return without_pretrained() if module.takes else nullcontext()


@dataclass(frozen=True)
class Trained:
    """Record of a training.

    Attributes:
        monitor: name of the value that selected the epoch; `last epoch` if none did.
        score: best value of it.
        epochs: number of trained epochs.
        kept: number of the epoch that is kept, from 1.
        seconds: wall time, including the processes it was resumed from.
        notes: sentences on unexpected events: a training that was cut short, or another model that is passed on.
    """

    monitor: str
    score: float | None
    epochs: int
    kept: int
    seconds: float
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
    parsed: StageCLI | None = None,
    read: BaseData | None = None,
) -> Trained:
    """Train a stage in its folder, or resume it where a killed process left it.

    Args:
        module: class of the stage.
        config: stock sections `seed_everything`, `trainer`, `model`, `data`.
        fit: the fields of StageFit.
        folder: receives `config.yaml`, `model.ckpt` (best epoch) and `logs/`.
        title: title of the progress bar.
        features: cache of the features of frozen encoders.
        preemption: saves within epochs and stops when asked to.
        tracking: the fit's W&B run.
        parsed: command line of the same arguments, released; None parses them.
        read: see StageCLI.

    Returns:
        The record. The folder then holds the weights of the best epoch and no intermediate checkpoint.

    Raises:
        RunError: no epoch was finished.
        SystemExit: a signal has stopped the training; the folder holds the checkpoint to resume from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    others: dict[str, Any] = {"features": features, "preemption": preemption, "tracking": tracking, "read": read}
    if parsed is None:
        cli = StageCLI(module=module, config=config, fit=fit, folder=folder, title=title, **others)
    else:
        (cli := parsed).rebuild(folder, title)
    first = cli.trainer.is_global_zero
    if first:
        remove_torn(folder)
        cli.parser.save(cli.config, folder / "config.yaml", overwrite=True, skip_unset=False)
    last = folder / LAST
    with preemption.heeded():
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=str(last) if last.is_file() else None)
    _check_scored(folder, title, config["trainer"]["max_time"])
    kept = int(torch.load(folder / "best.ckpt", map_location="meta", weights_only=True, mmap=True)["epoch"]) + 1
    notes = [*_cut_short(cli, fit["max_epochs"], config["trainer"]["max_time"]), *module.notes(folder / "best.ckpt")]
    cli.trainer.strategy.barrier()
    if first:
        last.unlink(missing_ok=True)  # Written first: a process that is killed between these lines only trains again.
        (folder / "best.ckpt").replace(folder / CHECKPOINT)
    return Trained(
        *_selected(cli),
        epochs=cli.trainer.current_epoch,
        kept=kept,
        seconds=cli.stopwatch.seconds,
        notes=notes,
    )


def _check_scored(folder: Path, title: str, limit: Any) -> None:
    """Raise an error if a training has ended without a scored epoch."""
    if (folder / "best.ckpt").is_file():
        return
    if limit is not None:
        raise RunError(f"{title} scored no epoch within trainer.max_time {limit}", "Raise trainer.max_time.")
    raise RunError(f"{title} scored no epoch", "Raise the stage's fit.max_epochs, or validate more often.")


def _selected(cli: StageCLI) -> tuple[str, float | None]:
    """Return the name of the value that selected the epoch, and the score of the final model."""
    monitor, score = cli.best.monitor, cli.best.best_model_score
    if monitor is None:
        return "last epoch", None
    return monitor, cli.model.reached(monitor, None if score is None else float(score))


def _cut_short(cli: StageCLI, epochs: int, limit: Any) -> list[str]:
    """Return a sentence if a training ended before its last epoch for another reason than patience."""
    trainer = cli.trainer
    stops = [stop for stop in trainer.early_stopping_callbacks if isinstance(stop, EarlyStopping)]
    patience = any(stop.stopping_reason is not EarlyStoppingReason.NOT_STOPPED for stop in stops)
    if trainer.current_epoch >= epochs or patience:
        return []
    by = "a callback" if limit is None else f"trainer.max_time {limit}"
    return [f"cut short by {by} after {trainer.current_epoch} of {epochs} epochs"]


def versions() -> dict[str, str]:
    """Return the versions of the packages that computed a result."""
    return {name: version(name) for name in ("mtpkdot", "torch", "lightning", "numpy")}
