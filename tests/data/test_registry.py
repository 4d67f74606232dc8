"""Every built-in data set is in one table, and what the table names is there."""

import subprocess
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

from mtpkdot.data.base import BaseData
from mtpkdot.data.media.base import MediaData
from mtpkdot.data.registry import DATA_SETS, IMPORTERS, RAW, TWINS
from tests.loops import over

ROOT = Path(__file__).parents[2]


@over("name", DATA_SETS)
def test_every_name_of_the_table_exists(name):
    entry = DATA_SETS[name]
    assert issubclass(entry.data_class, BaseData)
    assert issubclass(entry.data_class, MediaData) == entry.raw == (name in RAW)
    assert (ROOT / "configs" / f"{name}.yaml").is_file()
    if entry.twin is not None:
        twin = import_module(entry.twin)
        assert {"out", "seed", "workers", "progress"} <= signature(twin.synthesize).parameters.keys()
        assert entry.data_class.twin or callable(twin.add_arguments)
    if entry.importer is not None:
        parameters = signature(import_module(entry.importer.module).convert).parameters
        assert {"source", "out", *entry.importer.options} <= parameters.keys()


def test_every_folder_of_a_data_set_and_every_importer_is_in_the_table():
    data = ROOT / "mtpkdot" / "data"
    assert {path.parent.name for path in data.glob("*/twin.py")} == set(TWINS) == set(RAW)
    assert {path.stem for path in (data / "tables" / "importers").glob("[!_]*.py")} == set(IMPORTERS)


def test_every_data_set_from_outside_has_a_card():
    data = ROOT / "mtpkdot" / "data"
    assert {path.parent.name for path in data.glob("*/README.md")} == set(RAW)
    assert {path.stem for path in (data / "tables" / "importers").glob("*.md")} == set(IMPORTERS)


def test_looking_up_a_data_set_imports_no_torch():
    program = "import sys, mtpkdot.data.registry; print({'torch', 'lightning', 'pandas'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "set()\n"
