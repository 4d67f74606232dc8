"""Basis of the cells of a study: what decides them beside their arguments (files, own code, trained sources)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mtpkdot.errors import UserError
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.identity import Policy, method_digest
from mtpkdot.pipeline.jobs import make_jobs, wanted_stages
from mtpkdot.pipeline.method import resolve_method
from mtpkdot.pipeline.stages import STUDENT, UPSTREAM
from mtpkdot.pipeline.store import digest
from mtpkdot.pipeline.study import Cell, Overrides, Study


def founded(study: Study) -> Study:
    """Return the study with the basis of its cells, so that a cell of another basis does not count as finished.

    A basis belongs to a setting. A seed has a basis of its own where its overrides name a file or a class; so has a
    variant, and also for its method.

    Raises:
        UserError: a setting or a variant cannot be parsed.
    """
    found: dict[str, str] = {}
    policy: Policy = None
    for cell in (cell for cell in study.cells() if not cell.fold and not cell.start):
        own = study.variants.get(cell.variant.removeprefix(f"{UPSTREAM}-"), {})
        overrides = {**study.shared, **study.settings[cell.setting], **own}
        of_seed = _is_outside({key: value for key, value in overrides.items() if "{seed}" in str(value)})
        if cell.seed != study.seeds[0] and not of_seed:
            continue
        shared = replace(study, basis=found).basis_of(cell)
        if cell.first:
            basis, policy = _basis(cell)
        else:
            basis = _basis(cell)[0] if _is_outside(own) else shared
            basis = digest({"basis": basis, "method": method_digest(_method(own), policy)})
        if basis != shared:
            found[f"{cell.setting}/{cell.variant}" + (f"/{cell.seed}" if of_seed else "")] = basis
    return replace(study, basis=found)


def _basis(cell: Cell) -> tuple[str, Policy]:
    """Return the basis of a cell, and its policy for changed code."""
    try:
        experiment = parse("crossval", cell.arguments)
        resolve_method(experiment)
        jobs = make_jobs(experiment, wanted_stages(experiment, everything=True)[1])
    except UserError as error:
        raise type(error)(f"{cell.setting}/{cell.variant}: {error.what}", error.step) from error
    return digest({name: job.stored.hash for name, job in jobs.items()}), experiment.config["pipeline"]["code"]


def _method(own: Overrides) -> str:
    """Return the digest of the method that a variant names; a method of all cells is part of the upstream basis."""
    section = own.get(f"{STUDENT}.model")
    named = section.get("method") if isinstance(section, Mapping) else None
    return str(own.get(f"{STUDENT}.model.method", named))


def _is_outside(overrides: Mapping[str, Any]) -> bool:
    """Return whether an override names a file or a class; a data file may have a name without any mark of one."""
    return any(_names(value, key.startswith("data.")) for key, value in overrides.items())


def _names(value: Any, anything: bool) -> bool:
    if isinstance(value, Mapping):
        return any(_names(item, anything) for item in value.values())
    if isinstance(value, list):
        return any(_names(item, anything) for item in value)
    if not isinstance(value, str) or value.replace("{seed}", "0").replace(".", "").isdecimal():
        return False
    return anything or any(mark in value for mark in "/.")
