"""Plans of studies, from a command line or the file of an ablation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from mtpkdot.data.base import BaseData
from mtpkdot.data.splits import Split
from mtpkdot.errors import ConfigError
from mtpkdot.pipeline.basis import founded
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.protocol import Protocol
from mtpkdot.pipeline.renamed import with_moved_options
from mtpkdot.pipeline.stages import STUDENT, UPSTREAM, is_model_name, plan
from mtpkdot.pipeline.store import SHARED
from mtpkdot.pipeline.study import BASE, LABELLED_SEED, ORACLE, START, Overrides, Study, option
from mtpkdot.shipped import located

_METHODS = ("none", "pkdot", "mtpkdot")
_METHOD = f"{STUDENT}.model.method"
_OF_CELLS = ("pipeline.name", "pipeline.stages")  # Set by every cell itself.


@dataclass(frozen=True)
class Plan:
    """Request for a study; None or empty values are taken from the ablation's file, or are defaults.

    Attributes:
        config: file of the experiment.
        ablation: file of settings and variants.
        methods: methods of the students, instead of the variants of the ablation.
        folds: see `folds_of`.
        seeds: the older name of `draws`.
        labelled: values of `data.labelled_subjects`.
        protocols: names of protocols or switches.
        name: folder of the study.
        overrides: options of `mtpkdot fit` for all cells.
        draws: number of draws (choices of the labelled people, see `mtpkdot.pipeline.study`), counted from the config's
            own seed.
        starts: number of starts of each draw.
        oracle: whether to add the bound `oracle` to the variants.
    """

    config: Path | None
    ablation: Path | None
    methods: Sequence[str]
    folds: str | None
    seeds: int | None
    labelled: Sequence[str]
    protocols: Sequence[str]
    name: str | None
    overrides: Sequence[str]
    draws: int | None = None
    starts: int | None = None
    oracle: bool = False

    def study(self) -> Study:
        """Return the study, with its basis.

        Raises:
            UserError: the command, the files or the data cannot be used.
        """
        file: dict[str, Any] = {} if self.ablation is None else read_study_file(self.ablation)
        config = self.config or file.get("config")
        if config is None:
            raise ConfigError("no experiment is named", "Name it with --config FILE, or an ablation's with --ablation.")
        shared = file.get("set", {})
        arguments = [f"--config={config}", *self.overrides]
        of_file = [option(key, value, 0) for key, value in shared.items()]
        experiment = parse("crossval", [arguments[0], *of_file, *self.overrides])
        draws, starts = self._repetitions(file)
        first = experiment.config["seed_everything"]
        folds = self.folds or str(file.get("folds", "given"))
        every = plan(
            experiment.data.modality_names, experiment.data.prevalent, experiment.config, found=experiment.kinds
        )
        study = Study(
            self.name or (Path(str(config)).stem + "-crossval" if self.ablation is None else self.ablation.stem),
            tuple(arguments),
            settings=_combined(file.get("settings") or {"all": {}}, settings_of(self.labelled, self.protocols)),
            variants=self._variants(file),
            folds=folds_of(folds, experiment.data),
            seeds=tuple(range(first, first + draws)),
            root=experiment.config["pipeline"]["root"],
            resample=file.get("resample", "subject"),
            shared=shared,
            starts=starts,
            downstream=tuple(dict.fromkeys(stage.kind for stage in every if not stage.shared)),
        )
        if draws * starts > 1:
            _check_labelled_seed(study, experiment.config["data"].get("init_args", {}))
        for name in (study.name, *study.settings, *study.variants):
            check_name(name, "the study")
        said = {f"--labelled {self.labelled[0]}": "data.labelled_subjects"} if self.labelled else {}
        said |= {f"--protocols {self.protocols[0]}": "protocol"} if self.protocols else {}
        _check_collisions(said, [*file.get("settings", {}).items(), *study.variants.items()])
        said = {word: word[2:].partition("=")[0] for word in self.overrides if word.startswith("--")}
        own = [("the study", dict.fromkeys(_OF_CELLS)), *(("a fold", fold) for fold in study.folds)]
        _check_collisions(said, [*study.settings.items(), *study.variants.items(), *own])
        for name in study.variants:
            if name == BASE or is_model_name(name, experiment.kinds):
                raise ConfigError(
                    f"a variant is named {name}, which the tables use for another model", "Choose another name."
                )
        return founded(study)

    def _variants(self, file: Mapping[str, Any]) -> dict[str, Overrides]:
        """Return the students: the named methods, those of the file, or the papers'; and the oracle if it is wanted."""
        variants: dict[str, Overrides] = _students(self.methods) or file.get("variants") or _students(_METHODS)
        if not self.oracle or any(overrides.get(_METHOD) == ORACLE for overrides in variants.values()):
            return variants
        if ORACLE in variants:
            raise ConfigError(f"a variant is named {ORACLE} and is another method", "Name it otherwise.")
        return {**variants, ORACLE: {_METHOD: ORACLE}}

    def _repetitions(self, file: Mapping[str, Any]) -> tuple[int, int]:
        """Return the numbers of draws and of starts of each; the command line has precedence over the file."""
        if self.seeds is not None and self.draws is not None:
            raise _twice("--seeds", "--draws")
        said = self.seeds if self.draws is None else self.draws
        draws: int = said if said is not None else file.get("draws", file.get("seeds", 1))
        starts: int = self.starts if self.starts is not None else file.get("starts", 1)
        for name, count in (("seeds" if self.seeds is not None else "draws", draws), ("starts", starts)):
            if not 1 <= count <= START:
                raise ConfigError(f"{name} is {count}", f"Set it to a number from 1 to {START}.")
        return draws, starts


