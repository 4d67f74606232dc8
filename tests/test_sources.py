"""Digests follow what is run, through imports, and nothing else."""

import ast
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from mtpkdot.errors import ConfigError
from mtpkdot.sources import sources
from mtpkdot.syntax import File

FIRST = """
import json
from own.second import helper as renamed
from own import third


class Base:
    def work(self, x: int = 1) -> int:
        return renamed(x)


class Model(Base):
    def late(self):
        from own.fourth import late

        return late() + third.used()


class Spare:
    pass
"""
FILES = {
    "__init__": "from own.first import Model\n",
    "first": FIRST,
    "second": "def helper(x):\n    return x + OFFSET\n\n\nOFFSET = 1\nUNUSED = 2\n",
    "third": "def used():\n    return 1\n\n\ndef unused():\n    return 2\n",
    "fourth": "TABLE = {}\n\n\ndef late():\n    return len(TABLE)\n\n\nTABLE['a'] = 1\n",
    "fifth": "VALUE = 1\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the user's; `change(module, old, new)` rewrites a file and says which digests differ then."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "own"]:
        monkeypatch.delitem(sys.modules, name)
    before = sources(["own.Model"]).files

    def change(module, old, new):
        text = FILES[module].replace(old, new, 1)
        assert text != FILES[module]
        (folder / f"{module}.py").write_text(text)
        after = sources(["own.Model"]).files
        (folder / f"{module}.py").write_text(FILES[module])
        return {name for name in {*before, *after} if before.get(name) != after.get(name)}

    change.before = before
    return change


def test_installed_packages_are_left_out_and_other_files_named_as_imported(package):
    assert list(package.before) == ["own/first.py", "own/fourth.py", "own/second.py", "own/third.py"]


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("first", "return renamed(x)", "return -renamed(x)"),
        ("first", "class Model(Base)", "class Model(Base, metaclass=type)"),
        ("second", "OFFSET = 1", "OFFSET = 3"),
        ("third", "return 1", "return 3"),
        ("fourth", "TABLE['a'] = 1", "TABLE['b'] = 1"),
        ("fourth", "return len(TABLE)", "return 2 * len(TABLE)"),
        ("first", "x: int = 1", "x: int = 2"),
        ("first", "x: int = 1", "*x"),
    ],
)
def test_code_that_is_run_changes_the_digest(package, module, old, new):
    assert package(module, old, new) == {f"own/{module}.py"}


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("first", "    def late(self):", '    def late(self):\n        """Return it late."""'),
        ("first", "class Spare:\n    pass", "class Spare:\n    answer = 1"),
        ("first", "import json", "import json\nimport os\n\n# Nothing."),
        ("first", "x: int = 1) -> int", "x: float = 1, more=None)"),
        (
            "first",
            "import json",
            "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from own.fifth import VALUE",
        ),
        ("second", "UNUSED = 2", "UNUSED = 3"),
        ("third", "return 2", "return 4"),
        ("fifth", "VALUE = 1", "VALUE = 2"),
        ("__init__", "\n", "\nfrom own.fifth import VALUE\n"),
    ],
)
def test_code_that_is_not_run_changes_no_digest(package, module, old, new):
    assert package(module, old, new) == set()


def test_an_import_of_everything_and_a_relative_one_are_followed(package):
    assert package(
        "first", "from own.second import helper as renamed", "from own.second import *\nrenamed = helper"
    ) == {"own/first.py"}
    assert package("first", "from own.second import", "from .second import") == set()
    assert package("first", "from own import third", "from . import third") == set()
    assert package("first", "import json", "from own.fifth import VALUE") == set()


def test_a_registration_counts_although_nobody_names_it(package):
    added = "@register\nclass Extra:\n    pass\n\n\ndef register(x):\n    return x\n\n\nclass Spare"
    assert package("first", "class Spare", added) == {"own/first.py"}


def test_a_name_that_a_package_imports_when_it_is_asked_for_is_found():
    lazily, plainly = sources(["mtpkdot.data.FeatureData"]), sources(["mtpkdot.data.tables.data.FeatureData"])
    assert lazily == plainly
    assert "mtpkdot/data/tables/manifest.py" in lazily.files


def test_instances_stand_for_their_classes(package):
    model = import_module("own").Model
    assert sources([model()]).files == sources([model]).files == sources([model().late]).files == package.before
    assert sources(["own.first.Model.late"]).files == package.before


def test_methods_and_tables_can_be_left_out(package):
    assert "own/fourth.py" not in sources(["own.Model"], without={"late"}).files
    assert "own/second.py" not in sources(["own.Model"], cut={"own.second.helper"}).files
    assert list(sources([], alone=[("own.first", "Model")]).files) == ["own/first.py"]


def test_revisions_are_found_by_class(package, tmp_path):
    text = FIRST.replace("class Base:", "class Base:\n    revision = 3")
    (tmp_path / "own" / "first.py").write_text(text)
    found = sources(["own.Model"])
    assert found.revisions == {"own.first.Base": 3}
    assert found.files == package.before


def test_a_file_that_is_not_python_is_one_line(package, tmp_path):
    (tmp_path / "own" / "third.py").write_text("def used(:\n")
    with pytest.raises(ConfigError, match=r"third\.py, line 1: "):
        sources(["own.Model"])


STATEMENTS = """
try:
    import a as b
except ImportError:
    b = None
c = d = 1
if TYPE_CHECKING:
    import e
else:
    import f
e = {x: y for x, y in c}
"""


def test_statements_are_known_by_the_names_that_they_define():
    file = File("m", "m.py", False, ast.parse(STATEMENTS).body)
    assert file.imports == {"b": ("a", None), "f": ("f", None)}
    assert set(file.defined) == {"b", "c", "d", "e"}
    assert file.always == [0]


def test_packages_on_the_users_path_do_not_count_as_own_code():
    import torch

    root, places = Path(__file__).parent.parent, Path(torch.__file__).parent.parent
    program = "from mtpkdot.sources import sources; print('\\n'.join(sources(['mtpkdot.models.Head']).files))"
    there = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{places}"}
    # -S: Python knows of no other place where packages lie.
    done = subprocess.run([sys.executable, "-S", "-c", program], env=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    assert all(file.startswith("mtpkdot/") for file in done.stdout.split())
    assert "mtpkdot/models/head.py" in done.stdout.split()
