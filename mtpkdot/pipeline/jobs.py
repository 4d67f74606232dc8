"""From an experiment to its stages: what each is trained with, and the hash of all that decides its result."""

import copy
import hashlib
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtpkdot.errors import ConfigError
from mtpkdot.losses.methods import REVISIONS
from mtpkdot.pipeline.config import Experiment
from mtpkdot.pipeline.protocol import Protocol, expand
from mtpkdot.pipeline.stages import KINDS, Stage, needed, plan
from mtpkdot.pipeline.store import StoredStage, digest, flatten
from mtpkdot.pipeline.trainer import of_stage

# Settings of the Trainer that do not change what is learnt.
_NEUTRAL = {
    "accelerator",
    "strategy",
    "devices",
    "num_nodes",
    "logger",
    "enable_progress_bar",
    "enable_model_summary",
    "log_every_n_steps",
    "profiler",
    "detect_anomaly",
    "barebones",
    "model_registry",
    "deterministic",
    "benchmark",
    "inference_mode",
    "num_sanity_val_steps",
}


@dataclass(frozen=True)
class Job:
    """A stage of a run.

    Attributes:
        stage: the stage, with the upstream stages of this run.
        stored: its place in the store.
        keys: everything that decides its result, flat.
        sections: stock config of its training: seed_everything, trainer, model, data.
        fit: fields of StageFit.
        upstream: checkpoint per upstream argument (`key` or `key.modality`), of this run's stages or the user's own.
    """

    stage: Stage
    stored: StoredStage
    keys: dict[str, Any]
    sections: dict[str, Any]
    fit: dict[str, Any]
    upstream: dict[str, str]


def wanted_stages(experiment: Experiment, everything: bool = False) -> tuple[list[Stage], list[Stage]]:
    """The stages that `pipeline.stages` names (or all), and these with all they depend on.

    Raises:
        ConfigError: a name that is no stage.
    """
    config, data = experiment.config, experiment.data
    stages = plan(data.modality_names, data.prevalent, config)
    # An upstream checkpoint that the user gives replaces the stage that would make it.
    stages = [
        replace(stage, upstream={a: n for a, n in stage.upstream.items() if a not in _given(config, stage)})
        for stage in stages
    ]
    names = [stage.name for stage in stages]
    for name in config["pipeline"]["stages"]:
        if name not in KINDS and name not in names:
            choices = [*KINDS, *(known for known in names if known not in KINDS)]
            raise ConfigError(f"there is no stage {name!r}", f"Choose from {', '.join(choices)}.")
    chosen = set(config["pipeline"]["stages"])
    wanted = [stage for stage in stages if everything or {stage.name, stage.kind} & chosen]
    return wanted, needed(wanted, stages)


def make_jobs(experiment: Experiment, stages: list[Stage]) -> dict[str, Job]:
    """The jobs of these stages, by name, in order."""
    protocol = expand(experiment.config["protocol"])
    jobs: dict[str, Job] = {}
    for stage in stages:
        jobs[stage.name] = _job(experiment, protocol, stage, jobs)
    return jobs


def _job(experiment: Experiment, protocol: Protocol, stage: Stage, jobs: dict[str, Job]) -> Job:
    config, data = experiment.config, experiment.data
    section = section_of(config, stage)
    given = _given(config, stage)
    upstream = {argument: str(jobs[name].stored.checkpoint) for argument, name in stage.upstream.items()} | given
    hashes = {argument: jobs[name].stored.hash for argument, name in stage.upstream.items()}
    hashes |= {argument: _digest_file(path, f"{stage.kind}.model.{argument}") for argument, path in given.items()}
    fusion = protocol.fusion_arguments() if stage.kind in ("teacher", "student") else {}
    model = {k: v for k, v in section["model"].items() if not _is_upstream(k)} | _encoders(config, data, stage) | fusion
    if stage.modality is not None:
        model["modality"] = stage.modality
    arguments = {**config["data"].get("init_args", {}), **protocol.data_arguments(stage.name)}
    arguments["seed"] = config["seed_everything"]
    if section["fit"]["batch_size"] is not None:
        arguments["batch_size"] = section["fit"]["batch_size"]
    # Backbones are trained on raw steps: features and their views do not reach them.
    raw = stage.kind == "backbone"
    keys = flatten(
        {
            stage.kind if stage.modality is None else stage.name: {"model": model, "fit": section["fit"]},
            "data": _data_keys(experiment, {k: v for k, v in arguments.items() if not (raw and k == "views")}),
            **({} if raw else {"features": config["pipeline"]["features"]}),
            "trainer": {k: v for k, v in config["trainer"].items() if k not in _NEUTRAL},
            "seed_everything": config["seed_everything"],
            # Left out where nothing is compiled: what was trained before the option came stays what it is.
            **({"pipeline": {"compile": True}} if config["pipeline"]["compile"] else {}),
            **_revision(stage, model),
            "upstream": hashes,
            "code": _own_code({"model": model, "data": config["data"], "trainer": config["trainer"]}),
            "weights": _weight_files(model),
        }
    )
    fit = section["fit"]
    shared = ("max_epochs", "gradient_clip_val", "accumulate_grad_batches")
    sections = {
        "seed_everything": config["seed_everything"],
        "trainer": {
            **config["trainer"],
            **{key: fit[key] for key in shared},
            "logger": of_stage(config["trainer"]["logger"], stage.name),
        },
        "model": model | _nested(upstream),
        "data": {"class_path": config["data"]["class_path"], "init_args": arguments},
    }
    # A copy: Lightning's parser turns the nested mappings it is given into objects of its own, in place.
    sections = copy.deepcopy(sections)
    stored = StoredStage(Path(config["pipeline"]["root"]), stage.name, digest(keys))
    return Job(stage, stored, keys, sections, fit, upstream)


