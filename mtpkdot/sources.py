"""Digests of the sources that classes and functions depend on, found by following names through syntax trees.

Nothing is run to find them. The walk starts at a class or function, takes the top-level statements that its text names,
in its own file and through imports in others (also imports within functions, and names that a package's `__init__`
hands on), and goes on from those. Files of installed packages and of the standard library are left out; those of this
package and of the user are not. A digest is over the syntax tree: comments, docstrings, type hints of arguments, texts
of errors, and arguments and fields with a plain default that nothing reads cost nothing.
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
    """The result of a walk.

    Attributes:
        files: digest of the statements that count, per file, by the path that an import would look for.
        revisions: `revision` of the classes that declare one, by their full names.
    """

    files: dict[str, str]
    revisions: dict[str, int]


def sources(
    roots: Iterable[Any], without: Collection[str] = (), cut: Collection[str] = (), alone: Iterable[Place] = ()
) -> Sources:
    """Follow everything that some classes and functions depend on.

    Args:
        roots: classes, functions, instances, or their dotted paths.
        without: names of methods that do not count, in whichever class.
        cut: dotted names that are not followed.
        alone: places that count without what they import.
    """
    walk = _Walk(frozenset(without), frozenset(cut))
    with _uncollected():
        for root in roots:
            walk.start(root)
        for module, name in alone:
            walk.follow(module, name, local=True)
    return walk.result()


def pieces(roots: Iterable[Any]) -> dict[str, tuple[int, str]]:
    """Revision and digest of every class that some classes depend on; functions count together, by their module."""
    walk = _Walk(frozenset(), frozenset())
    for root in roots:
        walk.start(root)
    found: dict[str, tuple[int, str]] = {}
    for file, numbers in walk.reached.values():
        rest: list[str] = []
        for number in sorted(numbers):
            told = file.told(number, frozenset())
            node = file.statements[number]
            if isinstance(node, ast.ClassDef):
                name = f"{file.module}.{node.name}"
                found[name] = told.revisions.get(name, 0), digest_of([told.digest, *told.fields.values()])
            else:
                rest.append(told.digest)
        if rest:
            found[file.module] = 0, digest_of(rest)
    return dict(sorted(found.items()))


def is_released(file: str) -> bool:
    """Whether a file of `Sources.files` belongs to an installed release, not to a folder that someone works in."""
    return file.partition("/")[0] == _PACKAGE and _is_installed(_ROOT)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Trees are many small objects and no garbage: looking for it would take longer than making them."""
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
    """What has been reached so far."""

    def __init__(self, without: frozenset[str], cut: frozenset[str]) -> None:
        self.without, self.cut = without, cut
        self.reached: dict[str, tuple[File, set[int]]] = {}
        self.seen: set[tuple[str, str | None, bool]] = set()
        self.files: dict[str, File | None] = {}

    def start(self, root: Any) -> None:
        """Reach a class or function."""
        module, name = _place(root)
        while self._file(module) is None and self._file(module.rpartition(".")[0]) is not None:
            module, _, name = module.rpartition(".")  # a method of a class
        self.follow(module, name)

    def follow(self, module: str, name: str | None, local: bool = False) -> None:
        """Reach a name of a module and all that it depends on; with `local` no further than its file."""
        queue = [(module, name)]
        while queue:
            place = queue.pop()
            if (*place, local) not in self.seen and ".".join(filter(None, place)) not in self.cut:
                self.seen.add((*place, local))
                queue += self._reach(*place, local)

    def result(self) -> Sources:
        """Digests per file."""
        told = {
            file.name: [file.told(number, self.without) for number in sorted(numbers)]
            for file, numbers in self.reached.values()
        }
        read = {name for many in told.values() for one in many for name in one.attributes}
        revisions = {key: value for many in told.values() for one in many for key, value in one.revisions.items()}
        files = {
            name: digest_of(
                text for one in many for text in (one.digest, *(d for key, d in one.fields.items() if key in read))
            )
            for name, many in told.items()
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
        """Reach statements of a file; returns what they name."""
        taken = self.reached.setdefault(file.module, (file, set()))[1]
        found: list[Place] = []
        for number in numbers:
            taken.add(number)
            told = file.told(number, self.without)
            found += [] if local else told.imports
            for name, attributes in told.names.items():
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
        # `import a.b` binds `a`, whose attributes are no names of `a.b`.
        chained = module.startswith(f"{name}.")
        if inner is None and self._file(module) is not None and None not in attributes and not chained:
            return [(module, attribute) for attribute in attributes]
        return [(module, inner)]


@cache
def _installed() -> tuple[Path, ...]:
    """Folders of installed packages and of the standard library."""
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages()}
    torch = importlib.util.find_spec("torch")
    if torch is not None and torch.origin is not None:  # elsewhere: `pip install --target`, a folder of PYTHONPATH
        paths.add(str(Path(torch.origin).parents[1]))
    return tuple(Path(path).resolve() for path in paths if path)


def _is_installed(path: Path) -> bool:
    return any(path == folder or folder in path.parents for folder in _installed())


_parses: dict[tuple[str, Path], tuple[tuple[int, int], File]] = {}


def _parsed(module: str) -> File | None:
    """A module's file; None where it is installed, built in, or not to be found."""
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
    """The folders of a top-level package, or the file of a module."""
    held = loaded if loaded is not None else spec
    inner = getattr(held, "__path__", None) or getattr(held, "submodule_search_locations", None)
    file = getattr(held, "__file__", None) or getattr(held, "origin", None)
    return [Path(path).resolve() for path in (inner or ([file] if file else []))]


def _handed_on(module: str, name: str) -> Place | None:
    """Where an object is defined that a module imports only when it is asked for."""
    held = getattr(import_module(module), name, None)
    home, called = getattr(held, "__module__", None), getattr(held, "__qualname__", None)
    return (home, called.partition(".")[0]) if isinstance(home, str) and isinstance(called, str) else None


def _above(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]