def _twice(older: str, newer: str) -> ConfigError:
    return ConfigError(
        f"{older} and {newer} both number the choices of the labelled people",
        f"Leave {older} out: {newer} N with starts 1 is what {older} N is.",
    )


def _check_labelled_seed(study: Study, arguments: Mapping[str, Any]) -> None:
    """Raise an error if the choice of the labelled people is fixed, or cannot be fixed for several starts.

    Args:
        study: the study.
        arguments: arguments of the data.
    """
    key = LABELLED_SEED.removeprefix("data.")
    own = [study.shared, *study.settings.values(), *study.variants.values(), *study.folds]
    if arguments.get(key) is not None or LABELLED_SEED in {_plain(name) for overrides in own for name in overrides}:
        raise ConfigError(
            f"{LABELLED_SEED} is set, but every draw of a study chooses other labelled people",
            "Leave it out, and choose the numbers with --draws and --starts.",
        )
    if study.starts > 1 and key not in arguments:
        raise ConfigError(
            f"the data have no argument {key}, so that no second start can have the labelled people of the first",
            "Let the class pass **options on to BaseData, or leave --starts out.",
        )


def _students(methods: Sequence[str]) -> dict[str, Overrides]:
    """Return a variant per method; one of the user, `my_project.MY_METHOD`, is named by its last part."""
    found: dict[str, Overrides] = {}
    for method in methods:
        name = method.rpartition(".")[2]
        if name in found:
            raise ConfigError(f"--methods names two methods {name}", "Give them different names.")
        found[name] = {_METHOD: method}
    return found


def _check_collisions(said: Mapping[str, str], own: Sequence[tuple[str, Overrides]]) -> None:
    """Raise an error if the command line sets a key that a setting, a variant or the study sets itself.

    Args:
        said: key of each word of the command line.
        own: overrides by their owner.
    """
    for word, key in said.items():
        key = _plain(key)
        for name, overrides in own:
            for other in map(_plain, overrides):
                if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."):
                    raise ConfigError(f"{word} has no effect on {name}, which sets {other} itself", "Leave it out.")


def _plain(key: str) -> str:
    """Return the present name of a key, in one of its spellings."""
    return with_moved_options([f"--{key}"])[0][2:].replace("data.init_args.", "data.")


def _combined(first: dict[str, Overrides], second: dict[str, Overrides]) -> dict[str, Overrides]:
    """Return every combination of settings; names without meaning are left out."""
    combined: dict[str, Overrides] = {}
    for name, overrides in first.items():
        for other, more in second.items():
            names = [part for part in (name, other) if part != "all"]
            combined["-".join(names) or "all"] = {**overrides, **more}
    return combined


