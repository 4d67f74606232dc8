"""Error messages of jsonargparse in one line, with the word that was probably meant."""

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer

from mtpkdot.data.base import BaseData
from mtpkdot.errors import nearest
from mtpkdot.losses.rivals import Rival
from mtpkdot.losses.selection import Selection
from mtpkdot.losses.structure import StructuralLoss
from mtpkdot.models.encoder import Encoder
from mtpkdot.models.fusions import Fusion
from mtpkdot.models.tnets import TNet

_NAMED: tuple[type[Any], ...] = (
    BaseData,
    Encoder,
    Rival,
    StructuralLoss,
    Selection,
    Fusion,
    TNet,
    Callback,
    Logger,
    Optimizer,
)  # Classes that a config names by their class alone.


# Base -> arguments that its classes take first.
_FIRST = {
    "Encoder": ("steps",),
    "Fusion": ("dims", "per_step"),
    "TNet": ("in_dim", "out_dim"),
    "Rival": ("task", "student_dim", "teacher_dim"),
}


def objection(message: str, parser: ArgumentParser) -> tuple[str, str]:
    """Return the message of a failed parsing in one line, and a suggestion, which may be empty.

    Args:
        message: message of jsonargparse, over several lines.
        parser: the parser that failed.
    """
    of_many = "Union subtypes" in message
    text = f"{message.partition(':')[0]}: {reason(message)}" if of_many else one_line(message)
    guess = _guess(text, keys(parser))
    return _of_factory(text), guess


def _of_factory(text: str) -> str:
    """Return an error about a class that a factory makes, reworded for the class; any other error unchanged."""
    factory = re.search(r'key "([^"]+)": Type \S*Callable\[(.*)\] expects a function or a callable class: (.*)', text)
    if factory is None:
        return text
    key, kind, account = factory.groups()
    named = re.search(r"Namespace\(class_path='([^']+)'", account)
    name = named[1].rpartition(".")[2] if named else "the class"
    if argument := re.match(r'Parser key "([^"]+)": (.*?)\.? Got value: (.*?)\. Got value: Namespace', account):
        expected = re.sub(
            r"typing\.Literal\[(.*)\]$", r"one of \1", re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", argument[2])
        )
        return f"{key}.{argument[1]}: {expected.replace('Expected a one', 'Expected one')}, not {argument[3]}"
    if option := re.match(r"Option '([^']+)' is not accepted", account):
        return f"{key}: {name} has no argument {option[1]!r}"
    base = kind.rpartition(".")[2]
    first = f" with the first arguments {', '.join(_FIRST[base])}" if base in _FIRST else ""
    if named and "to be a subclass of" in account:
        return f"{key}: {named[1]} is not a {base}; name a subclass of it{first}"
    return f"{key} is not a {base}{first}: {account}"


def keys(parser: ArgumentParser) -> list[str]:
    """Return every key of a parser, dotted."""
    return [action.dest for action in parser._actions if action.dest not in ("help", "==SUPPRESS==")]


def unknown_sections(content: Any, known: Iterable[str]) -> Iterator[str]:
    """Yield the empty sections of a config that no key belongs to, which jsonargparse ignores.

    Args:
        content: the config, as plain data.
        known: every key, dotted.
    """
    known = list(known)
    for key in _empty(content):
        if not any(f"{k}.".startswith(f"{key}.") or f"{key}.".startswith(f"{k}.") for k in known):
            yield key


def _empty(content: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _empty(value, f"{prefix}.{key}" if prefix else str(key))
        if not content and prefix:
            yield prefix
    elif content is None and prefix:
        yield prefix


def _guess(message: str, known: list[str]) -> str:
    if option := re.search(r"[Uu]nrecognized arguments: --([^\s=]+)", message):
        return _nearest_key(option[1], known)
    if option := re.search(r"Group '([^']+)' does not accept option '([^']+)'", message):
        prefix = f"{option[1]}."
        return nearest(option[2], [key.removeprefix(prefix) for key in known if key.startswith(prefix)])
    if option := re.search(r"given class_path '([^']+)': (?:Option|Key) '([^']+)' is not", message):
        return nearest(option[2], _arguments(option[1]))
    if option := re.search(r"Option '([^']+)' is not accepted.*class_path='([^']+)'", message):
        return nearest(option[1], _arguments(option[2]))
    if choice := re.search(r"Literal\[([^\]]+)\]\.? Got value: (\S+)", message):
        return nearest(choice[2].rstrip("."), re.findall(r"'([^']+)'", choice[1]))
    if named := re.search(r"Expected a dot import path string: (\S+?)[,\s]", f"{message} "):
        names = {kind.__name__ for base in _NAMED for kind in kinds(base)}
        return nearest(named[1].rpartition(".")[2], names)
    if named := re.search(r"(?:does not accept|not expected|is not accepted).*?'([^']+)'", message):
        return nearest(named[1], [key.rpartition(".")[2] for key in known])
    return ""


def _nearest_key(key: str, known: list[str]) -> str:
    """Return `Did you mean ...? ` for a dotted key, comparing the last part first, since many keys share the others."""
    lasts = {other.rpartition(".")[2] for other in known}
    last = (get_close_matches(key.rpartition(".")[2], lasts, n=1) or [""])[0]
    found = [other for other in known if other.rpartition(".")[2] == last]
    if key.startswith("trainer.") and any(other.endswith(f".fit.{last}") for other in found):
        return f"Did you mean <stage>.fit.{last}? "  # Arguments of Lightning's Trainer.
    return nearest(key, found)


def _arguments(path: str) -> list[str]:
    """Return the arguments of a class and of the classes that it passes options on to."""
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    of_bases = [inspect.signature(base.__init__).parameters for base in getattr(found, "__mro__", ())[:-1]]
    return [argument for parameters in of_bases for argument in parameters]


def kinds(base: type[Any]) -> Iterator[type[Any]]:
    """Yield a class and all classes derived from it."""
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def reason(message: str) -> str:
    """Return the innermost reason of jsonargparse's message; the rest lists the types that do not fit."""
    tried: list[str] = []
    value = ""
    for line in (line.strip() for line in message.splitlines()):
        if line.startswith("Given value: "):
            value = line.removeprefix("Given value: ")
            break
        if line.startswith("- "):
            tried.append(line.removeprefix("- "))
        elif tried and not line.startswith(("Given value", "Subtypes", "Errors", "Does not validate")):
            tried[-1] += f" {line}"
    if not tried:
        return one_line(message)
    # An error about the named class is more useful than one that it is no number or no switch.
    named = [text for text in tried if ("given class_path" in text or "__init__()" in text) and text[-1] != ":"]
    best = next((text for text in reversed(named or tried) if "NoneType" not in text), tried[-1])
    holders = [text for text in tried if "Parser key" in text and text != best]
    where = f"{holders[-1].partition('Parser key')[2].strip().rstrip(':')}: " if holders else ""
    got = f", not {value}" if best.startswith("Expected") and "Got value" not in best else ""
    return one_line(f"{where}{best}{got}")


def one_line(message: str) -> str:
    """Return a message of several lines as one line."""
    return " ".join(line.strip() for line in message.splitlines() if line.strip())
