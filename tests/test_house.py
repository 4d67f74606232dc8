"""The rules of the house."""

import ast
from pathlib import Path

from tests.house import arrows, circle, functions, inverted, public
from tests.loops import over

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "mtpkdot").rglob("*.py"))
# From bottom to top; data stands beside models and losses.
LAYERS = {"losses": 0, "models": 0, "metrics": 1, "data": 1, "modules": 2, "pipeline": 3, "report": 4, "cli": 5}
# DataModules are Lightning's, and the batch knows nothing of it.
WITHOUT_LIGHTNING = ("models", "losses")


WINGS = ("data", "data/media", "data/tables", "data/synthetic", "data/biovid", "data/affwild2", "modules")
WINGS += ("modules/teaching", "models", "losses", "metrics", "pipeline", "report")
MOST_ARROWS = {"data": 40, "modules": 26}  # imports between the direct children of a folder


def imports(path: Path) -> list[str]:
    """Every module a file imports, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT / "mtpkdot").parts[0]


@over("path", SOURCES)
def test_a_file_is_small_and_imports_nothing_from_above(path):
    assert len(path.read_text().splitlines()) <= 500
    if room(path) in WITHOUT_LIGHTNING:
        assert not [name for name in imports(path) if name.split(".")[0] in ("lightning", "pytorch_lightning")]
    if room(path) in LAYERS:
        above = {name for name, level in LAYERS.items() if level > LAYERS[room(path)]}
        assert not [name for name in imports(path) if name.startswith("mtpkdot.") and name.split(".")[1] in above]


def own_names():
    """Classes and functions of the package, without those that take any number of arguments."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and not node.args.vararg):
                yield node.name


OWN = set(own_names()) - {"checkpoint"}  # a property; torch has a function of that name


@over("path", SOURCES)
def test_more_than_four_arguments_are_named(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and len(node.args) > 4:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert name not in OWN, f"line {node.lineno}: name the arguments of {name}"


def test_files_are_small_on_the_whole():
    lengths = sorted(len(path.read_text().splitlines()) for path in SOURCES)
    assert lengths[len(lengths) // 2] <= 150
    assert lengths[int(len(lengths) * 0.9)] <= 350


def test_modality_names_are_data_not_code():
    # A data set's own files.
    own = ("tables/importers/", "synthetic/planted.py", "affwild2/", "biovid/")
    own += ("media/pictures.py",)  # where `face` is a way of cutting, not a modality
    own += ("tables/guess.py",)  # which looks for usual names of files, and says what it takes them for
    allowed = tuple(f"data/{name}" for name in own)
    for path in SOURCES:
        name = str(path.relative_to(ROOT / "mtpkdot"))
        strings = [
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and node.value in ("audio", "emg", "physiology", "signal", "face")
        ]
        assert name.startswith(allowed) or not strings, name


def test_modules_open_no_files_but_checkpoints():
    for path in SOURCES:
        if room(path) in ("modules", "models", "losses"):
            text = path.read_text()
            assert not [word for word in ("open(", "read_csv", "np.load", "h5py") if word in text], path


def test_every_test_file_mirrors_a_source_file():
    whole_program = {
        "test_house",
        "test_configs",
        "test_docs",
        "test_notebooks",
        "test_resume",
        "test_kept",
        "test_found_early",
        "test_diverged",
        "test_bad_input",
        "test_damage",
        "test_per_step",
        "test_methods",
        "test_rivals",
        "test_packaging",
        "test_public",
        "test_slurm",
    }
    for path in (ROOT / "tests").rglob("test_*.py"):
        if path.stem in whole_program or {"benchmarks", "extending"} & {*path.parts}:
            continue
        source = ROOT / "mtpkdot" / path.relative_to(ROOT / "tests").parent / f"{path.stem.removeprefix('test_')}.py"
        assert source.is_file(), f"{path} mirrors no file of the package"


@over("wing", WINGS)
def test_no_wing_depends_on_itself_in_a_circle(wing):
    found = arrows(ROOT / "mtpkdot" / wing)
    assert len(found) <= MOST_ARROWS.get(wing, len(found))
    assert not circle(found)


def test_all_is_documented_typed_and_in_short_functions():
    package = ROOT / "mtpkdot"
    length, place = max(functions(package))
    assert length <= 60, place
    assert not [f"{each.place} {each.name}" for each in public(package) if not (each.docstring and each.typed)]
    assert not inverted(package)


def test_circles_and_arrows_are_found(tmp_path):
    package = tmp_path / "own"
    (package / "below").mkdir(parents=True)
    (package / "first.py").write_text("from own.second import x\nfrom .below import y\n")
    (package / "second.py").write_text("def f():\n    import own.below.deep\n")
    (package / "below" / "deep.py").write_text("import json\nfrom ..third import z\n")
    (package / "third.py").write_text("from own import second\n")
    found = arrows(package, tmp_path)
    assert found == {
        ("first", "second"),
        ("first", "below"),
        ("second", "below"),
        ("below", "third"),
        ("third", "second"),
    }
    assert circle(found) == ["below", "third", "second", "below"]
    assert circle(found - {("third", "second")}) == []
