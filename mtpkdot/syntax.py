"""Syntax tree of one file, by statement: the names that each defines, reads and imports, and its digest.

A digest does not depend on comments, docstrings, type hints of arguments, texts of errors, arguments with a plain
default that are never read, or the version of Python. Fields of data classes have digests of their own.
"""

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Place = tuple[str, str | None]  # a module and a name in it; None for the whole module

_LEFT_OUT = {"ctx", "kind", "type_comment", "type_ignores"}
# Decorators whose only effect is on the decorated object; any other may register it in a table that is read elsewhere.
_HARMLESS = {
    "abstractmethod",
    "cache",
    "cached_property",
    "contextmanager",
    "dataclass",
    "final",
    "inference_mode",
    "lru_cache",
    "no_grad",
    "overload",
    "override",
    "runtime_checkable",
    "total_ordering",
    "wraps",
}


@dataclass
class Facts:
    """Names and digest of a statement.

    Attributes:
        digest: digest of its syntax tree.
        names: names that it reads, each with the attributes read; None for the name itself.
        imports: places that it imports.
        attributes: names that it reads as attributes of any object, also by a string.
        fields: digests of a data class's fields with plain defaults, by name; not part of `digest`.
        revisions: `revision` of the class that it defines, by the class's full name.
    """

    digest: str = ""
    names: dict[str, set[str | None]] = field(default_factory=dict)
    imports: list[Place] = field(default_factory=list)
    attributes: set[str] = field(default_factory=set)
    fields: dict[str, str] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)


