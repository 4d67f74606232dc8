"""Evaluation of runs that were trained on another machine or with other devices."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mtpkdot.pipeline.identity import Policy, changed, changed_files, trains_anew
from mtpkdot.pipeline.jobs import Job
from mtpkdot.pipeline.store import StoredStage

_ARITHMETIC = {"trainer.precision": "32-true", "features": None, "pipeline.compile": False}  # values of absent keys


def as_trained(jobs: Mapping[str, Job], before: Mapping[str, Any], policy: Policy) -> dict[str, Job]:
    """Return the jobs as they were on the machine that trained them.

    Args:
        jobs: the stages of the run as they are on this machine, each after those it depends on.
        before: record of each stage in `run.json`.
        policy: validity of a stage whose sources have changed.

    Returns:
        The jobs. A job that differs from the record only in machine settings takes the recorded hash.
    """
    trained: dict[str, Job] = {}
    for name, job in jobs.items():
        upstream = {a: str(trained[earlier].stored.checkpoint) for a, earlier in job.stage.upstream.items()}
        stored = job.stored
        earlier_hold = all(trained[e].stored.hash == before.get(e, {}).get("hash") for e in job.stage.upstream.values())
        if name in before and earlier_hold and _holds(job, before[name], policy):
            stored = StoredStage(stored.root, name, before[name]["hash"])
        trained[name] = replace(job, stored=stored, upstream={**job.upstream, **upstream})
    return trained


def _holds(job: Job, record: Mapping[str, Any], policy: Policy) -> bool:
    if "chosen" not in record:
        return False  # Records of an earlier version.
    # Earlier stages are compared separately; files of initial weights need not exist here.
    keys = [*record["keys"], *job.identity.keys]
    without = {key for key in keys if key.startswith("weights")} | {f"upstream.{a}" for a in job.stage.upstream}
    files = changed_files(record["sources"], job.identity.files)
    return changed(record, job.identity.record, machine=False, without=without) is None and not trains_anew(
        policy, files
    )


def differences(jobs: Mapping[str, Job], before: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each difference of the arithmetic between this machine and the training."""
    different = {
        (key, old, now)
        for name, job in jobs.items()
        for key, absent in _ARITHMETIC.items()
        if name in before
        and (old := before[name]["keys"].get(key) or absent) != (now := job.identity.keys.get(key) or absent)
    }
    for key, old, now in sorted(different, key=str):
        name = "pipeline.features" if key == "features" else key
        yield f"{name} is {now}, and was {old} in training: the numbers may differ in their last digits"
