"""Runs that were trained on another machine, or with other devices, and are evaluated here."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mtpkdot.pipeline.jobs import Job
from mtpkdot.pipeline.store import StoredStage, digest

# Keys of a stage that are of the machine and not of the model. Files of initial weights decided how the training
# began, and need not be here.
_OF_MACHINE = re.compile(r"trainer\.precision|features|pipeline\.compile|weights(\..*)?")


def as_trained(jobs: Mapping[str, Job], before: Mapping[str, Any]) -> dict[str, Job]:
    """Return the jobs as they were on the machine that trained them.

    Args:
        jobs: the stages of the run as they are on this machine, each after those it depends on.
        before: per stage the `hash` and `keys` that `run.json` has.

    Returns:
        The jobs with the machine's keys of `before`. Those that differ in nothing else have the hashes of `before`,
        by which their trained stages are found.
    """
    trained: dict[str, Job] = {}
    for name, job in jobs.items():
        old = before[name]["keys"] if name in before else job.keys
        keys = {key: value for key, value in job.keys.items() if not _OF_MACHINE.fullmatch(key)}
        keys |= {key: value for key, value in old.items() if _OF_MACHINE.fullmatch(key)}
        upstream = dict(job.upstream)
        for argument, earlier in job.stage.upstream.items():
            keys[f"upstream.{argument}"] = trained[earlier].stored.hash
            upstream[argument] = str(trained[earlier].stored.checkpoint)
        stored = StoredStage(job.stored.root, name, digest(keys))
        trained[name] = replace(job, stored=stored, keys=keys, upstream=upstream)
    return trained


def differences(here: Mapping[str, Job], trained: Mapping[str, Job]) -> Iterator[str]:
    """Say in a line each what of the arithmetic is other here than it was in training."""
    told = {
        (key, before, now)
        for name, job in here.items()
        for key, default in (("trainer.precision", "32-true"), ("features", None), ("pipeline.compile", False))
        if (before := trained[name].keys.get(key) or default) != (now := job.keys.get(key) or default)
    }
    for key, before, now in sorted(told, key=str):
        name = "pipeline.features" if key == "features" else key
        yield f"{name} is {now}, and was {before} in training: the numbers may differ in their last digits"
