"""The trainer section: where each key acts, and which callbacks and loggers of the user can serve all stages."""

import copy
import importlib
import inspect
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    BasePredictionWriter,
    BatchSizeFinder,
    Callback,
    Checkpoint,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelPruning,
    StochasticWeightAveraging,
    Timer,
    WeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO

from mtpkdot.errors import ConfigError, nearest
from mtpkdot.extras import require
from mtpkdot.modules import StageModule
from mtpkdot.pipeline.stages import STUDENT, TEACHER


class BatchTrainer(Trainer):
    """Trainer of Lightning whose limits are whole numbers where possible: 1 is one batch, 1.0 is all of them.

    Lightning's own signature names `float` first, so a parser takes 1 for all batches.

    Args:
        limit_train_batches: batches of an epoch, or a share of them.
        limit_val_batches: batches of the validation, or a share of them.
        limit_test_batches: must keep its default, since it would have no effect.
        limit_predict_batches: must keep its default, since it would have no effect.
        arguments: see Lightning's Trainer.
        options: see Lightning's Trainer.
    """

    def __init__(
        self,
        *arguments: Any,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        limit_predict_batches: int | float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            *arguments,
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            **options,
        )


Use = Literal["training", "everywhere", "refused"]

# Where each key acts: in training, in training and prediction, or nowhere, where only the default is accepted.
KEYS: dict[str, Use] = {
    "accelerator": "everywhere",
    "strategy": "everywhere",
    "devices": "everywhere",
    "num_nodes": "everywhere",
    "precision": "everywhere",
    "logger": "training",
    "callbacks": "training",
    "max_time": "training",
    "limit_train_batches": "training",
    "limit_val_batches": "training",
    "limit_test_batches": "refused",
    "limit_predict_batches": "refused",
    "overfit_batches": "training",
    "val_check_interval": "training",
    "check_val_every_n_epoch": "training",
    "num_sanity_val_steps": "training",
    "log_every_n_steps": "training",
    "enable_progress_bar": "everywhere",
    "enable_model_summary": "training",
    "gradient_clip_algorithm": "training",
    "deterministic": "everywhere",
    "benchmark": "everywhere",
    "inference_mode": "everywhere",
    "profiler": "training",
    "detect_anomaly": "training",
    "barebones": "refused",
    "plugins": "training",
    "sync_batchnorm": "training",
    "enable_autolog_hparams": "training",
    "model_registry": "refused",
}
_REFUSED = {
    "limit_test_batches": (None, "results are those of whole parts, where every sample counts"),
    "limit_predict_batches": (None, "results are those of whole parts, where every sample counts"),
    "barebones": (False, "it keeps no checkpoint, so no epoch could be chosen"),
    "model_registry": (None, "nothing is uploaded to a registry"),
}

