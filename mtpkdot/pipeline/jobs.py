"""Jobs of an experiment: the training of each stage, and its place in the store."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtpkdot.errors import ConfigError, nearest
from mtpkdot.modules.declaration import is_upstream
from mtpkdot.pipeline.config import Experiment
from mtpkdot.pipeline.identity import (
    Identity,
    Policy,
    changed,
    changed_files,
    describe_changes,
    digest_file,
    identify,
    trains_anew,
)
from mtpkdot.pipeline.protocol import Protocol, expand
from mtpkdot.pipeline.stages import BACKBONE, DOWNSTREAM, UPSTREAM, Stage, demanded, needed, plan
from mtpkdot.pipeline.store import StoredStage, flatten
from mtpkdot.pipeline.trainer import of_stage


@dataclass(frozen=True)
class Job:
    """One stage of a run, with everything needed to train it.

    Attributes:
        stage: the stage, with the upstream stages of this run.
        stored: its place in the store.
        identity: everything that decides its result.
        note: change since the stored stage, or the nearest outdated one, was trained.
        sections: stock config of its training: seed_everything, trainer, model, data.
        fit: fields of StageFit.
        upstream: checkpoint of each upstream argument (`key` or `key.modality`), of a stage of this run or of the user.
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
        """Hash and identity of the stage, as trained or to be trained."""
        record = self.stored.record() if self.stored.exists() else self.identity.record
        return {"hash": self.stored.hash, **{key: record[key] for key in self.identity.record}}


def wanted_stages(experiment: Experiment, everything: bool = False) -> tuple[list[Stage], list[Stage]]:
    """Return the stages that `pipeline.stages` names (or all), and these with all stages they depend on.

    Raises:
        ConfigError: a name is not that of a stage.
    """
    config, data = experiment.config, experiment.data
    stages = plan(data.modality_names, data.prevalent, config, experiment.kinds)
    choices = list(dict.fromkeys([*experiment.kinds, *(stage.name for stage in stages), UPSTREAM, DOWNSTREAM]))
    for name in config["pipeline"]["stages"]:
        if name not in choices:
            raise ConfigError(
                f"there is no stage {name!r}", f"{nearest(name, choices)}Choose from {', '.join(choices)}."
            )
    stages = demanded(stages, config["pipeline"]["stages"])
    wanted = [stage for stage in stages if everything or stage.is_named(config["pipeline"]["stages"])]
    return wanted, needed(wanted, stages)


def make_jobs(experiment: Experiment, stages: list[Stage], kept: Mapping[str, str] | None = None) -> dict[str, Job]:
    """Return the jobs of stages by name, in order.

    Args:
        experiment: the parsed config.
        stages: stages, each after those it depends on.
        kept: hash of each stage that the run has used so far.
    """
    protocol = expand(experiment.config["protocol"])
    jobs: dict[str, Job] = {}
    for stage in stages:
        jobs[stage.name] = _job(experiment, protocol, stage=stage, jobs=jobs, kept=(kept or {}).get(stage.name))
    return jobs


def _job(experiment: Experiment, protocol: Protocol, stage: Stage, jobs: dict[str, Job], kept: str | None) -> Job:
    config, data = experiment.config, experiment.data
    section = stage.section(config)
    given = _given(config, stage)
    upstream = {argument: str(jobs[name].stored.checkpoint) for argument, name in stage.upstream.items()} | given
    hashes = {argument: jobs[name].stored.hash for argument, name in stage.upstream.items()}
    hashes |= {argument: digest_file(path, f"{stage.kind}.model.{argument}") for argument, path in given.items()}
    model = {k: v for k, v in section["model"].items() if not is_upstream(k)}
    for argument, (of, key) in stage.module.inherited.items():
        kind, _, modality = stage.upstream.get(of, of.removesuffix("_ckpt")).partition(".")
        earlier = (config[kind][modality] if modality else config[kind])["model"]
        # A stage of the user may have no such argument, and then has what is the default here.
        model |= {argument: earlier[key]} if key in earlier else {}
    encoders = {name: config[BACKBONE][name]["model"]["encoder"] for name in data.modality_names}
    model |= stage.module.encoder_arguments(encoders, data.prevalent)
    model |= protocol.model_arguments(stage.module.switches)
    if stage.modality is not None:
        model["modality"] = stage.modality
    arguments = {**config["data"].get("init_args", {}), **protocol.data_arguments(stage.module.switches)}
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
        "model": model | nested(upstream),
        "data": {"class_path": config["data"]["class_path"], "init_args": arguments},
    }
    # A copy: Lightning's parser replaces nested mappings in place.
    sections = copy.deepcopy(sections)
    stored, note = _find_stored(
        Path(config["pipeline"]["root"]), stage.name, identity=identity, policy=config["pipeline"]["code"], kept=kept
    )
    return Job(stage, stored, identity=identity, note=note, sections=sections, fit=fit, upstream=upstream)


def _find_stored(
    root: Path, name: str, identity: Identity, policy: Policy, kept: str | None
) -> tuple[StoredStage, str]:
    """Return the stored stage that is still valid, or the place of one to be trained.

    Args:
        root: folder of all runs.
        name: name of the stage.
        identity: everything that decides its result.
        policy: validity of a stage whose sources have changed.
        kept: hash of the stage that the run has used so far, which is preferred to other valid ones.

    Returns:
        The place, and the change since that stage or the nearest other one was trained; empty for none.
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
            notes.append(describe_changes(files))
        else:
            holding.append((folder.name != kept, len(files), folder.name != identity.name, folder.name, files))
    if not holding:
        return StoredStage(root, name, identity.name), notes[-1] if notes else ""
    *_, place, files = min(holding)
    return StoredStage(root, name, place), describe_changes(files) if files and policy != "ignore" else ""


def _given(config: dict[str, Any], stage: Stage) -> dict[str, str]:
    """Return the paths of upstream checkpoints that the user gives instead of a stage, by argument."""
    values = {k: v for k, v in stage.section(config)["model"].items() if is_upstream(k) and v}
    given = {argument: str(path) for argument, path in flatten(values).items() if path} if values else {}
    for argument in given:
        modality = argument.partition(".")[2]
        if modality and modality not in config[BACKBONE]:
            raise ConfigError(
                f"{stage.kind}.model.{argument} names the modality {modality!r}",
                f"Choose from {', '.join(config[BACKBONE])}.",
            )
    return {argument: path for argument, path in given.items() if argument not in stage.upstream}


def nested(upstream: dict[str, str]) -> dict[str, Any]:
    """Return `{"ckpts.video": path}` as `{"ckpts": {"video": path}}`."""
    found: dict[str, Any] = {}
    for argument, path in upstream.items():
        key, _, modality = argument.partition(".")
        found[key] = {**found.get(key, {}), modality: path} if modality else path
    return found
