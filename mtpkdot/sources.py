"""Digests of the sources that classes and functions depend on, found by following names through syntax trees.

No code is run. The walk starts at a class or function, takes the top-level statements that its source names, in its own
file and through imports in others (also imports within functions, and names that a package's `__init__` re-exports),
and continues from those. Files of this package and of the user are followed, those of installed packages and of the
standard library are not. A digest is computed from the syntax tree: it does not depend on comments, docstrings, type
hints of arguments, texts of errors, or arguments and fields with a plain default that are never read.
"""

import ast
import gc
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

from mtpkdot.errors import ConfigError
from mtpkdot.syntax import File, Place, digest_of

_PACKAGE = __name__.partition(".")[0]
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Sources:
    """Result of a walk.

    Attributes:
        files: digest of the statements reached, per file; the key is the path that an import would look for.
        revisions: `revision` of each class that declares one, by its full name.
    """

    files: dict[str, str]
    revisions: dict[str, int]


def sources(
    roots: Iterable[Any], without: Collection[str] = (), cut: Collection[str] = (), alone: Iterable[Place] = ()
) -> Sources:
    """Return the digests of all sources that some classes and functions depend on.

    Args:
        roots: classes, functions, instances, or their dotted paths.
        without: names of methods that are ignored in every class.
        cut: dotted names that are not followed.
        alone: places that are included without their imports.
    """
    walk = _Walk(frozenset(without), frozenset(cut))
    with _uncollected():
        for root in roots:
            walk.start(root)
        for module, name in alone:
            walk.follow(module, name, local=True)
    return walk.result()


def pieces(roots: Iterable[Any]) -> dict[str, tuple[int, str]]:
    """Return the revision and digest of each class that `roots` depend on; functions are digested per module."""
    walk = _Walk(frozenset(), frozenset())
    for root in roots:
        walk.start(root)
    found: dict[str, tuple[int, str]] = {}
    for file, numbers in walk.reached.values():
        rest: list[str] = []
        for number in sorted(numbers):
            facts = file.facts(number, frozenset())
            node = file.statements[number]
            if isinstance(node, ast.ClassDef):
                name = f"{file.module}.{node.name}"
                found[name] = facts.revisions.get(name, 0), digest_of([facts.digest, *facts.fields.values()])
            else:
                rest.append(facts.digest)
        if rest:
            found[file.module] = 0, digest_of(rest)
    return dict(sorted(found.items()))


def is_released(file: str) -> bool:
    """Return whether a file of `Sources.files` belongs to an installed release, not to a working folder."""
    return file.partition("/")[0] == _PACKAGE and _is_installed(_ROOT)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Disable garbage collection, which only costs time on syntax trees: many small objects and no garbage."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _place(root: Any) -> Place:
    if isinstance(root, str):
        module, _, name = root.rpartition(".")
        return module, name
    if isinstance(root, partial):
        return _place(root.func)
    if isinstance(root, MethodType):
        return _place(root.__self__)
    named = root if hasattr(root, "__qualname__") else type(root)
    return named.__module__, named.__qualname__.partition(".")[0]


