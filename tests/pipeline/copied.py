"""Run by tests on a copy of the package: which stages a changed copy would take from a store.

usage: copied.py CONFIG ROOT MUTATIONS, a JSON list of [file, old, new]; each is made, looked at and taken back.
"""

import json
import sys
from pathlib import Path

import torch

import mtpkdot
from mtpkdot.pipeline.config import Experiment, parse
from mtpkdot.pipeline.jobs import Job, make_jobs, wanted_stages

PACKAGE = Path(mtpkdot.__file__).parent


def planned(experiment: Experiment) -> dict[str, Job]:
    """The stages as they would be taken or trained now."""
    return make_jobs(experiment, wanted_stages(experiment)[1])


def pretend(jobs: dict[str, Job]) -> None:
    """Store every stage as if it had been trained."""
    for name, job in jobs.items():
        if not job.stored.exists():
            job.stored.partial.mkdir(parents=True)
            torch.save({}, job.stored.partial / "model.ckpt")
            job.stored.publish({"stage": name, "hash": job.stored.hash, **job.identity.record})


def main() -> None:
    """Print per mutation the stages that would be trained, and the notes of those."""
    config, root, text = sys.argv[1:]
    experiment = parse("fit", ["--config", config, "--pipeline.root", root])
    if not Path(root).exists():
        pretend(planned(experiment))
    found = []
    for file, old, new in [("errors.py", "", ""), *json.loads(text)]:
        source = (PACKAGE / file).read_text()
        assert old in source, (file, old)
        (PACKAGE / file).write_text(source.replace(old, new, 1))
        jobs = planned(experiment)
        (PACKAGE / file).write_text(source)
        found.append({name: job.note for name, job in jobs.items() if not job.stored.exists()})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
