"""The notebooks run, in order, shrunk in epochs only."""

import json
from pathlib import Path

import pytest

import mtpkdot.cli.main

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path, tmp_path, monkeypatch):
    sections = ["backbone.video", "backbone.signal", "teacher", "adapted", "hallucinator", "student"]
    shrink = [argument for section in sections for argument in (f"--{section}.fit.max_epochs", "1")]
    original = mtpkdot.cli.main.main
    monkeypatch.setattr(mtpkdot.cli.main, "main", lambda argv: original([*argv, *shrink]))
    # Its runs belong into the test's folder.
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in cells)
    names = {}
    for cell in cells:
        exec("".join(cell["source"]), names)
    assert (tmp_path / "runs" / "planted" / "results.json").is_file()
    assert len(names["people"]) == 8


def test_there_is_a_notebook():
    assert NOTEBOOKS
