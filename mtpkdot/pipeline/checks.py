"""Checks of everything that can be wrong before the first stage is trained."""

import json
import tempfile
from argparse import ArgumentError
from collections.abc import Mapping
from pathlib import Path
from traceback import extract_tb
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

from mtpkdot.data.base import BaseData
from mtpkdot.errors import ConfigError, UserError, nearest
from mtpkdot.modules.declaration import LINKED, is_upstream
from mtpkdot.pipeline.compiling import check_compiler, media_encoders
from mtpkdot.pipeline.complaints import reason
from mtpkdot.pipeline.features import FeatureCache, computes_bfloat16
from mtpkdot.pipeline.jobs import Job
from mtpkdot.pipeline.preemption import Preemption
from mtpkdot.pipeline.protocol import Protocol
from mtpkdot.pipeline.ranks import Ranks
from mtpkdot.pipeline.stages import Stage
from mtpkdot.pipeline.tracking import Tracking
from mtpkdot.pipeline.trainer import check_callbacks, check_plugins, check_setup, check_trainer
from mtpkdot.pipeline.training import StageCLI
from mtpkdot.tracebacks import is_of_package, own_frames, place_of

# Raised if a section does not fit a class, or a class has an error.
_UNBUILT = (
    ValueError,
    TypeError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    MisconfigurationException,
    ArgumentError,
)


def check_config(
    config: Mapping[str, Any],
    data: BaseData,
    wanted: list[Stage],
    protocol: Protocol,
    ranks: Ranks,
    trains: bool = True,
) -> None:
    """Check the settings that would make a training fail.

    Args:
        config: the parsed config.
        data: the data set, already read.
        wanted: stages to train.
        protocol: the protocol.
        ranks: the processes.
        trains: False if the stages only predict, for which some processes may have no batch.

    Raises:
        ConfigError: a setting cannot be used; the message names its key.
    """
    check_trainer(config["trainer"])
    if ranks.size > 1 and protocol.batch_attention:
        raise ConfigError(
            "protocol.batch_attention lets samples attend to their batch, but each of several devices has a part of it",
            "Set --trainer.devices 1.",
        )
    every = config["pipeline"]["checkpoint_every"]
    if every is not None and every < 1:
        raise ConfigError(f"pipeline.checkpoint_every is {every}", "Choose 1 or more.")
    if config["seed_everything"] < 0:
        raise ConfigError(f"seed_everything is {config['seed_everything']}", "Choose 0 or more.")
    for stage in wanted:
        section = stage.section(config)
        _check_fit(section["fit"], config["trainer"], data=data, stage=stage, processes=ranks.size if trains else 1)
        stage.module.check_section(section, data)


