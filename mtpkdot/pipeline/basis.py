"""What decides the cells of a study beside their arguments: files, own code, and what this version trains."""

from dataclasses import replace
from typing import Any

from mtpkdot.errors import UserError
from mtpkdot.losses.methods import REVISIONS
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.jobs import make_jobs, wanted_stages
from mtpkdot.pipeline.store import digest
from mtpkdot.pipeline.study import Cell, Study


def founded(study: Study) -> Study:
    """The study with the basis of its cells, so that those of another one are not taken for finished.

    A basis is that of a setting. Variants, and seeds, have their own where their overrides name something outside, a
    file or a class.

    Raises:
        UserError: a setting, or such a variant, that cannot be parsed.
    """
    shared = [value for value in study.shared.values() if "{seed}" in str(value)]
    seeds = study.seeds if _is_outside(shared) else study.seeds[:1]
    found: dict[str, str] = {}
    for cell in study.cells():
        if cell.fold or cell.seed not in seeds or not (cell.first or _is_outside(study.variants[cell.variant])):
            continue
        of_seed = f"/{cell.seed}" if _is_outside(shared) else ""
        found[f"{cell.setting}/{cell.variant}{of_seed}"] = _basis(cell)
    return replace(study, basis=found)


def _basis(cell: Cell) -> str:
    try:
        experiment = parse("crossval", cell.arguments)
        jobs = make_jobs(experiment, wanted_stages(experiment, everything=True)[1])
    except UserError as error:
        raise type(error)(f"{cell.setting}/{cell.variant}: {error.what}", error.step) from error
    return digest({"stages": {name: job.stored.hash for name, job in jobs.items()}, "revisions": REVISIONS})


def _is_outside(value: Any) -> bool:
    """Whether an override names a file or a class."""
    if isinstance(value, dict):
        return any(map(_is_outside, value.values()))
    if isinstance(value, list):
        return any(map(_is_outside, value))
    if not isinstance(value, str):
        return False
    return any(mark in value for mark in "/.") and not value.replace(".", "").replace("{seed}", "").isdecimal()
