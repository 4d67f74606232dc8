"""Records of runs and studies, checked on reading: a file of another form is reported in one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtpkdot.errors import RunError
from mtpkdot.pipeline.store import read_json

NUMBER = int | float
ANY = {...: object}
# Keys that every run.json has, and keys that a report needs.
_OF_STAGE = {"hash": str, "chosen?": [str], "sources?": ANY, "shared?": bool}  # the earliest versions: only the first
RUN: dict[Any, Any] = {"stages": {...: {**_OF_STAGE, "keys": ANY}}, ...: object}
_PARTS = {"train": int, "validation": int, "test": int, ...: int}
REPORTED: dict[Any, Any] = {
    "stages": {
        ...: {
            **_OF_STAGE,
            "keys": {"data.init_args.split.fold?": int | None, "seed_everything?": int | None, ...: object},
        }
    },
    "protocol": object,
    "versions": ANY,
    "task": {"classification", "ordinal", "regression"},
    "targets": [str],
    "prevalent": str,
    "samples": _PARTS,
    "labelled": {"train": int, ...: int},
    ...: object,
}


def read_record(path: Path, form: Any, step: str) -> Any:
    """Read a JSON file of a known form.

    Args:
        path: the file.
        form: a type or union of types; a set of values; `[form]` for a list of any length; or a mapping of keys to
            forms, where `"key?"` is optional and `...` stands for all other keys.
        step: advice for a file that is damaged or has another form.

    Returns:
        Its content.

    Raises:
        RunError: the file is missing, damaged, or of another form.
    """
    content = read_json(path, step)
    if problem := misfit(content, form):
        raise RunError(f"{path} is not a valid record of mtpkdot: {problem}", step)
    return content


def misfit(value: Any, form: Any, place: str = "it") -> str:
    """Return how a value differs from a form, see `read_record`; empty if it does not."""
    if isinstance(form, Mapping):
        return _of_mapping(value, form, place)
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"{place} is not a list"
        found = (misfit(item, form[0], f"{place}[{number}]") for number, item in enumerate(value))
        return next(filter(None, found), "")
    if isinstance(form, set):
        return "" if isinstance(value, str) and value in form else f"{place} is not one of {', '.join(sorted(form))}"
    return (
        "" if isinstance(value, form) else f"{place} is {type(value).__name__}, not {getattr(form, '__name__', form)}"
    )


def _of_mapping(value: Any, form: Mapping[Any, Any], place: str) -> str:
    if not isinstance(value, Mapping):
        return f"{place} is not a mapping"
    named = {key.removesuffix("?"): of for key, of in form.items() if key is not ...}
    for key in form:
        if key is not ... and not key.endswith("?") and key not in value:
            return f"{place} has no {key!r}"
    for key, item in value.items():
        if key not in named and ... not in form:
            return f"{place} has {key!r}, which is not known"
        if problem := misfit(item, named.get(key, form.get(...)), key if place == "it" else f"{place}.{key}"):
            return problem
    return ""
