"""Trust in the classes that an artefact names: a checkpoint, a run or a study may come from somebody else.

Importing a class runs the code of its module. Only these names in an artefact are therefore imported: those of this
package, torch and lightning, those that the user has named in the same call, those of runs that this user has made, and
those of a trust list. Names are checked in plain data, before jsonargparse or Lightning reads it.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from mtpkdot.errors import ConfigError, RunError

OURS = ("mtpkdot", "torch", "lightning")
# An environment variable, so that child processes trust the same names.
VARIABLE = "MTPKDOT_TRUST"

_NAMING = ("class_path", "_class_path", "_instantiator")
# Keys that name a class, function or method without `class_path`.
_CLASSES = (
    "encoder",
    "encoders",
    "fusion",
    "tnet",
    "structure",
    "selection",
    "rival",
    "members",
    "method",
    "optimizer",
    "data",
    "trainer",
)
_INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"

_granted: set[str] = set()  # packages that the user has named in this call
_remembered: set[tuple[Path, str]] = set()  # notes that this process has written


@contextmanager
def one_call(names: Sequence[str] = ()) -> Iterator[None]:
    """Trust packages or classes within the block only; names granted in it are dropped at its end.

    Args:
        names: dotted names; each includes everything below it.

    Raises:
        ConfigError: a name is not a dotted name.
    """
    for name in names:
        if not _is_dotted(name, 1):
            raise ConfigError(
                f"--trust {name!r} is not the name of a package or class", "Write, for example, my_project."
            )
    granted, variable = set(_granted), os.environ.get(VARIABLE)
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*_listed(), *names]))
    try:
        yield
    finally:
        _granted.clear()
        _granted.update(granted)
        if variable is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = variable


def without_flags(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return a command line without its `--trust NAME[,NAME]` flags, and the names in them.

    Raises:
        ConfigError: the flag has no name.
    """
    rest: list[str] = []
    names: list[str] = []
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != "--trust":
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        if not value or value.startswith("-"):
            raise ConfigError("--trust names nothing", "Give a package or class: `--trust my_project`.")
        names += value.split(",")
    return rest, names


def grant(argv: Sequence[str]) -> None:
    """Trust, for the rest of this call, the packages of the classes in a command line and its `--config` files."""
    words = [word.partition("=")[2] if word.startswith("--") and "=" in word else word for word in argv]
    found = named(words, classes=True)
    for flag, word in zip(["", *argv], argv, strict=False):
        file = word.removeprefix("--config=") if word.startswith("--config=") else word
        if file is word and flag != "--config":
            continue
        try:
            found += named(yaml.safe_load(Path(file).read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue  # the parser of the command line reports the error
    _granted.update(map(_package, found))


def check(content: Mapping[str, Any], source: object, replaced: Collection[str] = ()) -> None:
    """Raise an error if an artefact names a class that is not trusted; nothing is imported.

    Args:
        content: content of the artefact, as plain data.
        source: the file, for the error.
        replaced: keys that are not checked, since the caller replaces their values.

    Raises:
        RunError: the artefact names a class or function that is not trusted.
    """
    read = {key: value for key, value in content.items() if key not in replaced}
    names = [name for name in named(read) if not _is_trusted(name)]
    if not names:
        return
    if _made_here(content):
        _granted.update(map(_package, names))
        return
    package = names[0].partition(".")[0]
    raise RunError(
        f"{source} names {names[0]}, which is not part of mtpkdot, torch or lightning and is not imported",
        f"If you trust whoever made the file, call again with `--trust {package}` (in Python: trust=[{package!r}]).",
    )


def remember(content: Any) -> None:
    """Record that this user has made an artefact; the classes it names are trusted from now on.

    The record is kept in the user's own state folder, so that an artefact from somebody else cannot contain it.

    Args:
        content: content of the artefact, as it will be passed to `check`.
    """
    record, digest = _record(), _digest(content)
    if (record, digest) in _remembered or all(_is_ours(name) for name in named(content)):
        return
    _remembered.add((record, digest))
    try:
        record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with record.open("a") as file:
            file.write(f"{digest}\n")
    except OSError as error:
        # The run goes on without its record; reading it later then needs `--trust`.
        print(f"{record} cannot be written ({error.strerror}): this run's own classes need --trust when it is read.")


def named(content: Any, classes: bool = False) -> list[str]:
    """Return the dotted names of classes and functions in plain data, each once.

    Args:
        content: nested mappings and lists.
        classes: include every string that may be a name, not only those under keys that hold classes.
    """
    return list(dict.fromkeys(_named(content, classes, "")))


def _named(content: Any, classes: bool, key: str) -> Iterator[str]:
    if isinstance(content, Mapping):
        kind = next((content[name] for name in _NAMING[:2] if isinstance(content.get(name), str)), "")
        for name, value in content.items():
            last = str(name).rpartition(".")[2].rstrip("+")
            # Arguments of this package's own classes are paths and words, unless their key says otherwise.
            plain = last in ("init_args", "dict_kwargs") and kind.startswith("mtpkdot.")
            yield from _named(value, last in _CLASSES or (classes and not plain), last)
    elif isinstance(content, list | tuple | set):
        for value in content:
            yield from _named(value, classes, key)
    elif isinstance(content, str) and ("." in content or "\\" in content):  # an escape may encode a dot
        # jsonargparse reads strings as YAML.
        loaded = _loaded(content)
        if isinstance(loaded, str):
            if _is_dotted(loaded, 2) and (classes or key in _NAMING):
                yield loaded
        else:
            yield from _named(loaded, classes, key)


def _loaded(text: str) -> Any:
    for _ in range(5):
        try:
            loaded = yaml.safe_load(text)
        except yaml.YAMLError:
            return text
        if not isinstance(loaded, str) or loaded == text:
            return loaded
        text = loaded
    return text


def _is_dotted(name: str, parts: int) -> bool:
    words = name.split(".")
    return len(words) >= parts and all(word.isidentifier() for word in words)


def _package(name: str) -> str:
    """Return the package of a name; the full name if the package is this one, torch or lightning."""
    package = name.partition(".")[0]
    return name if package in OURS else package


def _is_trusted(name: str) -> bool:
    if any(f"{name}.".startswith(f"{known}.") for known in [*_granted, *_listed()]):
        return True
    return _is_ours(name)


def _is_ours(name: str) -> bool:
    """Return whether a name is a class defined by this package, torch or lightning (`torch.os.system` is not)."""
    if name.partition(".")[0] not in OURS:
        return False
    if name == _INSTANTIATOR:
        return True
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    return isinstance(found, type) and found.__module__.partition(".")[0] in OURS


def _listed() -> list[str]:
    return [name for name in os.environ.get(VARIABLE, "").split(",") if name]


def _made_here(content: Any) -> bool:
    try:
        return _digest(content) in _record().read_text().split()
    except (OSError, UnicodeDecodeError):
        return False


def _record() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "mtpkdot" / "made"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
