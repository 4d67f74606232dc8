"""All that can be found wrong before the first stage is trained."""

import json
import sysconfig
import tempfile
import traceback
from argparse import ArgumentError
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from mtpkdot.data.base import BaseData, Part
from mtpkdot.data.batch import SampleDataset
from mtpkdot.errors import ConfigError, nearest
from mtpkdot.losses.methods import needs_teachers, term_weights
from mtpkdot.models.encoder import Encoder
from mtpkdot.modules import BackboneModule
from mtpkdot.pipeline.compiling import check_compiler, media_encoders
from mtpkdot.pipeline.complaints import reason
from mtpkdot.pipeline.features import FeatureCache, computes_bfloat16
from mtpkdot.pipeline.jobs import Job, is_upstream, section_of
from mtpkdot.pipeline.preemption import Preemption
from mtpkdot.pipeline.protocol import Protocol
from mtpkdot.pipeline.ranks import Ranks
from mtpkdot.pipeline.stages import Stage
from mtpkdot.pipeline.tracking import Tracking
from mtpkdot.pipeline.trainer import check_callbacks, check_plugins, check_setup, check_trainer
from mtpkdot.pipeline.training import LINKED, StageCLI

_PARTS: tuple[Part, ...] = ("train", "validation", "test")
_TRIED = 2  # samples that an encoder is tried on
# By a class with another signature, or that reads other shapes, than it is given.
_RAISED = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)


def check_config(
    config: Mapping[str, Any],
    data: BaseData,
    wanted: list[Stage],
    protocol: Protocol,
    ranks: Ranks,
    trains: bool = True,
) -> None:
    """Stop at settings that no training would get through with.

    Args:
        config: the parsed config.
        data: the data set, read.
        wanted: stages that are to be trained.
        protocol: the protocol.
        ranks: the processes.
        trains: whether the stages are trained; those that only predict need no batches for all processes.

    Raises:
        ConfigError: naming the key.
    """
    check_trainer(config["trainer"])
    if ranks.size > 1 and protocol.batch_attention:
        raise ConfigError(
            "protocol.batch_attention lets samples see their batch, of which each of several devices has a share",
            "Set --trainer.devices 1.",
        )
    every = config["pipeline"]["checkpoint_every"]
    if every is not None and every < 1:
        raise ConfigError(f"pipeline.checkpoint_every is {every}", "Choose 1 or more.")
    if config["seed_everything"] < 0:
        raise ConfigError(f"seed_everything is {config['seed_everything']}", "Choose 0 or more.")
    for stage in wanted:
        fit = section_of(dict(config), stage)["fit"]
        _check_fit(fit, config["trainer"], data, stage, ranks.size if trains else 1)
    if any(stage.kind == "student" for stage in wanted):
        _check_student(config["student"], data)


def _check_fit(
    fit: Mapping[str, Any], trainer: Mapping[str, Any], data: BaseData, stage: Stage, processes: int
) -> None:
    monitor, known = fit["monitor"], stage.module.monitors(data.task)
    if monitor is not None and monitor not in known:
        meant = nearest(monitor, known)
        raise ConfigError(f"{stage.name}.fit.monitor is {monitor!r}", f"{meant}Choose from {', '.join(known)}.")
    size = fit["batch_size"] or data.batch_size
    if size < processes:
        raise ConfigError(
            f"the batches of {stage.name} have {size} samples, for {processes} devices together",
            "Raise data.init_args.batch_size, or lower trainer.devices.",
        )
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
    """Stop at fractions that come to no batch at all."""
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


def _check_student(section: Mapping[str, Any], data: BaseData) -> None:
    """Stop at settings of the structural loss that the batches cannot serve."""
    student = section["model"]
    size = section["fit"]["batch_size"] or data.batch_size
    samples = len(data.positions("train"))
    steps = data.samples.labelled.shape[1] if data.per_step else 1
    batch, rows = min(size, samples) * steps, samples * steps
    if not needs_teachers(student["method"], student["weights"]):
        return
    by_anchors = student["mode"] in ("rows", "paired") and student["anchors"] != "all"
    structural = term_weights(student["method"], student["weights"]).keys() & {"transport", "centroid"}
    if structural and batch < 2:
        raise ConfigError(
            f"student.model.method {student['method']} compares the samples of a batch, but a batch has {batch}",
            "Raise data.init_args.batch_size or student.fit.batch_size to 2 or more, or choose the method kd or none.",
        )
    if structural and by_anchors and student["top_k"] >= batch:
        raise ConfigError(
            f"student.model.top_k is {student['top_k']}, but a batch has {batch} rows",
            f"Set --student.model.top_k to {batch - 1} or less, or raise data.init_args.batch_size.",
        )
    if student["queue"] >= rows:
        raise ConfigError(
            f"student.model.queue is {student['queue']}, but there are {rows} rows for training",
            f"Set --student.model.queue below {rows}, for beyond them it holds nothing new.",
        )


