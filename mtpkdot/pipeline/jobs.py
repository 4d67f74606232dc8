"""From an experiment to its stages: what each is trained with, and its place in the store."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtpkdot.errors import ConfigError, nearest
from mtpkdot.pipeline.config import Experiment
from mtpkdot.pipeline.identity import (
    Identity,
    Policy,
    changed,
    changed_files,
    digest_file,
    identify,
    told_files,
    trains_anew,
)
from mtpkdot.pipeline.protocol import Protocol, expand
from mtpkdot.pipeline.stages import KINDS, Stage, needed, plan
from mtpkdot.pipeline.store import StoredStage, flatten
from mtpkdot.pipeline.trainer import of_stage


@dataclass(frozen=True)
class Job:
    """A stage of a run.

    Attributes:
        stage: the stage, with the upstream stages of this run.
        stored: its place in the store.
        identity: everything that decides its result.
        note: what has changed since the stored stage, or the nearest one that does not hold, was trained.
        sections: stock config of its training: seed_everything, trainer, model, data.
        fit: fields of StageFit.
        upstream: checkpoint per upstream argument (`key` or `key.modality`), of this run's stages or the user's own.
    """

    stage: Stage
    stored: StoredStage
    identity: Identity
    note: str
    sections: dict[str, Any]
    fit: dict[str, Any]
    upstream: dict[str, str]

    @property
    def record(self) -> dict[str, Any]:
        """Hash and identity of the stage: as it was trained, or will be."""
        record = self.stored.record() if self.stored.exists() else self.identity.record
        return {"hash": self.stored.hash, **{key: record[key] for key in self.identity.record}}


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
            raise ConfigError(
                f"there is no stage {name!r}", f"{nearest(name, choices)}Choose from {', '.join(choices)}."
            )
    chosen = set(config["pipeline"]["stages"])
    wanted = [stage for stage in stages if everything or {stage.name, stage.kind} & chosen]
    return wanted, needed(wanted, stages)


def make_jobs(experiment: Experiment, stages: list[Stage], kept: Mapping[str, str] | None = None) -> dict[str, Job]:
    """The jobs of these stages, by name, in order.

    Args:
        experiment: the parsed config.
        stages: each after those it depends on.
        kept: hash per stage that the run has named so far.
    """
    protocol = expand(experiment.config["protocol"])
    jobs: dict[str, Job] = {}
    for stage in stages:
        jobs[stage.name] = _job(experiment, protocol, stage=stage, jobs=jobs, kept=(kept or {}).get(stage.name))
    return jobs


def _job(experiment: Experiment, protocol: Protocol, stage: Stage, jobs: dict[str, Job], kept: str | None) -> Job:
    config, data = experiment.config, experiment.data
    section = section_of(config, stage)
    given = _given(config, stage)
    upstream = {argument: str(jobs[name].stored.checkpoint) for argument, name in stage.upstream.items()} | given
    hashes = {argument: jobs[name].stored.hash for argument, name in stage.upstream.items()}
    hashes |= {argument: digest_file(path, f"{stage.kind}.model.{argument}") for argument, path in given.items()}
    fusion = protocol.fusion_arguments() if stage.kind in ("teacher", "student") else {}
    model = {k: v for k, v in section["model"].items() if not is_upstream(k)} | _inherited(config, data, stage) | fusion
    if stage.modality is not None:
        model["modality"] = stage.modality
    arguments = {**config["data"].get("init_args", {}), **protocol.data_arguments(stage.name)}
    arguments["seed"] = config["seed_everything"]
    if section["fit"]["batch_size"] is not None:
        arguments["batch_size"] = section["fit"]["batch_size"]
    identity = identify(experiment, stage, model=model, arguments=arguments, upstream=hashes)
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
    stored, note = _found(
        Path(config["pipeline"]["root"]), stage.name, identity=identity, policy=config["pipeline"]["code"], kept=kept
    )
    return Job(stage, stored, identity=identity, note=note, sections=sections, fit=fit, upstream=upstream)


def _found(root: Path, name: str, identity: Identity, policy: Policy, kept: str | None) -> tuple[StoredStage, str]:
    """The stored stage that still holds, or the place of one to be trained.

    Args:
        root: folder of all runs.
        name: of the stage.
        identity: what decides its result.
        policy: whether it holds where its sources have changed.
        kept: hash of the stage that the run has named so far; it is preferred to others that hold as well.

    Returns:
        The place, and what has changed since it or the nearest other was trained; empty for nothing.
    """
    holding: list[tuple[bool, int, bool, str, list[str]]] = []
    notes: list[str] = []
    for folder in sorted((root / "stages" / name).glob(f"{identity.hash}-*")):
        stored = StoredStage(root, name, folder.name)
        if not stored.exists():
            continue
        record = stored.record()
        change = changed(record, identity.record)
        files = changed_files(record["sources"], identity.files)
        if change is not None:
            notes.append(str(change))
        elif trains_anew(policy, files):
            notes.append(told_files(files))
        else:
            holding.append((folder.name != kept, len(files), folder.name != identity.name, folder.name, files))
    if not holding:
        return StoredStage(root, name, identity.name), notes[-1] if notes else ""
    *_, place, files = min(holding)
    return StoredStage(root, name, place), told_files(files) if files and policy != "ignore" else ""


def section_of(config: dict[str, Any], stage: Stage) -> dict[str, Any]:
    """The stage's section of the config."""
    section: dict[str, Any] = config[stage.kind]
    return section if stage.modality is None else section[stage.modality]


def _inherited(config: dict[str, Any], data: Any, stage: Stage) -> dict[str, Any]:
    """Return the classes that a stage takes over from the sections of earlier ones."""
    encoders = {name: config["backbone"][name]["model"]["encoder"] for name in data.modality_names}
    if stage.kind == "teacher":
        # Those that are null are built by default and left out: a null in a dict of classes cannot be written down.
        return {"encoders": {name: encoder for name, encoder in encoders.items() if encoder is not None}}
    if stage.kind == "adapted":
        return {"fusion": config["teacher"]["model"]["fusion"]}
    if stage.kind == "student":
        return {"encoder": encoders[data.prevalent], "tnet": config["hallucinator"]["model"]["tnet"]}
    return {}


def is_upstream(argument: str) -> bool:
    """Return whether a model's argument names checkpoints of earlier stages."""
    return argument.endswith(("_ckpt", "_ckpts"))


def _given(config: dict[str, Any], stage: Stage) -> dict[str, str]:
    """Upstream checkpoints that the user gives, by argument."""
    values = {k: v for k, v in section_of(config, stage)["model"].items() if is_upstream(k) and v}
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