def _revision(stage: Stage, model: Mapping[str, Any]) -> dict[str, int]:
    """Of the student's method, where it has changed since its stages were first stored."""
    return {"revision": REVISIONS[model["method"]]} if stage.kind == "student" and model["method"] in REVISIONS else {}


def data_keys(experiment: Experiment) -> dict[str, Any]:
    """What decides the data that an encoder reads, whatever the stage, and the user's own code that reads them."""
    passed = {"batch_size", "num_workers", "views", "split", "seed"}
    arguments = experiment.config["data"].get("init_args", {})
    kept = {key: value for key, value in arguments.items() if key not in passed}
    keys = _data_keys(experiment, copy.deepcopy(kept))
    encoders = {name: section["model"]["encoder"] for name, section in experiment.config["backbone"].items()}
    return {**keys, "code": _own_code({"data": experiment.config["data"], "encoders": encoders})}


def _data_keys(experiment: Experiment, arguments: dict[str, Any]) -> dict[str, Any]:
    config, data = experiment.config, experiment.data
    return {
        "class_path": config["data"]["class_path"],
        "modalities": data.modality_names,
        "init_args": {k: v for k, v in arguments.items() if k not in data.unhashed},
        "contents": data.contents(),
    }


def section_of(config: dict[str, Any], stage: Stage) -> dict[str, Any]:
    """The stage's section of the config."""
    section: dict[str, Any] = config[stage.kind]
    return section if stage.modality is None else section[stage.modality]


def _encoders(config: dict[str, Any], data: Any, stage: Stage) -> dict[str, Any]:
    """Encoders that a stage takes over from the backbones' sections."""
    encoders = {name: config["backbone"][name]["model"]["encoder"] for name in data.modality_names}
    if stage.kind == "teacher":
        # Those that are null are built by default and left out: a null in a dict of classes cannot be written down.
        return {"encoders": {name: encoder for name, encoder in encoders.items() if encoder is not None}}
    return {"encoder": encoders[data.prevalent]} if stage.kind == "student" else {}


def _own_code(section: Any) -> dict[str, str]:
    """Digest of the source of every class that the user brings, by class_path: its name alone does not decide."""
    found: dict[str, str] = {}
    if isinstance(section, dict):
        path = section.get("class_path")
        if isinstance(path, str) and path.split(".")[0] not in ("mtpkdot", "torch", "lightning"):
            module = inspect.getmodule(_import(path))
            source = None if module is None else module.__file__
            if source is not None:
                found[path] = hashlib.sha256(Path(source).read_bytes()).hexdigest()[:16]
        for value in section.values():
            found |= _own_code(value)
    elif isinstance(section, list):
        for value in section:
            found |= _own_code(value)
    return found


def _weight_files(section: Any) -> dict[str, str]:
    """Digest of every local file that a `weights` argument names: its path alone does not decide."""
    found: dict[str, str] = {}
    for key, value in section.items() if isinstance(section, dict) else ():
        if key == "weights" and isinstance(value, str) and Path(value).is_file():
            found[value] = _digest_file(value, key)
        found |= _weight_files(value)
    return found


def _import(path: str) -> Any:
    """The object behind a dotted class_path."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _is_upstream(argument: str) -> bool:
    return argument.endswith(("_ckpt", "_ckpts"))


def _given(config: dict[str, Any], stage: Stage) -> dict[str, str]:
    """Upstream checkpoints that the user gives, by argument."""
    values = {k: v for k, v in section_of(config, stage)["model"].items() if _is_upstream(k) and v}
    given = {argument: str(path) for argument, path in flatten(values).items() if path} if values else {}
    for argument in given:
        modality = argument.partition(".")[2]
        if modality and modality not in config["backbone"]:
            raise ConfigError(
                f"{stage.kind}.model.{argument} names the modality {modality!r}",
                f"Choose from {', '.join(config['backbone'])}.",
            )
    return given


def _nested(upstream: dict[str, str]) -> dict[str, Any]:
    """`{"ckpts.video": path}` as `{"ckpts": {"video": path}}`."""
    nested: dict[str, Any] = {}
    for argument, path in upstream.items():
        key, _, modality = argument.partition(".")
        nested[key] = {**nested.get(key, {}), modality: path} if modality else path
    return nested


def _digest_file(path: str, key: str) -> str:
    if not Path(path).is_file():
        raise ConfigError(f"{key} names {path}, which does not exist", "Correct the path.")
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