def check_modules(
    jobs: list[Job],
    data: BaseData,
    features: FeatureCache,
    preemption: Preemption,
    tracking: Tracking,
    checked: set[str] | None = None,
) -> None:
    """Build every stage that is not trained yet with its Trainer, callbacks and loggers, and try every encoder.

    A setting that the last stage refuses must not cost the others.

    Args:
        jobs: the stages.
        data: the data set, read.
        features: where features of frozen encoders are kept.
        preemption: see `train`.
        tracking: see `train`.
        checked: what has been built before, and need not be again; it is added to.

    Raises:
        UserError: naming the stage.
    """
    told, checked = False, set() if checked is None else checked
    for job in jobs:
        built = _built(job, data)
        if job.stored.exists() or built in checked:
            continue
        checked.add(built)
        stage, name = job.stage, job.stage.name
        with tempfile.TemporaryDirectory() as folder:
            try:
                cli = StageCLI(
                    stage.module,
                    job.sections,
                    job.fit,
                    Path(folder) / name / "check",
                    name,
                    features,
                    preemption,
                    tracking,
                    read=data,
                )
            except (
                ValueError,
                TypeError,
                AttributeError,
                ImportError,
                MisconfigurationException,
                ArgumentError,
            ) as error:
                if _is_ours(error):
                    raise
                raise _unbuilt(name, error) from error
        check_plugins(cli.config_init.trainer.plugins)
        check_callbacks(cli.chosen, cli.model, name, job.fit["accumulate_grad_batches"])
        check_setup(cli.chosen, cli.trainer, cli.model)
        if isinstance(cli.model, BackboneModule):
            _try_encoder(cli.model, data, name)
        if features.compiled and media_encoders(cli.model):
            check_compiler(cli.trainer.strategy.root_device)
        precision = cli.trainer.precision
        if not told and "bf16" in str(precision) and not computes_bfloat16(cli.trainer.strategy.root_device):
            told = True
            print(f"{precision} is emulated on this device and slow; --trainer.precision 32-true is faster here.")


def _unbuilt(stage: str, error: Exception) -> ConfigError:
    """Return the line for a stage that cannot be built: the trainer section, the user's own class, or its section."""
    frames, message = traceback.extract_tb(error.__traceback__), reason(str(error))
    if any(frame.name == "instantiate_trainer" for frame in frames):
        return ConfigError(f"the trainer section: {message}", "Correct it.")
    if _own(frames):
        return ConfigError(f"{stage} cannot be built: {message} ({_place(error)})", "Correct that file.")
    return ConfigError(f"{stage} cannot be built: {message}", "Correct its section.")


def _built(job: Job, data: BaseData) -> str:
    """Return all that decides whether a stage can be built: whatever the samples are, and where earlier stages lie."""
    sections = {**job.sections, "model": {k: v for k, v in job.sections["model"].items() if not is_upstream(k)}}
    linked = [getattr(data, name) for name in LINKED]
    return json.dumps([job.stage.name, {**sections, "data": None}, job.fit, linked], sort_keys=True, default=str)


def _try_encoder(module: BackboneModule, data: BaseData, stage: str) -> None:
    """Pass some samples of each part through an encoder: its shapes show only when it runs.

    Raises:
        ConfigError: it fails, or returns something else than an encoder has to.
    """
    encoder, dataset = module.backbone.encoder, SampleDataset(data.samples, [module.modality])
    where = f"{stage}.model.encoder {type(encoder).__name__}"
    module.eval()
    for part in _PARTS:
        positions = data.positions(part)  # type: ignore[arg-type] # none of these is the part of submissions
        if not len(positions):
            continue
        batch = dataset.__getitems__([int(position) for position in positions[:_TRIED]])
        x, mask = batch.inputs[module.modality], batch.masks[module.modality]
        expected = (
            "It gets x (B, T, *steps.shape) and a mask (B, T), and returns features (B, T', dim) and a mask (B, T')"
        )
        try:
            with torch.inference_mode(), torch.random.fork_rng(devices=[]):
                found = encoder(module.backbone.normalise(x), mask)
        except _RAISED as error:
            if type(encoder).__module__.startswith("mtpkdot."):
                raise
            message = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"{where} fails on {len(mask)} samples {tuple(x.shape)} of the {part} part: {type(error).__name__}: "
                f"{message} ({_place(error)})",
                f"{expected}.",
            ) from error
        problem = _problem(found, encoder, mask, data.per_step)
        if problem:
            raise ConfigError(f"{where} {problem} for x {tuple(x.shape)}", f"{expected}; see mtpkdot.models.Encoder.")


def _problem(found: Any, encoder: nn.Module, mask: torch.Tensor, per_step: bool) -> str:
    """Return what is wrong with an encoder's answer; nothing if it is right."""
    if not (isinstance(found, tuple) and len(found) == 2 and all(isinstance(part, torch.Tensor) for part in found)):
        return f"returns {type(found).__name__}, not two tensors"
    features, steps = found
    assert isinstance(encoder, Encoder)
    if features.ndim != 3 or features.shape[0] != len(mask) or features.shape[2] != encoder.dim:
        return f"returns features {tuple(features.shape)}, not ({len(mask)}, T', {encoder.dim})"
    if steps.shape != features.shape[:2] or steps.dtype != torch.bool:
        return f"returns a mask {tuple(steps.shape)} of {steps.dtype}, not {tuple(features.shape[:2])} of torch.bool"
    if per_step and steps.shape != mask.shape:
        return f"turns {mask.shape[1]} steps into {steps.shape[1]}, but every step has a target of its own,"
    return ""


def _own(frames: traceback.StackSummary) -> list[traceback.FrameSummary]:
    """Return the frames within the user's own code."""
    base = Path(sysconfig.get_paths()["stdlib"])
    return [
        frame
        for frame in frames
        if "site-packages" not in frame.filename
        and "mtpkdot" not in Path(frame.filename).parts
        and base not in Path(frame.filename).parents
    ]


def _place(error: BaseException) -> str:
    """Return file and line where an error was raised last within the user's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = (_own(frames) or frames)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def _is_ours(error: BaseException) -> bool:
    """Whether an error comes from a bug of this package, and not from what the config names or says."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, AttributeError | ImportError) and "mtpkdot" in Path(frames[-1].filename).parts