class _Walk:
    """Walk through the sources, with the statements reached so far."""

    def __init__(self, without: frozenset[str], cut: frozenset[str]) -> None:
        self.without, self.cut = without, cut
        self.reached: dict[str, tuple[File, set[int]]] = {}
        self.seen: set[tuple[str, str | None, bool]] = set()
        self.files: dict[str, File | None] = {}

    def start(self, root: Any) -> None:
        """Follow a class or function."""
        module, name = _place(root)
        while self._file(module) is None and self._file(module.rpartition(".")[0]) is not None:
            module, _, name = module.rpartition(".")  # a method of a class
        self.follow(module, name)

    def follow(self, module: str, name: str | None, local: bool = False) -> None:
        """Follow a name of a module and its dependencies; with `local`, only within its file."""
        queue = [(module, name)]
        while queue:
            place = queue.pop()
            if (*place, local) not in self.seen and ".".join(filter(None, place)) not in self.cut:
                self.seen.add((*place, local))
                queue += self._reach(*place, local)

    def result(self) -> Sources:
        """Return the digests per file."""
        facts = {
            file.name: [file.facts(number, self.without) for number in sorted(numbers)]
            for file, numbers in self.reached.values()
        }
        read = {name for many in facts.values() for one in many for name in one.attributes}
        revisions = {key: value for many in facts.values() for one in many for key, value in one.revisions.items()}
        files = {
            name: digest_of(
                text for one in many for text in (one.digest, *(d for key, d in one.fields.items() if key in read))
            )
            for name, many in facts.items()
            if many
        }
        return Sources(dict(sorted(files.items())), dict(sorted(revisions.items())))

    def _file(self, module: str) -> File | None:
        if module not in self.files:
            self.files[module] = _parsed(module)
        return self.files[module]

    def _reach(self, module: str, name: str | None, local: bool) -> list[Place]:
        file = self._file(module)
        if file is None:
            return []
        found: list[Place] = []
        for above in _above(module):
            if (parent := self._file(above)) is not None:
                found += self._take(parent, parent.always, local)
        found += self._take(file, file.always, local)
        if name is None:
            return found + self._take(file, [n for numbers in file.defined.values() for n in numbers], local)
        if name in file.defined:
            return found + self._take(file, file.defined[name], local)
        if local:
            return found
        if name in file.imports:
            return [*found, file.imports[name]]
        if self._file(f"{module}.{name}") is not None:
            return [*found, (f"{module}.{name}", None)]
        for star in file.stars:
            if (other := self._file(star)) is not None and (name in other.defined or name in other.imports):
                return [*found, (star, name)]
        lazy = _handed_on(module, name) if "__getattr__" in file.defined else None
        return [*found, lazy or (module, None)]

    def _take(self, file: File, numbers: Iterable[int], local: bool) -> list[Place]:
        """Add statements of a file and return the places that they name."""
        taken = self.reached.setdefault(file.module, (file, set()))[1]
        found: list[Place] = []
        for number in numbers:
            taken.add(number)
            facts = file.facts(number, self.without)
            found += [] if local else facts.imports
            for name, attributes in facts.names.items():
                if name in file.defined:
                    found.append((file.module, name))
                elif not local:
                    found += self._imported(file, name, attributes)
        return found

    def _imported(self, file: File, name: str, attributes: set[str | None]) -> list[Place]:
        if name not in file.imports:
            others = [(star, self._file(star)) for star in file.stars]
            return [
                (star, name) for star, other in others if other and (name in other.defined or name in other.imports)
            ]
        module, inner = file.imports[name]
        if inner is not None and (home := self._file(module)) is not None:
            is_module = inner not in home.defined and inner not in home.imports
            if is_module and self._file(f"{module}.{inner}") is not None:
                module, inner = f"{module}.{inner}", None
        # `import a.b` binds `a`, whose attributes are not names of `a.b`.
        chained = module.startswith(f"{name}.")
        if inner is None and self._file(module) is not None and None not in attributes and not chained:
            return [(module, attribute) for attribute in attributes]
        return [(module, inner)]


@cache
def _installed() -> tuple[Path, ...]:
    """Return the folders of installed packages and of the standard library."""
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages()}
    torch = importlib.util.find_spec("torch")
    if torch is not None and torch.origin is not None:  # in another folder, by `pip install --target` or PYTHONPATH
        paths.add(str(Path(torch.origin).parents[1]))
    return tuple(Path(path).resolve() for path in paths if path)


def _is_installed(path: Path) -> bool:
    return any(path == folder or folder in path.parents for folder in _installed())


_parses: dict[tuple[str, Path], tuple[tuple[int, int], File]] = {}


def _parsed(module: str) -> File | None:
    """Return the parsed file of a module; None if the module is installed, built in or not found."""
    path = _located(module)
    if path is None:
        return None
    status = path.stat()
    state = status.st_mtime_ns, status.st_size
    if (known := _parses.get((module, path))) is None or known[0] != state:
        package = path.name == "__init__.py"
        name = module.replace(".", "/") + ("/__init__.py" if package else ".py")
        try:
            statements = ast.parse(path.read_bytes()).body
        except SyntaxError as error:
            raise ConfigError(f"{path}, line {error.lineno}: {error.msg}", "Correct it.") from error
        _parses[module, path] = known = state, File(module, name, package, statements)
    return known[1]


_external: set[str] = {*sys.stdlib_module_names, *sys.builtin_module_names} - {"__main__"}


def _located(module: str) -> Path | None:
    top, *inner = module.split(".")
    if not top or top in _external:
        return None
    if top == _PACKAGE:
        folders = [_ROOT / top]
    else:
        loaded = sys.modules.get(top)
        spec = None if loaded is not None else importlib.util.find_spec(top)
        folders = _folders(loaded, spec)
        if any(_is_installed(folder) for folder in folders):
            _external.add(top)
            return None
    for folder in folders:
        path = folder.joinpath(*inner)
        for file in (path, path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.suffix == ".py" and file.is_file():
                return file
    return None


def _folders(loaded: ModuleType | None, spec: Any) -> list[Path]:
    """Return the folders of a top-level package, or the file of a module."""
    held = loaded if loaded is not None else spec
    inner = getattr(held, "__path__", None) or getattr(held, "submodule_search_locations", None)
    file = getattr(held, "__file__", None) or getattr(held, "origin", None)
    return [Path(path).resolve() for path in (inner or ([file] if file else []))]


def _handed_on(module: str, name: str) -> Place | None:
    """Return the place where an object is defined that a module imports lazily."""
    held = getattr(import_module(module), name, None)
    home, called = getattr(held, "__module__", None), getattr(held, "__qualname__", None)
    return (home, called.partition(".")[0]) if isinstance(home, str) and isinstance(called, str) else None


def _above(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]