@dataclass
class File:
    """Parsed file.

    Attributes:
        module: its dotted name.
        name: the path that an import would look for.
        package: True for the `__init__` of a package.
        statements: top-level statements.
        defined: indices of the statements that define a name.
        always: indices of the statements that have an effect when the file is imported.
        imports: imported places, by the names that they are bound to.
        stars: modules all of whose names are imported.
    """

    module: str
    name: str
    package: bool
    statements: list[ast.stmt]
    defined: dict[str, list[int]] = field(default_factory=dict)
    always: list[int] = field(default_factory=list)
    imports: dict[str, Place] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    _facts: dict[tuple[int, frozenset[str]], Facts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, node in enumerate(self.statements):
            self._enter(number, node)

    def facts(self, number: int, without: frozenset[str]) -> Facts:
        """Return the names and digest of a statement, without the methods of the names in `without`."""
        key = number, without
        if key not in self._facts:
            self._facts[key] = _Reader(self, without).read(self.statements[number])
        return self._facts[key]

    def absolute(self, node: ast.ImportFrom) -> str:
        """Return the absolute name of the module in a `from ... import`."""
        if not node.level:
            return node.module or ""
        above = self.module.split(".")[: None if self.package and node.level == 1 else self.package - node.level]
        return ".".join([*above, *([node.module] if node.module else [])])

    def _enter(self, number: int, node: ast.stmt) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._enter_import(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self.defined.setdefault(node.name, []).append(number)
            if not all(_is_harmless(decorator) for decorator in node.decorator_list):
                self.always.append(number)
        elif _is_idle(node):
            for inner in getattr(node, "orelse", []):
                self._enter(number, inner)
        else:
            names = _assigned(node)
            for name in names:
                self.defined.setdefault(name, []).append(number)
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    self._enter_import(inner)
            if not names or not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
                self.always.append(number)

    def _enter_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if isinstance(node, ast.Import):
                self.imports[alias.asname or alias.name.partition(".")[0]] = alias.name, None
            elif alias.name == "*":
                self.stars.append(self.absolute(node))
            else:
                self.imports[alias.asname or alias.name] = self.absolute(node), alias.name


class _Reader:
    """Reader of one statement: writes it in a form that all versions of Python share, and collects its names."""

    def __init__(self, file: File, without: frozenset[str]) -> None:
        self.file, self.without = file, without
        self.text: list[str] = []
        self.facts = Facts()
        self.silent = 0  # while above 0, names are collected and the text is not

    def read(self, node: ast.stmt) -> Facts:
        self._write(node)
        self.facts.digest = digest_of(self.text)
        return self.facts

    def _write(self, node: Any) -> None:
        if isinstance(node, list):
            self._say("[")
            for item in node:
                self._write(item)
            self._say("]")
        elif not isinstance(node, ast.AST):
            self._say(repr(node))
            if isinstance(node, str):
                self.facts.attributes.add(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node)
        elif isinstance(node, ast.Name):
            self.facts.names.setdefault(node.id, set()).add(None)
            self._say(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            self.facts.names.setdefault(node.value.id, set()).add(node.attr)
            self.facts.attributes.add(node.attr)
            self._say(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.stmt) and _is_idle(node):
            for item in getattr(node, "orelse", []):
                self._write(item)
        else:
            self._fields(node)

    def _fields(self, node: ast.AST) -> None:
        self._say(type(node).__name__)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            self._arguments(node)
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == [] or name in _LEFT_OUT:
                continue
            if isinstance(node, ast.ClassDef) and name == "body":
                value = [item for item in node.body if self._counts(node, item)]
            elif name == "args" and isinstance(value, ast.arguments):
                continue
            elif name == "returns":
                self._quietly(value)
                continue
            elif isinstance(node, ast.Raise):
                # The class of an error is part of the digest, its message is not.
                value = getattr(value, "func", value) if name == "exc" else []
            self._say(name)
            self._write(value)

    def _arguments(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        """Write arguments by name and default, without those with a plain default that are never read."""
        given, named = [*node.args.posonlyargs, *node.args.args], node.args.kwonlyargs
        missing: list[ast.expr | None] = [None] * (len(given) - len(node.args.defaults))
        pairs = [*zip(given, [*missing, *node.args.defaults], strict=True)]
        pairs += zip(named, node.args.kw_defaults, strict=True)
        optional = {argument.arg for argument, default in pairs if default is not None and _is_plain(default)}
        body = node.body if isinstance(node.body, list) else [node.body]
        if optional:
            optional -= {inner.id for part in body for inner in ast.walk(part) if isinstance(inner, ast.Name)}
        for argument, default in pairs:
            if argument.arg in optional:
                continue
            self._say("named" if argument in named else "")
            self._argument(argument)
            self._write([] if default is None else [default])
        for stars, many in (("*", node.args.vararg), ("**", node.args.kwarg)):
            if many is not None:
                self._say(stars)
                self._argument(many)

    def _argument(self, argument: ast.arg) -> None:
        self._say(argument.arg)
        self._quietly(argument.annotation)

    def _quietly(self, value: Any) -> None:
        if value is not None:
            self.silent += 1
            self._write(value)
            self.silent -= 1

    def _counts(self, holder: ast.ClassDef, node: ast.stmt) -> bool:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return node.name not in self.without
        if _assigned(node) == ["revision"]:
            value = getattr(node, "value", None)
            if isinstance(value, ast.Constant) and isinstance(value.value, int) and value.value:
                self.facts.revisions[f"{self.file.module}.{holder.name}"] = value.value
            return False
        if "dataclass" in map(_called, holder.decorator_list) and isinstance(node, ast.AnnAssign):
            if node.value is None or not _is_plain(node.value):
                return True
            self._quietly(node)
            (name,) = _assigned(node)
            self.facts.fields[name] = digest_of([name, ast.dump(node.value)])
            return False
        return True

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if isinstance(node, ast.Import):
                self.facts.imports.append((alias.name, None))
            else:
                self.facts.imports.append((self.file.absolute(node), None if alias.name == "*" else alias.name))

    def _say(self, word: str) -> None:
        if not self.silent:
            self.text.append(word)


def _assigned(node: ast.stmt) -> list[str]:
    """Return the names that a statement assigns, also in nested statements."""
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(inner, ast.Attribute | ast.Subscript) for target in targets for inner in ast.walk(target)):
            return []
    found: list[str] = []
    # The variables of a comprehension are names within it alone.
    targets_within = [inner.target for inner in ast.walk(node) if isinstance(inner, ast.comprehension)]
    within = {id(name) for target in targets_within for name in ast.walk(target)}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store) and id(inner) not in within:
            found.append(inner.id)
        elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(inner.name)
    return found


def _is_idle(node: ast.stmt) -> bool:
    """Return whether a statement has no effect: a string, or code for type checkers or the command line only."""
    if isinstance(node, ast.If):
        test = node.test
        named = test.left if isinstance(test, ast.Compare) else test
        return getattr(named, "id", getattr(named, "attr", "")) in ("TYPE_CHECKING", "__name__")
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _is_plain(default: ast.expr) -> bool:
    return not any(isinstance(inner, ast.Call | ast.Name | ast.Attribute) for inner in ast.walk(default))


def _called(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return str(getattr(called, "attr", getattr(called, "id", "")))


def _is_harmless(decorator: ast.expr) -> bool:
    return _called(decorator) in _HARMLESS


def digest_of(texts: Iterable[str]) -> str:
    """Return the digest of several texts, 16 hexadecimal digits."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
