"""Figures of the house: `python -m tests.house [ROOT]` counts, for the folders of a checkout, what depends on what.

An arrow goes from one direct child of a folder (a file, or a folder with all in it) to another that it imports, for
types too. Printed are children, arrows and circles of some folders, the longest function of the package, and what is
public without a docstring or types.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "mtpkdot"
FOLDERS = ("", "data", "modules", "models", "losses", "pipeline", "report")
# Words with which no docstring opens: it says what is returned, or what is computed.
OPENINGS = re.compile(r"(What|Whether|Of|That)\b")

Arrows = set[tuple[str, str]]


@dataclass(frozen=True)
class Public:
    """A public class or function, or a module.

    Attributes:
        place: file and line.
        name: its name, with the class it is in.
        node: its syntax tree.
    """

    place: str
    name: str
    node: ast.AST

    @property
    def docstring(self) -> str:
        """Return its docstring, or nothing."""
        return ast.get_docstring(self.node) or ""  # type: ignore[arg-type]

    @property
    def typed(self) -> bool:
        """Return whether every argument and the result of a function has a type; True for all else."""
        if not isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef):
            return True
        given = self.node.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        bare = [each for each in named if each is not None and each.annotation is None]
        return self.node.returns is not None and all(each.arg in ("self", "cls") for each in bare)


def arrows(folder: Path, root: Path = ROOT) -> Arrows:
    """Return which direct child of a folder imports which other, by their names."""
    inside = ".".join(folder.relative_to(root).parts)
    children = {child.stem: child for child in folder.iterdir() if _is_child(child)}
    found: Arrows = set()
    for name, child in children.items():
        for file in sorted(child.rglob("*.py")) if child.is_dir() else [child]:
            for module in imports(file, root):
                other = module.removeprefix(f"{inside}.").partition(".")[0]
                if module.startswith(f"{inside}.") and other in children and other != name:
                    found.add((name, other))
    return found


def imports(file: Path, root: Path = ROOT) -> Iterator[str]:
    """Yield every module, or name of a module, that a file imports, also within functions."""
    package = file.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module or ""]))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _is_child(path: Path) -> bool:
    if path.is_symlink() or path.name.startswith("__"):
        return False
    return path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))


def circle(found: Arrows) -> list[str]:
    """Return children that depend on each other in a circle, the first again at the end; none if there is no circle."""
    left = set(found)
    while left:
        ends = {end for _, end in left} - {begin for begin, _ in left}
        kept = {arrow for arrow in left if arrow[1] not in ends}
        if kept == left:
            break
        left = kept
    if not left:
        return []
    way = [min(left)[0]]
    while way[-1] not in way[:-1]:
        way.append(min(end for begin, end in left if begin == way[-1]))
    return way[way.index(way[-1]) :]


def functions(folder: Path) -> Iterator[tuple[int, str]]:
    """Yield length in lines and place of every function below a folder."""
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield node.end_lineno - node.lineno + 1, f"{file.relative_to(folder)}:{node.lineno} {node.name}"


def public(folder: Path) -> Iterator[Public]:
    """Yield every public module, class and function below a folder."""
    for file in sorted(folder.rglob("*.py")):
        tree = ast.parse(file.read_text())
        place = str(file.relative_to(folder))
        yield Public(place, file.stem, tree)
        yield from _members(tree, place, "")


def _members(tree: ast.AST, place: str, above: str) -> Iterator[Public]:
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield Public(f"{place}:{node.lineno}", f"{above}{node.name}", node)
            if isinstance(node, ast.ClassDef):
                yield from _members(node, place, f"{node.name}.")


def inverted(folder: Path) -> list[str]:
    """Return the docstrings below a folder, private ones too, that open with one of the words of `OPENINGS`."""
    found = []
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                if OPENINGS.match(text):
                    place = f"{file.relative_to(folder)}:{getattr(node, 'lineno', 1)}"
                    found.append(f"{place} {text.splitlines()[0]}")
    return found


def main(root: Path = ROOT) -> None:
    """Print the figures of a checkout."""
    for name in FOLDERS:
        folder = root / PACKAGE / name
        if folder.is_dir():
            found, children = arrows(folder, root), sum(map(_is_child, folder.iterdir()))
            around = " -> ".join(circle(found)) or "no circle"
            print(f"{PACKAGE}/{name}: {children} children, {len(found)} arrows, {around}")
    length, place = max(functions(root / PACKAGE))
    print(f"longest function: {length} lines, {place}")
    everything = list(public(root / PACKAGE))
    bare = [each for each in everything if not each.docstring]
    loose = [each for each in everything if not each.typed]
    print(f"public: {len(everything)}, without docstring: {len(bare)}, without types: {len(loose)}")
    for each in [*bare, *loose]:
        print(f"  {each.place} {each.name}")
    counts = {
        name or PACKAGE: len(inverted(root / PACKAGE / name)) for name in FOLDERS if (root / PACKAGE / name).is_dir()
    }
    print("docstrings that open with What, Whether, Of or That:", counts)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT)
