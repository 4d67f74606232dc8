"""Stages of the user, which a config names under `pipeline.extra_stages`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from mtpkdot.errors import ConfigError, nearest
from mtpkdot.modules import StageModule
from mtpkdot.modules.declaration import LINKED, arguments_of
from mtpkdot.pipeline.stages import DOWNSTREAM, STUDENT, UPSTREAM, stage_classes

_KEY = "pipeline.extra_stages"
_TAKEN = {"seed_everything", "protocol", "data", "trainer", "pipeline", "config", "base", "help", UPSTREAM, DOWNSTREAM}
_KNOWN = ("class_path", "init_args", "fit", "before")
_EXPECTED = (
    "Write a subclass of mtpkdot.modules.StageModule with `def __init__(self, ..., **options)`, which calls "
    "`super().__init__(**options)` and `self.save_hyperparameters()`, and `def losses(self, batch)`, which returns "
    "scalar terms by name with `loss` among them"
)


@dataclass(frozen=True)
class ExtraStage:
    """Stage of the user.

    Attributes:
        class_path: path of its class.
        before: name of the stage before which it is trained; None for the end.
        begun: values for `model` and `fit` of its section from `pipeline.extra_stages`; the section itself overrides
            them.
    """

    class_path: str
    before: str | None
    begun: dict[str, Any]

    def sections(self, kind: type[StageModule], modalities: Sequence[str]) -> dict[str, Any]:
        """Return the initial values of its section, or of one section per modality.

        Args:
            kind: its class.
            modalities: names in the order of the data.
        """
        return dict.fromkeys(modalities, self.begun) if kind.per_modality else self.begun


def names_in(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the names of extra stages on a command line and in its config files, without repetition.

    Their sections must be known before the command line can be parsed; errors are reported by the parser.

    Args:
        argv: `--config FILE` and dotted overrides.
    """
    found: list[str] = []
    for flag, word in zip(["", *argv], argv, strict=False):
        option, equals, value = word.partition("=")
        if not equals:
            option, value = flag, word
        if option == "--config":
            pipeline = _mapping(_loaded(value)).get("pipeline")
            found += _mapping(_mapping(pipeline).get("extra_stages"))
        elif option == "--pipeline":
            found += _mapping(_mapping(_loaded(value)).get("extra_stages"))
        elif option == f"--{_KEY}":
            found += _mapping(_loaded(value))
        elif option.startswith(f"--{_KEY}."):
            found.append(option.removeprefix(f"--{_KEY}.").partition(".")[0])
    return tuple(dict.fromkeys(name for name in map(str, found) if _is_free(name)))


def _is_free(name: str) -> bool:
    """Return whether a name is free for a stage."""
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name)) and name not in _TAKEN and name not in stage_classes()


def _loaded(text: str) -> Any:
    """Return the content of a YAML file or text; None if it is neither."""
    try:
        return yaml.safe_load(Path(text).read_text(encoding="utf-8") if _is_file(text) else text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _is_file(text: str) -> bool:
    try:
        return "\n" not in text and Path(text).is_file()
    except OSError:
        return False  # too long for a name


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def extra_stages(options: Mapping[str, Mapping[str, Any]]) -> dict[str, ExtraStage]:
    """Return the extra stages by name.

    Args:
        options: value of `pipeline.extra_stages`.

    Raises:
        ConfigError: a name is taken or cannot be a section, a key is unknown, or class_path is missing.
    """
    found: dict[str, ExtraStage] = {}
    for name, given in options.items():
        if not _is_free(name):
            raise ConfigError(
                f"{_KEY}: the name {name!r} is taken or not valid",
                "Use letters, digits and _, and no name of a section.",
            )
        for key in given:
            if key not in _KNOWN:
                raise ConfigError(
                    f"{_KEY}.{name} has a key {key!r}, which is not known",
                    f"{nearest(key, _KNOWN)}Choose from {', '.join(_KNOWN)}; --{name}.model.KEY sets one of init_args.",
                )
        path, before = given.get("class_path"), given.get("before", STUDENT)
        if not isinstance(path, str) or not isinstance(before, str | None):
            raise ConfigError(
                f"{_KEY}.{name} needs a class_path, and before is the name of a stage or null",
                f"Write {name}: {{class_path: my_project.MyStage, before: {STUDENT}}}.",
            )
        begun = {key: given[of] for key, of in (("model", "init_args"), ("fit", "fit")) if given.get(of)}
        found[name] = ExtraStage(path, before, begun)
    return found


def in_order(extra: Mapping[str, ExtraStage]) -> dict[str, type[StageModule]]:
    """Return the classes of all stages by name, in the order of training.

    Args:
        extra: the extra stages; each may precede a built-in stage or an earlier extra stage.

    Raises:
        ConfigError: a class that is no stage, or an unknown `before`.
    """
    found = list(stage_classes().items())
    for name, stage in extra.items():
        names = [known for known, _ in found]
        if stage.before is not None and stage.before not in names:
            raise ConfigError(
                f"{_KEY}.{name}.before is {stage.before!r}",
                f"{nearest(stage.before, names)}Choose from {', '.join(names)}, or null for the end.",
            )
        at = len(found) if stage.before is None else names.index(stage.before)
        found.insert(at, (name, _class(name, stage.class_path)))
    return dict(found)


def _class(name: str, path: str) -> type[StageModule]:
    """Import the class of an extra stage and check that the pipeline can build it."""
    module, _, last = path.rpartition(".")
    where = f"{_KEY}.{name}.class_path {path}"
    try:
        kind = getattr(import_module(module), last)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{where} cannot be imported ({error})", "Correct it, e.g. my_project.MyStage.") from error
    if problem := next(_problems(kind), ""):
        raise ConfigError(f"{where} {problem}", f"{_EXPECTED}.")
    stage: type[StageModule] = kind
    return stage


def _problems(kind: Any) -> Iterator[str]:
    if not (isinstance(kind, type) and issubclass(kind, StageModule)):
        yield "is not a stage"
        return
    known = arguments_of(kind)
    needed = [*LINKED, *kind.takes, *(["modality"] if kind.per_modality else [])]
    if missing := [argument for argument in needed if argument not in known]:
        yield f"takes no argument {', '.join(missing)}"
    if kind.losses is StageModule.losses:
        yield "has no losses"
