"""Identity of a stage: everything that decides its result, as flat keys with resolved values.

A stage is found by the values that differ from their defaults, so that a new option does not invalidate stored stages.
All values are recorded: if a value differs although neither run has chosen it, a default has changed, and the stage is
trained anew. The same holds if the code that the stage depends on has changed, unless `pipeline.code` says otherwise.
"""

import hashlib
import inspect
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from lightning.pytorch import Trainer

from mtpkdot import HOMES
from mtpkdot.errors import ConfigError
from mtpkdot.modules.teaching import METHODS, find_method
from mtpkdot.pipeline.config import Experiment, PipelineOptions
from mtpkdot.pipeline.stages import BACKBONE, BUILT_IN, Stage, StageFit
from mtpkdot.pipeline.store import digest, flatten
from mtpkdot.sources import Sources, is_released, sources

Policy = Literal["retrain", "warn", "ignore"] | None
Parameters = dict[str, tuple[Any, Any]]  # Type hint and default by name.

# Settings of the Trainer that do not change the result.
NEUTRAL = {
    "accelerator",
    "strategy",
    "devices",
    "num_nodes",
    "logger",
    "enable_progress_bar",
    "enable_model_summary",
    "log_every_n_steps",
    "profiler",
    "detect_anomaly",
    "barebones",
    "model_registry",
    "deterministic",
    "benchmark",
    "inference_mode",
    "num_sanity_val_steps",
}
# Keys of the machine, not of the model: an evaluation on another machine may have other values.
MACHINE = {"trainer.precision", "trainer.plugins", "features", "pipeline.compile"}
# Tables of all methods: a student depends only on the entry of its own method, which is looked up.
_TABLES = {"mtpkdot.losses.rivals.RIVALS", "mtpkdot.modules.teaching.methods.METHODS"}
# Parts of the pipeline that decide a training; listed because its other imports only start, report or store one.
_TRAINING = [
    ("mtpkdot.pipeline.training", "StageCLI"),
    ("mtpkdot.pipeline.training", "train"),
    ("mtpkdot.pipeline.callbacks", "Best"),
    ("mtpkdot.pipeline.callbacks", "Built"),
    ("mtpkdot.pipeline.callbacks", "StepSeed"),
    ("mtpkdot.pipeline.callbacks", "ResumableEarlyStopping"),
    ("mtpkdot.pipeline.features", "FeaturesAtHand"),
    ("mtpkdot.pipeline.trainer", "BatchTrainer"),
    ("mtpkdot.metrics.collections", "best_mode"),
]
_ENCODING = [
    ("mtpkdot.pipeline.features", "FeatureCache"),
    ("mtpkdot.pipeline.features", "encode"),
    ("mtpkdot.pipeline.compiling", None),
]


@dataclass(frozen=True)
class Identity:
    """Everything that decides a stage's result.

    Attributes:
        keys: resolved values by dotted key.
        chosen: keys whose values differ from their defaults, or that have no default.
        files: digest of each source file that the stage depends on, see `mtpkdot.sources`.
    """

    keys: dict[str, Any]
    chosen: frozenset[str]
    files: dict[str, str]

    @cached_property
    def hash(self) -> str:
        """Digest of the chosen keys: 12 hexadecimal digits."""
        return digest({key: self.keys[key] for key in self.chosen})[:12]

    @cached_property
    def name(self) -> str:
        """Hash and digest of all values and sources: folder of a stage that is trained now."""
        return f"{self.hash}-{digest({'keys': self.keys, 'files': self.files})[:8]}"

    @property
    def record(self) -> dict[str, Any]:
        """Plain data for `stage.json` and `run.json`."""
        return {"keys": self.keys, "chosen": sorted(self.chosen), "sources": self.files}


@dataclass(frozen=True)
class Change:
    """A key whose value differs between two records.

    Attributes:
        key: name of the key.
        before: earlier value.
        now: present value.
        by_default: True if neither value was chosen.
    """

    key: str
    before: Any
    now: Any
    by_default: bool

    def __str__(self) -> str:
        """Return the change in words."""
        default = " by default" if self.by_default else ""
        return f"{self.key} was {self.before!r}{default} and is {self.now!r}"