def _check_fit(
    fit: Mapping[str, Any], trainer: Mapping[str, Any], data: BaseData, stage: Stage, processes: int
) -> None:
    monitor, known = fit["monitor"], stage.module.monitors(data.task)
    if monitor is not None and monitor not in known:
        meant = nearest(monitor, known)
        raise ConfigError(f"{stage.name}.fit.monitor is {monitor!r}", f"{meant}Choose from {', '.join(known)}.")
    watched = [key for key in ("monitor", "patience") if fit[key] is not None]
    if data.validation_labels == "train" and watched:
        raise ConfigError(
            f"{stage.name}.fit.{watched[0]} is {fit[watched[0]]!r}, but data.validation_labels train keeps the last "
            "epoch: nobody is left to select one by",
            f"Set --{stage.name}.fit.{watched[0]} null, and {stage.name}.fit.max_epochs to the passes to make.",
        )
    size = fit["batch_size"] or data.batch_size
    if size < processes:
        raise ConfigError(
            f"a batch of {stage.name} has {size} samples, fewer than the {processes} devices that share it",
            "Raise data.init_args.batch_size, or lower trainer.devices.",
        )
    if fit["average"] is not None and fit["average"] < 1:
        raise ConfigError(f"{stage.name}.fit.average is {fit['average']}", "Set it to 1 or more, or to null.")
    if fit["max_epochs"] < 1:
        raise ConfigError(f"{stage.name}.fit.max_epochs is {fit['max_epochs']}", "Set it to 1 or more.")
    often = trainer["check_val_every_n_epoch"]
    if often is not None and not 1 <= often <= fit["max_epochs"]:
        raise ConfigError(
            f"trainer.check_val_every_n_epoch is {often}, but {stage.name} trains {fit['max_epochs']} epochs: it would "
            "never be validated",
            f"Set it to 1, or to {fit['max_epochs']} at most, or raise {stage.name}.fit.max_epochs.",
        )
    labelled = not stage.module.uses_unlabelled
    training = data.positions("train", labelled_only=labelled)
    held_out = data.positions("test" if data.select_on_test else "validation")
    _check_limits(trainer, stage.name, *(-(-len(part) // size) for part in (training, held_out)))


def _check_limits(trainer: Mapping[str, Any], stage: str, batches: int, held_out: int) -> None:
    """Check that fractions of batches come to at least one batch."""
    counts = {
        "limit_train_batches": batches,
        "limit_val_batches": held_out,
        "overfit_batches": batches,
        "val_check_interval": batches,
    }
    for key, count in counts.items():
        value = trainer[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if isinstance(value, float) and value > 0 and int(value * count) < 1:
            raise ConfigError(
                f"trainer.{key} is {value}, which is less than one of the {count} batches of {stage}",
                f"Set it to {1 / count:.2g} or more, or to a whole number of batches.",
            )
        if key == "limit_train_batches" and value == 0:
            raise ConfigError("trainer.limit_train_batches is 0, so nothing would be learned", "Remove it.")
        by_epochs = trainer["check_val_every_n_epoch"] is not None
        if key == "val_check_interval" and by_epochs and isinstance(value, int) and value > count:
            raise ConfigError(
                f"trainer.val_check_interval is {value}, but an epoch of {stage} has {count} batches",
                "Lower it, or set trainer.check_val_every_n_epoch to null to count batches over epochs.",
            )


def check_modules(
    jobs: list[Job],
    data: BaseData,
    features: FeatureCache,
    preemption: Preemption,
    tracking: Tracking,
    checked: set[str] | None = None,
) -> dict[str, StageCLI]:
    """Build every untrained stage with its Trainer, callbacks and loggers, and try every encoder.

    A wrong setting of the last stage must not cost the training of the others. At most one stage is in memory at a
    time.

    Args:
        jobs: the stages.
        data: the data set, read.
        features: cache of the features of frozen encoders.
        preemption: see `train`.
        tracking: see `train`.
        checked: stages that were built before and are skipped; updated in place.

    Returns:
        The parsed configs of the stages that were built here, by name; `train` builds them again from these.

    Raises:
        UserError: a stage cannot be built; the message names it.
    """
    warned, checked = False, set() if checked is None else checked
    parsed: dict[str, StageCLI] = {}
    for job in jobs:
        built = _built(job, data)
        if job.stored.exists() or built in checked:
            continue
        checked.add(built)
        name = job.stage.name
        cli = _build(job, features=features, preemption=preemption, tracking=tracking, read=data)
        check_plugins(cli.config_init.trainer.plugins)
        check_callbacks(cli.chosen, cli.model, name, job.fit["accumulate_grad_batches"])
        check_setup(cli.chosen, cli.trainer, cli.model)
        if not cli.model.hparams:
            raise ConfigError(
                f"{type(cli.model).__name__} of the stage {name} keeps no arguments for its checkpoint",
                "Call `self.save_hyperparameters()` in its __init__, after `super().__init__(**options)`.",
            )
        cli.model.check_built(data, name, job.fit["batch_size"] or data.batch_size)
        if features.compiled and media_encoders(cli.model):
            check_compiler(cli.trainer.strategy.root_device)
        precision = cli.trainer.precision
        if not warned and "bf16" in str(precision) and not computes_bfloat16(cli.trainer.strategy.root_device):
            warned = True
            print(f"{precision} is emulated on this device and slow; --trainer.precision 32-true is faster here.")
        cli.release()
        parsed[name] = cli
    return parsed


def _build(job: Job, **others: Any) -> StageCLI:
    """Build a stage in a folder that is removed; `others` are further arguments of `StageCLI`.

    Raises:
        ConfigError: its section, the trainer's or the user's own class does not allow it.
    """
    name = job.stage.name
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / name / "check"
        try:
            return StageCLI(
                module=job.stage.module, config=job.sections, fit=job.fit, folder=place, title=name, **others
            )
        except _UNBUILT as error:
            if _is_ours(error):
                raise
            if isinstance(error.__cause__, UserError):  # which jsonargparse has wrapped
                raise error.__cause__ from None
            raise _unbuilt(name, error) from error


def _unbuilt(stage: str, error: Exception) -> ConfigError:
    """Return the error for a stage that cannot be built; it names the trainer section, the class, or its section."""
    message = reason(str(error))
    if any(frame.name == "instantiate_trainer" for frame in extract_tb(error.__traceback__)):
        return ConfigError(f"the trainer section: {message}", "Correct it.")
    if own_frames(error):
        return ConfigError(f"{stage} cannot be built: {message} ({place_of(error)})", "Correct that file.")
    return ConfigError(f"{stage} cannot be built: {message}", "Correct its section.")


def _built(job: Job, data: BaseData) -> str:
    """Return everything that decides whether a stage can be built, as text, without samples and upstream paths."""
    sections = {**job.sections, "model": {k: v for k, v in job.sections["model"].items() if not is_upstream(k)}}
    linked = [getattr(data, name) for name in LINKED]
    name = [job.stage.name, str(job.stage.module)]
    return json.dumps([name, {**sections, "data": None}, job.fit, linked], sort_keys=True, default=str)


def _is_ours(error: BaseException) -> bool:
    """Return whether an error comes from a bug of this package and not from the config."""
    if isinstance(error, LookupError | RuntimeError):
        return not own_frames(error)
    frames = extract_tb(error.__traceback__)
    return isinstance(error, AttributeError | ImportError) and is_of_package(frames[-1].filename)