# Callbacks of Lightning that would invalidate the record, and the alternative to each.
_UNFIT: dict[type[Callback], tuple[str, str]] = {
    StochasticWeightAveraging: (
        "averages weights after the last epoch, so that its result would never be scored",
        "Use EMAWeightAveraging or WeightAveraging, whose averages are scored in every epoch.",
    ),
    BatchSizeFinder: (
        "trains with another batch size than the config and the stage's record say",
        "Set data.init_args.batch_size, or <stage>.fit.batch_size, to the size that it finds.",
    ),
    LearningRateFinder: (
        "trains with another learning rate than the config and the stage's record say",
        "Set <stage>.model.lr to the rate that it finds.",
    ),
    ModelPruning: ("masks weights in a form that no later stage can load", "Leave it out."),
    BaseFinetuning: (
        "trains encoders whose features are computed once, as those of frozen ones",
        f"Use {TEACHER}.model.finetune_encoders or {STUDENT}.model.finetune_encoder.",
    ),
    BasePredictionWriter: ("predicts nothing here", "Read predictions.parquet of the run."),
}
_UNUSED_HOOKS = ("test", "predict")


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Check that every key of the trainer section has an effect.

    Raises:
        ConfigError: a key would have no effect; the message names it.
    """
    for key, (unset, reason) in _REFUSED.items():
        value = trainer[key]
        whole = key.startswith("limit_") and isinstance(value, float) and value == 1
        if value is not None and value is not unset and not whole:
            raise ConfigError(f"trainer.{key} is {value!r}, but {reason}", f"Leave trainer.{key} out.")
    if trainer["limit_val_batches"] == 0:
        raise ConfigError("trainer.limit_val_batches is 0, so no epoch can be chosen", "Remove it.")
    often = trainer["log_every_n_steps"]
    if often is not None and often < 0:
        raise ConfigError(f"trainer.log_every_n_steps is {often}", "Choose 1 or more, or 0 for epochs alone.")
    check_loggers(trainer["logger"])


def check_loggers(section: Any) -> None:
    """Check that loggers keep earlier logs and that their packages are installed.

    Args:
        section: `trainer.logger`, as plain data.

    Raises:
        ConfigError: a CSVLogger has a version of its own, or TensorBoard is missing for a TensorBoardLogger.
    """
    for logger in section if isinstance(section, list) else [section]:
        if not isinstance(logger, Mapping):
            continue
        named = _class_of(logger["class_path"])
        if issubclass(named, TensorBoardLogger) and find_spec("tensorboardX") is None:  # either will do
            require("tensorboard")
        if issubclass(named, CSVLogger):
            version = (logger.get("init_args") or {}).get("version")
            if version is not None:
                raise ConfigError(
                    f"trainer.logger: CSVLogger with the version {version!r} deletes what earlier stages and attempts "
                    "have logged there",
                    "Leave its version out; every stage also keeps its own logs/metrics.csv.",
                )


def check_plugins(plugins: Any) -> None:
    """Check that plugins do not act on training alone, as the evaluation has a Trainer of its own.

    Args:
        plugins: `trainer.plugins`, instantiated.

    Raises:
        ConfigError: a plugin is not a CheckpointIO.
    """
    for plugin in plugins if isinstance(plugins, list) else [plugins] if plugins is not None else []:
        if not isinstance(plugin, CheckpointIO):
            name = plugin if isinstance(plugin, str) else type(plugin).__name__
            raise ConfigError(
                f"trainer.plugins names {name}, which the evaluation would not use",
                "Set trainer.precision, trainer.strategy or the environment of the launcher instead.",
            )


def check_callbacks(callbacks: Iterable[Callback], module: StageModule, stage: str, accumulated: int) -> None:
    """Check that callbacks suit a stage and leave its record valid.

    Args:
        callbacks: callbacks of the user.
        module: module of the stage.
        stage: name of the stage.
        accumulated: its `fit.accumulate_grad_batches`.

    Raises:
        ConfigError: a callback cannot be used; the message names callback and stage.
    """
    callbacks, known = list(callbacks), module.monitors(module.task)
    # The values that a class of the user logs are unknown before it runs.
    own = any(not type(callback).__module__.startswith("lightning.") for callback in callbacks)
    for callback in callbacks:
        name = type(callback).__name__
        for kind, (reason, step) in _UNFIT.items():
            if isinstance(callback, kind):
                raise ConfigError(f"trainer.callbacks: {name} {reason}", step)
        if _is_unused(callback):
            raise ConfigError(
                f"trainer.callbacks: {name} acts only if a Trainer tests or predicts, which no stage does",
                "Leave it out; predictions.parquet of the run has every prediction.",
            )
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor not in known and not own:
            raise ConfigError(
                f"trainer.callbacks: {name} monitors {monitor!r}, which {stage} does not log",
                f"{nearest(monitor, known)}It logs {', '.join(known)}; every stage has the callbacks of the trainer "
                "section, and <stage>.fit.patience stops a single one early.",
            )
        if isinstance(callback, GradientAccumulationScheduler) and accumulated != 1:
            raise ConfigError(
                f"trainer.callbacks: {name} and {stage}.fit.accumulate_grad_batches {accumulated} both say how many "
                "batches make a step",
                "Leave one of them out.",
            )


def check_setup(callbacks: Iterable[Callback], trainer: Trainer, module: StageModule) -> None:
    """Call the setup of Lightning's callbacks, in which they look for what they need, as at the start of a training.

    Args:
        callbacks: callbacks of the user; only classes of Lightning are set up.
        trainer: Trainer of the stage.
        module: module of the stage.

    Raises:
        ConfigError: a package is missing, or the Trainer lacks what a callback needs.
    """
    for callback in callbacks:
        if isinstance(callback, WeightAveraging | Checkpoint) or not type(callback).__module__.startswith("lightning."):
            continue  # The first copies all weights, the others make folders.
        try:
            callback.setup(trainer, module, "fit")
        except (ImportError, MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
            what = f"trainer.callbacks: {type(callback).__name__} cannot be used: {' '.join(str(error).split())}"
            raise ConfigError(what, "Correct it, or leave it out.") from error


def _is_unused(callback: Callback) -> bool:
    """Return whether a callback has only hooks of testing and predicting."""
    hooks = [name for name in dir(Callback) if not name.startswith("_") and callable(getattr(Callback, name))]
    own = [name for name in hooks if getattr(type(callback), name, None) is not getattr(Callback, name)]
    acting = [name for name in own if name not in ("setup", "teardown", "state_dict", "load_state_dict")]
    return bool(acting) and all(any(f"_{phase}" in name for phase in _UNUSED_HOOKS) for name in acting)


def limited(callbacks: Iterable[Callback]) -> bool:
    """Return whether a callback stops at a time, as `trainer.max_time` does."""
    return any(isinstance(callback, Timer) for callback in callbacks)


def of_stage(logger: Any, stage: str) -> Any:
    """Return `trainer.logger` with the stage's name in the path of every logger, or else in its prefix.

    Loggers of all stages in one place would overwrite each other's logs.

    Args:
        logger: the section, as plain data: a logger or a list, each a `class_path` with `init_args`; or a switch.
        stage: name of the stage.
    """
    if isinstance(logger, list):
        return [of_stage(one, stage) for one in logger]
    if not isinstance(logger, Mapping):
        return logger
    section: dict[str, Any] = copy.deepcopy(dict(logger))
    arguments = dict(section.get("init_args") or {})
    accepted = inspect.signature(_class_of(section["class_path"]).__init__).parameters
    if {"save_dir", "name", "version"} <= accepted.keys() and "offline" not in accepted:
        arguments["name"] = "/".join(part for part in (arguments.get("name", "lightning_logs"), stage) if part)
    elif "prefix" in accepted:
        arguments["prefix"] = "-".join(part for part in (arguments.get("prefix"), stage) if part)
    return {**section, "init_args": arguments}


def _class_of(path: str) -> type[Logger]:
    module, _, name = path.rpartition(".")
    found: type[Logger] = getattr(importlib.import_module(module), name)
    return found