def changed(
    old: Mapping[str, Any], new: Mapping[str, Any], machine: bool = True, without: Collection[str] = ()
) -> Change | None:
    """Return the first key whose value differs between two records.

    A key that only one of them has counts as different if its value was chosen.

    Args:
        old: earlier `Identity.record`.
        new: later one, whose order decides which key is first.
        machine: False ignores the keys of the machine: precision, and how features are computed.
        without: further keys to ignore.
    """
    chosen, left_out = {*old["chosen"], *new["chosen"]}, {*without, *(() if machine else MACHINE)}
    before, now = old["keys"], new["keys"]
    for key in [*now, *(key for key in before if key not in now)]:
        known = key in before and key in now
        if key not in left_out and (known or key in chosen) and _plain(before.get(key)) != _plain(now.get(key)):
            return Change(key, before.get(key), now.get(key), key not in chosen)
    return None


def changed_files(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the source files whose digests differ, or that only one of two records names."""
    return sorted(file for file in {*old, *new} if old.get(file) != new.get(file))


def trains_anew(policy: Policy, files: Collection[str]) -> bool:
    """Return whether a stage is trained anew for such changes of its sources.

    By default it is if one of the files lies in a working folder, and not for changes of a release.
    """
    if policy is None:
        return any(not is_released(file) for file in files)
    return policy == "retrain" and bool(files)


def describe_changes(files: Collection[str]) -> str:
    """Return a short phrase that names the changed source files."""
    first, more = sorted(files)[:3], len(files) - 3
    return f"{', '.join(first)}{f' and {more} more files' if more > 0 else ''} changed"


def identify(
    experiment: Experiment,
    stage: Stage,
    model: Mapping[str, Any],
    arguments: Mapping[str, Any],
    upstream: Mapping[str, str],
) -> Identity:
    """Collect everything that decides a stage's result.

    Args:
        experiment: the parsed config.
        stage: the stage.
        model: arguments of its module without upstream checkpoints.
        arguments: arguments of the data.
        upstream: hash of the stage or file of every upstream argument.
    """
    config = experiment.config
    trainer = {key: value for key, value in config["trainer"].items() if key not in NEUTRAL}
    method = stage.module.method_of(model)
    raw = stage.module.reads_raw
    alone = [*_TRAINING, *([] if raw else _ENCODING)]
    found = _sources(experiment, [stage.module, *_classes([model, trainer])], method, alone)
    keys = _Keys()
    if stage.kind not in BUILT_IN:
        # The sources alone do not show it: those of an installed package are not followed, and others may be ignored.
        keys.enter(f"{stage.name}.class_path", f"{stage.module.__module__}.{stage.module.__qualname__}")
    keys.section(f"{stage.name}.model", model, parameters(stage.module))
    keys.section(f"{stage.name}.fit", stage.section(config)["fit"], parameters(StageFit))
    if method is not None:
        for name, value in flatten(_of_method(method)).items():
            keys.enter(f"{stage.name}.method.{name}", value, 0 if name == "revision" else value)
    _enter_data(keys, experiment, {k: v for k, v in arguments.items() if not (raw and k == "views")})
    options = parameters(PipelineOptions)
    if not raw:
        keys.enter("features", config["pipeline"]["features"], options["features"][1])
    keys.section("trainer", trainer, parameters(Trainer))
    keys.enter("seed_everything", config["seed_everything"])
    keys.enter("pipeline.compile", config["pipeline"]["compile"], options["compile"][1])
    for name, value in found.revisions.items():
        keys.enter(f"revision.{name}", value)
    for argument, value in upstream.items():
        keys.enter(f"upstream.{argument}", value)
    for path, value in _weight_files(model).items():
        keys.enter(f"weights.{path}", value)
    return Identity(keys.values, frozenset(keys.chosen), found.files)


def data_keys(experiment: Experiment) -> dict[str, Any]:
    """Return everything that decides the data an encoder reads, for any stage, as plain data."""
    passed = {"batch_size", "num_workers", "views", "split", "seed", "labelled_seed"}
    arguments = experiment.config["data"].get("init_args", {})
    keys = _Keys()
    _enter_data(keys, experiment, {key: value for key, value in arguments.items() if key not in passed})
    found = _sources(experiment, [], None, _ENCODING)
    return {**_copied({key: keys.values[key] for key in sorted(keys.chosen)}), "code": found.files | found.revisions}


def encoder_keys(experiment: Experiment) -> dict[str, Any]:
    """Return everything that decides the encoder of each modality beside its weights, as plain data."""
    found: dict[str, Any] = {}
    for name, section in experiment.config[BACKBONE].items():
        keys = _Keys()
        keys.enter("encoder", section["model"]["encoder"], None)
        code = sources(["mtpkdot.models.backbone.Backbone", *_classes(section["model"]["encoder"])])
        found[name] = {**_copied({key: keys.values[key] for key in sorted(keys.chosen)}), "code": code.files}
    return found


def method_digest(method: str, policy: Policy) -> str:
    """Return a digest of the code and settings of a student's method; empty for a method outside this package."""
    if method not in METHODS:
        return ""
    files = sources(_parts_of(method)).files
    return digest({**_of_method(method), "sources": files if trains_anew(policy, files) else None})


def _of_method(name: str) -> dict[str, Any]:
    """Return the components of a method as plain data."""
    method = find_method(name)
    teachers = None if method.teachers is None else method.teachers.__name__
    return {"weights": dict(method.weights), "teachers": teachers, "revision": method.revision}


def _parts_of(name: str) -> list[Any]:
    """Return the classes that belong to a method alone, and the place of a method of the user."""
    method, own = find_method(name), [] if name in METHODS else [name]
    return [part for part in (method.teachers, method.rival, *own) if part is not None]


def digest_file(path: str, key: str) -> str:
    """Return the digest of a file that a key of the config names.

    Raises:
        ConfigError: the file does not exist.
    """
    if not Path(path).is_file():
        raise ConfigError(f"{key} names {path}, which does not exist", "Correct the path.")
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def parameters(called: Any) -> Parameters:
    """Return type hint and default of every argument of a class or function, base classes included.

    An argument without default has `MISSING`.
    """
    if is_dataclass(called) and isinstance(called, type):
        hints = _hints(called)
        return {
            f.name: (hints.get(f.name, f.type), f.default_factory() if f.default_factory is not MISSING else f.default)
            for f in fields(called)
        }
    found: Parameters = {}
    for function in _callables(called):
        hints, more = _hints(function), False
        for argument in inspect.signature(function).parameters.values():
            more |= argument.kind is argument.VAR_KEYWORD
            if argument.kind not in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL):
                default = MISSING if argument.default is argument.empty else argument.default
                found.setdefault(argument.name, (hints.get(argument.name, argument.annotation), default))
        if not more:
            break
    return found


