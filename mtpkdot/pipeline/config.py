"""Parser of an experiment: the shared sections and one section per stage."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace  # type: ignore[attr-defined]

from mtpkdot import trust
from mtpkdot.data.base import BaseData
from mtpkdot.data.registry import DATA_SETS
from mtpkdot.errors import ConfigError, RunError, nearest
from mtpkdot.modules import StageModule
from mtpkdot.modules.teaching import AUTO, find_method
from mtpkdot.pipeline.complaints import keys, objection, one_line, reason, unknown_sections
from mtpkdot.pipeline.extra import extra_stages, in_order, names_in
from mtpkdot.pipeline.features import Precision
from mtpkdot.pipeline.protocol import Protocol, ProtocolName
from mtpkdot.pipeline.renamed import moving_loader, with_moved_options
from mtpkdot.pipeline.stages import BACKBONE, DOWNSTREAM, STUDENT, UPSTREAM, add_stage, stage_classes
from mtpkdot.pipeline.tracking import sweep_run
from mtpkdot.pipeline.trainer import BatchTrainer
from mtpkdot.shipped import with_located

# Set by the pipeline itself: per stage (`<stage>.fit`), or because a stage has a folder of its own.
_NOT_SHARED = {
    "max_epochs",
    "min_epochs",
    "max_steps",
    "min_steps",
    "gradient_clip_val",
    "accumulate_grad_batches",
    "default_root_dir",
    "fast_dev_run",
    "enable_checkpointing",
    "reload_dataloaders_every_n_epochs",
    "use_distributed_sampler",
}
# Imported so that a config can name them by their class alone.
_BUILT_IN = {each.data: each.data_class for each in DATA_SETS.values()}
PROTOCOL_DATA = {"clip_splits", "select_on_test", "train_on_all", "drop_last", "seed"}


@dataclass
class PipelineOptions:
    """Options of the pipeline: where runs are kept, and which stages are run.

    Args:
        root: folder of all runs; trained stages in `<root>/stages` are shared by them.
        name: folder of this run below root; null for the name of the config file and the hash of the run.
        stages: stages to train and evaluate: their names, with `backbone` for all of them or `backbone.<modality>` for
            one; `upstream` for all stages that the students of a study share, `downstream` for the student and the
            stages after it. The others are taken from earlier runs.
        extra_stages: stages of your own by name: `{class_path: my_project.MyStage, init_args: {...}, fit: {...},
            before: student}`. The class is a subclass of `mtpkdot.modules.StageModule`; it is trained before the stage
            that `before` names, by default the student; last for null. The stage has a section of its own like the
            others, which init_args and fit initialise: `--NAME.model.lr 1e-3`, `--NAME.fit.max_epochs 5`. An
            argument `NAME_ckpt` of a later stage gets its checkpoint, and so does any upstream argument with the value
            NAME.
        features: precision of the pass in which frozen encoders compute features of media: bfloat16, float32, or
            `auto` for bfloat16 where the processor computes with it. They are kept in `<root>/features` and read by
            every later stage and epoch; `off` computes them in every step instead.
        checkpoint_every: optimiser steps between checkpoints within an epoch: the most that a killed process loses;
            null for one checkpoint per epoch. A process that is asked to stop (SIGTERM, SIGUSR1) saves after its step
            anyway.
        compile: compile the encoders of media with torch.compile, in training and for the cached features. Every batch
            size is compiled separately, in training and in evaluation: half a minute each for a video network. Results
            change by rounding, also between a run and a resumed one. Measure whether it is faster: on processors it was
            not.
        code: what to do if the code of a stored stage has changed since it was trained (comments and docstrings do not
            count): `retrain` it, `warn`, or `ignore` the change. null warns for changes of an installed release, and
            retrains for changes in a working folder: the user's own code, or a checkout of this package.
        resume: continue a run of the same name and its interrupted stages; false moves the run aside and starts these
            stages anew.
    """

    root: str = "runs"
    name: str | None = None
    stages: list[str] = field(default_factory=lambda: [UPSTREAM, DOWNSTREAM])
    extra_stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    features: Precision = "auto"
    checkpoint_every: int | None = None
    compile: bool = False
    code: Literal["retrain", "warn", "ignore"] | None = None
    resume: bool = True


@dataclass
class Experiment:
    """Parsed config of an experiment.

    Attributes:
        config: the whole config as plain data, defaults included.
        data: the DataModule, not yet read.
        text: the config as YAML, from which it can be run again.
        source: name of the config file without suffix, or `run`.
        defaulted: modalities without a backbone section, which use the defaults.
        kinds: the classes of all stages by name, those of the user included, in the order of training.
    """

    config: dict[str, Any]
    data: BaseData
    text: str
    source: str
    defaulted: list[str] = field(default_factory=list)
    kinds: dict[str, type[StageModule]] = field(default_factory=lambda: dict(stage_classes()))


def parse(verb: str, argv: Sequence[str]) -> Experiment:
    """Parse an experiment's command line.

    Args:
        verb: for the usage line.
        argv: `--config FILE` and dotted overrides of any key.

    Returns:
        The experiment.

    Raises:
        ConfigError: unknown key, wrong type, unknown modality, missing file.
    """
    trust.grant(argv)
    return _parsed(verb, with_moved_options(with_located(argv)))


def parse_content(verb: str, content: Mapping[str, Any], argv: Sequence[str]) -> Experiment:
    """Parse an experiment that is given as nested mappings.

    Args:
        verb: for the usage line.
        content: the config, as in a file.
        argv: options that override it.

    Returns:
        The experiment.

    Raises:
        ConfigError: see `parse`; or a value cannot be written to a config file.
    """
    try:
        text = yaml.safe_dump(dict(content))
    except yaml.YAMLError as error:
        raise ConfigError(
            f"the config holds a value that YAML cannot represent ({one_line(str(error))})",
            "Write it as text, numbers, lists and mappings.",
        ) from error
    argv = [f"--config={text}", *with_moved_options(argv)]
    trust.grant(argv)
    return _parsed(verb, argv, {"the config": dict(content)})


def parse_run(verb: str, folder: Path, argv: Sequence[str], place: Sequence[str]) -> Experiment:
    """Parse the config of a run, which may come from somebody else; see `mtpkdot.trust`.

    Args:
        verb: for the usage line.
        folder: folder of the run.
        argv: options of the user.
        place: options that override all others.

    Returns:
        The experiment.

    Raises:
        RunError: the config is missing or damaged, or names classes that are not trusted.
        ConfigError: see `parse`.
    """
    trust.grant(argv)
    path = folder / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RunError(f"{path} cannot be read ({one_line(str(error))})", "Train the run again.") from error
    if not isinstance(content, dict) or not isinstance(content.get("data"), dict) or "config" in content:
        raise RunError(f"{path} is not the config of a run", "Train the run again.")
    trust.check(content, path)
    # Passed by content and not by path, since jsonargparse would look for modules in the path's folder.
    return _parsed(verb, [f"--config={text}", *with_moved_options(argv), *place])


def _parsed(verb: str, argv: Sequence[str], contents: Mapping[str, Any] | None = None) -> Experiment:
    """Parse a command line; `contents` maps the name of a config in error messages to its text."""
    if sweep_run() is not None:
        # A sweep agent writes values in Python's spelling; this is the one that YAML does not know.
        argv = [f"{word[:-4]}null" if re.fullmatch(r"--[^=]+=None", word) else word for word in argv]
    words = [argument.partition("=")[0] for argument in argv]
    if "--config" not in words and not any(word.startswith(("--data", "-h", "--help")) for word in words):
        raise ConfigError(
            "no experiment is named",
            f"Call `mtpkdot {verb} --config FILE`, e.g. with configs/planted.yaml, which needs no data.",
        )
    # The backbones' keys are the data's modalities, so the data section is read first.
    first = [argument for argument in argv if not argument.startswith("--print_config")]
    parser = _parser(verb, None, _unread(first))
    parsed = _run(parser, first)
    extra = extra_stages(parsed.pipeline.extra_stages)
    data = _instantiate_data(parser, parsed)
    data.check_modalities()
    paths = [Path(str(path)) for path in parsed.get("config") or [] if path]
    files = {str(path): yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths} | dict(contents or {})
    # Checked per file, because a section of a second file replaces the same section of the first.
    backbones = [parsed.get(BACKBONE), *(content.get(BACKBONE) for content in files.values() if content)]
    named = {str(key).split(".")[0] for section in filter(None, backbones) for key in section}
    for name in sorted(named - set(data.modality_names)):
        meant = nearest(name, data.modality_names)
        raise ConfigError(
            f"the {BACKBONE} section names the modality {name!r}, the data have {', '.join(data.modality_names)}",
            f"{meant}Correct the name, or add the modality to the data section.",
        )
    found = in_order(extra)
    begun = {name: stage.sections(found[name], data.modality_names) for name, stage in extra.items()}
    # First the sections of extra stages; files and options override them.
    words = [*([f"--config={yaml.safe_dump(begun)}"] if extra else []), *argv]
    parser, namespace = _all_stages(
        verb, words, kinds=found, modalities=data.modality_names, others=_others(parsed, stage_classes())
    )
    known = keys(parser)
    for path, content in files.items():
        for key in unknown_sections(content, known):
            raise ConfigError(
                f"{path} has a section {key!r}, which is not a key",
                f"{nearest(key, _prefixes(known))}Run with --print_config to see all keys.",
            )
    if verb == "fit" and (trial := sweep_run()) is not None:
        # Trials that run side by side share trained stages, and nothing else.
        namespace.pipeline.name = trial
    config: dict[str, Any] = namespace.clone(with_meta=False).as_dict()
    source = Path(str(parsed.config[0])).stem if parsed.get("config") and parsed.config[0] else "run"
    del config["config"]
    try:
        text = parser.dump(namespace, skip_unset=False, format="yaml")
    except ValueError as error:
        raise ConfigError(
            f"the config cannot be saved, so its run could not be repeated: {reason(str(error))}",
            "Leave that class out, or set its arguments; for a limit of time there is trainer.max_time.",
        ) from error
    protocol = config["protocol"]
    config["protocol"] = Protocol(**protocol) if isinstance(protocol, dict) else protocol
    defaulted = [name for name in data.modality_names if name not in named]
    return Experiment(config, data, text=text, source=source, defaulted=defaulted, kinds=found)


def parse_data(verb: str, argv: Sequence[str]) -> BaseData:
    """Return the DataModule of an experiment's command line, not yet read; other sections are only parsed.

    Raises:
        ConfigError: see `parse`.
    """
    trust.grant(argv)
    words = with_moved_options(with_located(argv))
    parser = _parser(verb, None, _unread(words))
    data = _instantiate_data(parser, _run(parser, words))
    data.check_modalities()
    return data


def _all_stages(
    verb: str,
    argv: list[str],
    kinds: Mapping[str, type[StageModule]],
    modalities: Sequence[str],
    others: frozenset[str],
) -> tuple[ArgumentParser, Namespace]:
    """Parse the sections of all stages.

    Args:
        verb: for the usage line.
        argv: the command line, with the initial values of extra stages.
        kinds: classes of all stages by name.
        modalities: names in the order of the data.
        others: see `_parser`, of the built-in stages.

    Returns:
        The parser and the parsed config.
    """
    stages, names = tuple(kinds.items()), tuple(modalities)
    parser = _parser(verb, names, stages, others)
    namespace = _run(parser, argv)
    extra = {name: kind for name, kind in stages if name not in stage_classes()}
    if own := _others(namespace, extra, names):
        # Known only now, because the sections of extra stages were not parsed before.
        parser = _parser(verb, names, stages, others | own)
        namespace = _run(parser, argv)
    _check_methods(namespace, kinds)
    return parser, namespace


def _check_methods(parsed: Namespace, kinds: Mapping[str, type[StageModule]]) -> None:
    """Raise an error if a stage names a distillation method that there is not."""
    for name, kind in kinds.items():
        method = None if kind.per_modality else kind.method_of(parsed[name].model)
        if method not in (None, AUTO):
            find_method(method, f"{name}.model.method")


def _others(
    parsed: Namespace, kinds: Mapping[str, type[StageModule]], modalities: Sequence[str] = ()
) -> frozenset[str]:
    """Return the keys at which a parsed config names another class than the built-in one.

    Args:
        parsed: the config, in which the sections of `kinds` are parsed.
        kinds: classes of stages by name.
        modalities: names of the modalities, for stages per modality.
    """
    found = set()
    for name, module in kinds.items():
        places = [f"{section}.model" for section in module.sections(name, modalities)]
        for place, (key, kind) in product(places, module.built_in.items()):
            value = parsed.get(f"{place}.{key}")
            path = str(value.get("class_path", "")) if isinstance(value, Namespace) else ""
            if path.rpartition(".")[2] != kind.__name__ or not path.startswith("mtpkdot."):
                found.add(f"{place}.{key}")
    return frozenset(found)


def _unread(argv: Sequence[str]) -> tuple[tuple[str, type[StageModule] | None], ...]:
    """Return the stages for `_parser` before the config is read: extra stages have a name and no class yet."""
    return (*stage_classes().items(), *((name, None) for name in names_in(argv)))


@cache
def _parser(
    verb: str,
    modalities: tuple[str, ...] | None,
    stages: tuple[tuple[str, type[StageModule] | None], ...],
    others: frozenset[str] = frozenset(),
) -> ArgumentParser:
    """Return the parser, which is cached because building it is slow.

    Args:
        verb: for the usage line.
        modalities: names in the order of the data; None leaves the sections of stages per modality unparsed.
        stages: names and classes of all stages; a class of None leaves the section unparsed.
        others: keys at which the config names another class than the built-in one, to which the built-in defaults do
            not apply.
    """
    parser = ArgumentParser(
        prog=f"mtpkdot {verb}",
        description=_HELP,
        allow_abbrev=False,
        exit_on_error=False,
        parser_mode=moving_loader(),
    )
    parser.add_argument("--config", action=ActionConfigFile, help="experiment file, e.g. configs/demo.yaml")
    for name in ("seed_everything", "protocol", "data", "trainer"):
        add_section(parser, name)
    for name, module in stages:
        if module is None or (module.per_modality and modalities is None):
            parser.add_argument(f"--{name}", type=dict[str, Any], default={})
        else:
            for section in module.sections(name, modalities or ()):
                add_stage(parser, module, section, others)
    add_section(parser, "pipeline")
    return parser


def add_section(parser: ArgumentParser, name: str) -> None:
    """Add the keys of a shared section to a parser.

    Args:
        parser: the parser.
        name: name of the section.
    """
    if name == "seed_everything":
        parser.add_argument(
            "--seed_everything", type=int, default=0, help="seed of weights, order of samples and dropout"
        )
    elif name == "protocol":
        parser.add_argument(
            "--protocol", type=ProtocolName | Protocol, default="clean", help="clean, released or switches"
        )
    elif name == "data":
        parser.add_subclass_arguments(BaseData, "data", skip=PROTOCOL_DATA, required=True)
    elif name == "trainer":
        parser.add_class_arguments(BatchTrainer, "trainer", skip=_NOT_SHARED, instantiate=False, fail_untyped=False)
        parser.set_defaults(
            {"trainer.enable_model_summary": False, "trainer.devices": 1, "trainer.deterministic": True}
        )
    else:
        parser.add_argument("--pipeline", type=PipelineOptions, default=PipelineOptions())


def _prefixes(known: Sequence[str]) -> set[str]:
    """Return the sections of dotted keys."""
    parts = [key.split(".") for key in known]
    return {".".join(part[:size]) for part in parts for size in range(1, len(part) + 1)}


_HELP = (
    f"Every key of the config can be overridden: --{STUDENT}.model.lr 1e-3, --{BACKBONE}.<modality>.fit.max_epochs 5."
)


def _run(parser: ArgumentParser, argv: list[str]) -> Namespace:
    try:
        return parser.parse_args(argv)
    except ArgumentError as error:
        message = str(error)
        if "Problems parsing config" in message:
            raise ConfigError(f"{_unreadable(argv)} is not valid YAML ({one_line(message)})", "Correct it.") from error
        problem, guess = objection(message, parser)
        raise ConfigError(problem, f"{guess}Run with --print_config to see all keys.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{_unreadable(argv)} is not text in UTF-8 ({error})", "Save it as UTF-8.") from error
    finally:
        vars(parser).pop("print_config", None)  # must not apply to the next command line


def _unreadable(argv: Sequence[str]) -> str:
    """Return the file among the arguments that is not YAML in UTF-8; empty if there is none."""
    for word in argv:
        path = Path(word.rpartition("=")[2])
        try:
            yaml.safe_load(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, yaml.YAMLError):
            return str(path)
        except OSError:
            continue
    return "a file"


def _instantiate_data(parser: ArgumentParser, namespace: Namespace) -> BaseData:
    try:
        # Namespace has no annotations.
        data = parser.instantiate(Namespace(data=namespace.data)).data  # type: ignore[no-untyped-call]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the data section cannot be used: {reason(str(error))}", "Correct it.") from error
    assert isinstance(data, BaseData)
    return data
