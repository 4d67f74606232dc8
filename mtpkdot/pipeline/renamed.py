"""Renamed keys of version 0.2: each is moved, and one line names the new place. To be removed in 0.4."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from mtpkdot.pipeline.stages import HALLUCINATOR, STUDENT, TEACHER

_FUSION = {name: f"fusion.{name}" for name in ("dim", "heads", "feedforward", "dropout")}
_STRUCTURE = ("top_k", "eps", "relative_eps", "reach", "pairing", "solver", "mode", "kernel", "anchors")
# Section -> key of its model -> argument of a class there.
_MOVED: dict[str, dict[str, str]] = {
    TEACHER: _FUSION,
    HALLUCINATOR: {"hidden": "tnet.hidden", "activation": "tnet.activation"},
    STUDENT: {
        **_FUSION,
        **{name: f"structure.{name}" for name in _STRUCTURE},
        "ot_tol": "structure.tol",
        "ot_max_iter": "structure.max_iter",
        "selection": "selection.rule",
        "selection_temperature": "selection.temperature",
        "margin": "selection.margin",
    },
}
_RULES = ("batch", "sample", "soft")
_MODE = "mtpkdot"  # Name of the YAML loader.


def with_moved_options(arguments: Sequence[str]) -> list[str]:
    """Return a command line in which moved keys have their new names.

    Example:
        >>> with_moved_options(["--student.model.fusion.dim=64", "--student.fit.max_epochs", "3"])
        ['--student.model.fusion.dim=64', '--student.fit.max_epochs', '3']
    """
    found = list(arguments)
    for place, word in enumerate(found):
        match = re.fullmatch(r"--(\w+)\.model(?:\.(\w+))?(?:=(.*))?", word, re.DOTALL)
        if match is None or match[1] not in _MOVED:
            continue
        section, key, given = match.groups()
        value = given if given is not None else (found[place + 1] if place + 1 < len(found) else "")
        if key is None and (moved := _moved_text(section, value)) is not None:
            if given is None:
                found[place + 1] = moved
            else:
                found[place] = f"--{section}.model={moved}"
        elif key is not None and _is_old(section, key, value):
            end = "" if given is None else f"={given}"
            found[place] = f"--{section}.model.{_announced(section, key)}{end}"
    return found


def _moved_text(section: str, text: str) -> str | None:
    """Return the text of a section's model with its old keys moved; None if it has none, or is no mapping."""
    try:
        model = get_loader("yaml")(text)
    except yaml.YAMLError:
        return None  # the parser of the command line reports the error
    if not isinstance(model, Mapping) or not any(_is_old(section, key, value) for key, value in model.items()):
        return None
    moved: str = yaml.safe_dump(_moved(section, model), default_flow_style=True)
    return moved


def moving_loader() -> str:
    """Return the name of a YAML loader for jsonargparse that moves old keys of a config."""
    load: Callable[[str], Any] = get_loader("yaml")
    set_loader(_MODE, lambda text: _in_config(load(text)), exceptions=(yaml.YAMLError,))
    return _MODE


def _in_config(content: Any) -> Any:
    """Return a config with its old keys moved; any other value unchanged."""
    if not isinstance(content, dict):
        return content
    sections = {name: content[name] for name in _MOVED if isinstance(content.get(name), dict)}
    for name, section in sections.items():
        if isinstance(section.get("model"), dict):
            content[name] = {**section, "model": _moved(name, section["model"])}
    return content


def _moved(section: str, model: Any) -> Any:
    """Return the model of a section with its old keys moved into the classes they belong to."""
    if not isinstance(model, Mapping):
        return model
    old = {key: value for key, value in model.items() if _is_old(section, key, value)}
    kept = {key: value for key, value in model.items() if key not in old}
    for key, value in old.items():
        name, _, argument = _announced(section, key).partition(".")
        now = kept.get(name)
        named = {"class_path": now} if isinstance(now, str) else {}
        nested: dict[str, Any] = dict(now) if isinstance(now, Mapping) else named
        kept[name] = {**nested, "init_args": {**nested.get("init_args", {}), argument: value}}
    return kept


def _is_old(section: str, key: str, value: Any) -> bool:
    """Return whether a key has moved; `selection` has only if it names a rule."""
    return key in _MOVED[section] and (key != "selection" or value in _RULES)


@cache
def _announced(section: str, key: str) -> str:
    """Return the new place of a moved key below `model`, and print it once."""
    new = _MOVED[section][key]
    print(f"{section}.model.{key} is {section}.model.{new} now (UPGRADING.md)", file=sys.stderr)
    return new