class _Keys:
    """Builder of the flat keys of an identity."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.chosen: set[str] = set()

    def section(self, prefix: str, section: Mapping[str, Any], known: Parameters, default: Any = None) -> None:
        """Add arguments of a class or function.

        Args:
            prefix: prefix of their keys.
            section: values of the arguments.
            known: parameters of the class or function.
            default: mapping that replaces their own defaults.
        """
        for name, value in section.items():
            hint, own = known.get(name, (Any, MISSING))
            self.enter(f"{prefix}.{name}", value, default.get(name, own) if isinstance(default, Mapping) else own, hint)

    def enter(self, key: str, value: Any, default: Any = MISSING, hint: Any = Any) -> None:
        """Add a value; a nested one by its parts."""
        default = asdict(default) if is_dataclass(default) and not isinstance(default, type) else default
        if isinstance(value, Mapping) and isinstance(value.get("class_path"), str):
            self._leaf(f"{key}.class_path", _known_as(value["class_path"]), MISSING)
            for name, item in value.items():
                if name == "init_args":
                    self.section(f"{key}.{name}", item, parameters(_imported(value["class_path"])))
                elif name != "class_path":
                    self.enter(f"{key}.{name}", item)
        elif isinstance(value, Mapping) and (kind := _dataclass(hint)) is not None:
            if not isinstance(default, Mapping):
                self._leaf(key, kind.__name__, MISSING)  # an object where the default is null
            self.section(key, value, parameters(kind), default)
        elif isinstance(value, Mapping) and value:
            inner = next((get_args(part)[1] for part in _parts(hint) if len(get_args(part)) == 2), Any)
            for name, item in value.items():
                own = default.get(name, MISSING) if isinstance(default, Mapping) else MISSING
                self.enter(f"{key}.{name}", item, own, inner)
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            inner = next((get_args(part)[0] for part in _parts(hint) if get_args(part)), Any)
            for number, item in enumerate(value):
                self.enter(f"{key}.{number}", item, MISSING, inner)
        else:
            self._leaf(key, value, default)

    def _leaf(self, key: str, value: Any, default: Any) -> None:
        self.values[key] = value
        if default is MISSING or _plain(value) != _plain(default):
            self.chosen.add(key)


def _enter_data(keys: _Keys, experiment: Experiment, arguments: Mapping[str, Any]) -> None:
    data, class_path = experiment.data, experiment.config["data"]["class_path"]
    keys.enter("data.class_path", _known_as(class_path))
    keys.enter("data.modalities", data.modality_names)
    hashed = {key: value for key, value in arguments.items() if key not in data.unhashed}
    keys.section("data.init_args", hashed, parameters(type(data)))
    for role, contents in data.contents().items():
        keys.enter(f"data.contents.{role}", contents)


def _sources(
    experiment: Experiment, roots: list[Any], method: str | None, alone: Iterable[tuple[str, str | None]]
) -> Sources:
    roots = [type(experiment.data), *_classes(experiment.config["data"]), *roots]
    if method is not None:
        roots += _parts_of(method)
    return sources(roots, experiment.data.covered_by_contents, _TABLES, alone)


def _classes(section: Any) -> Iterator[str]:
    """Yield every class that a section names."""
    if isinstance(section, Mapping):
        if isinstance(section.get("class_path"), str):
            yield section["class_path"]
        section = list(section.values())
    for value in section if isinstance(section, list | tuple) else ():
        yield from _classes(value)


def _weight_files(section: Any) -> dict[str, str]:
    """Return the digest of every local file that a `weights` argument names, since the path alone does not decide."""
    found: dict[str, str] = {}
    for key, value in section.items() if isinstance(section, Mapping) else ():
        if key == "weights" and isinstance(value, str) and Path(value).is_file():
            found[value] = digest_file(value, key)
        found |= _weight_files(value)
    return found


def _known_as(class_path: str) -> str:
    """Return the canonical path of a class, the same whether it is named by its package or by `mtpkdot` itself."""
    package, _, name = class_path.rpartition(".")
    home = HOMES.get(name) if package == "mtpkdot" else None
    return f"{package}.{home}.{name}" if home else class_path


def _imported(path: str) -> Any:
    """Import the object at a dotted class_path."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module or "." not in module:
            raise
        return getattr(_imported(module), name)  # a method of a class


def _callables(called: Any) -> Iterator[Any]:
    """Yield the callables that take the arguments of a class, its own `__init__` first; a function yields itself."""
    if not isinstance(called, type):
        yield called
        return
    for above in called.__mro__[:-1]:
        if "__init__" in vars(above):
            yield vars(above)["__init__"]


def _hints(called: Any) -> dict[str, Any]:
    try:
        return get_type_hints(called, include_extras=True)
    except (NameError, TypeError):
        return {}  # Names imported for type checkers only: their annotations are no dataclasses that a config builds.


def _parts(hint: Any) -> Iterator[Any]:
    """Yield the members of a union, or the hint itself."""
    origin = get_origin(hint)
    if origin in (Union, UnionType, Annotated):
        for part in get_args(hint):
            yield from _parts(part)
    else:
        yield hint


def _dataclass(hint: Any) -> type | None:
    return next((part for part in _parts(hint) if isinstance(part, type) and is_dataclass(part)), None)


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _copied(value: Any) -> Any:
    return json.loads(_plain(value))