def read_study_file(path: Path) -> dict[str, Any]:
    """Read and check the file of an ablation.

    Keys: `config` (relative to the file), `settings` and `variants` (name -> overrides), `set` (overrides of all
    cells), `folds`, `draws` (older: `seeds`), `starts`, `resample`.

    Raises:
        ConfigError: the file is missing, a key is unknown, or a name cannot be that of a folder.
    """
    file = Path(located(str(path)))
    if not file.is_file():
        raise ConfigError(f"{path} does not exist", "Name a file of configs/ablations, or write one.")
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML ({' '.join(str(error).split())})", "Correct it.") from error
    known = {"config", "settings", "variants", "set", "folds", "seeds", "draws", "starts", "resample"}
    if not isinstance(content, dict) or not content.get("variants"):
        raise ConfigError(f"{path} has no variants", "Give it a mapping `variants` of names to overrides.")
    if unknown := sorted(str(key) for key in content if key not in known):
        raise ConfigError(f"{path}: unknown key {unknown[0]!r}", f"Choose from {', '.join(sorted(known))}.")
    for key in ("settings", "variants"):
        named = content.get(key) or {}
        if not isinstance(named, Mapping):
            raise ConfigError(f"{path}: {key} is not a mapping of names to overrides", "Correct it.")
        for name, overrides in named.items():
            check_name(str(name), f"{path}, {key}")
            if not isinstance(overrides, Mapping):
                raise ConfigError(f"{path}: {key}.{name} is not a mapping of keys to values", "Correct it, e.g. {}.")
        content[key] = {str(name): dict(overrides) for name, overrides in named.items()}
    content["set"] = content.get("set") or {}
    if not isinstance(content["set"], Mapping):
        raise ConfigError(f"{path}: set is not a mapping of keys to values", "Correct it.")
    if {"seeds", "draws"} <= content.keys():
        raise _twice(f"{path}: seeds", "draws")
    for key in ("seeds", "draws", "starts"):
        if type(content.get(key, 1)) is not int:
            raise ConfigError(f"{path}: {key} is {content[key]!r}", "Set it to a number from 1.")
    if content.get("resample", "subject") not in ("subject", "seed"):
        raise ConfigError(f"{path}: resample is {content['resample']!r}", "Choose subject or seed.")
    if isinstance(content.get("config"), str):
        # Beside the name that the user gave, not beside a shipped file, whose place is no part of a study.
        content["config"] = str(path.parent / content["config"])
    return content


def check_name(name: str, where: str) -> None:
    """Raise an error if a name cannot be that of a folder of the study."""
    if name in SHARED:
        raise ConfigError(f"{where}: {name} is the folder of {SHARED[name]}", "Choose another name.")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name) or name.startswith(UPSTREAM):
        raise ConfigError(
            f"{where}: the name {name!r} cannot be used", f"Use letters, digits and _.+-, and not {UPSTREAM}."
        )


def settings_of(labelled: Sequence[str], protocols: Sequence[str]) -> dict[str, Overrides]:
    """Return the settings for all combinations of labelled subjects and protocols; one without overrides if none.

    Raises:
        ConfigError: labelled subjects are neither `all` nor a number, or a protocol is unknown.
    """
    for count in labelled:
        if count != "all" and not re.fullmatch(r"\d+|\d*\.\d+", count):
            raise ConfigError(
                f"--labelled {count} is not a number of people", "Write all, a number, or a share as 0.5."
            )
    names = ("clean", "released", *(switch.name for switch in fields(Protocol)))
    if unknown := [protocol for protocol in protocols if protocol not in names]:
        raise ConfigError(f"there is no protocol {unknown[0]!r}", f"Choose from {', '.join(names)}.")
    settings: dict[str, Overrides] = {}
    for protocol in protocols or [""]:
        for count in labelled or [""]:
            parts = [protocol] * bool(protocol) + [f"labelled_{count}"] * bool(count)
            named = protocol in ("", "clean", "released")
            overrides: Overrides = {"protocol": protocol if named else {protocol: True}} if protocol else {}
            settings["-".join(parts) or "all"] = overrides | ({"data.labelled_subjects": count} if count else {})
    return settings


def folds_of(folds: str, data: BaseData) -> tuple[Overrides, ...]:
    """Return the overrides of each fold.

    Args:
        folds: a number for subject k-fold, `loso` for leave-one-subject-out, `given` for the folds of the config's own
            split.
        data: the data set, which is read only if its subjects have to be counted.

    Raises:
        ConfigError: `folds` is none of these.
    """
    if folds == "given":
        return tuple({"data.split.fold": fold} for fold in data.folds) or ({},)
    if folds == "loso":
        data.split = Split(scheme="loso")
        return tuple({"data.split.scheme": "loso", "data.split.fold": fold} for fold in data.folds)
    if not folds.isdecimal() or int(folds) < 2:
        raise ConfigError(f"folds is {folds!r}", "Choose a number from 2, loso, or given.")
    count = int(folds)
    return tuple(
        {"data.split.scheme": "kfold", "data.split.folds": count, "data.split.fold": fold} for fold in range(count)
    )
