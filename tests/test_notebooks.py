"""The notebooks run, in order, shrunk in epochs only."""

import json
from pathlib import Path

import pytest

import mtpkdot.cli.main

pytestmark = pytest.mark.slow
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
    SHOWN[path.stem](tmp_path, names)


def first_run(folder, names):
    assert (folder / "runs" / "planted" / "results.json").is_file()
    assert len(names["people"]) == 8


def transport_loss(folder, names):
    assert names["modes"]["same"].abs().max() < 1e-5
    assert names["modes"]["rotated"].abs().max() < 1e-3
    assert names["modes"]["student"].min() > 0.01
    assert all(row[3] < 1e-6 for row in names["convergence"])
    assert names["course"][-1][0] < names["course"][0][0] / 5


def what_pays(folder, names):
    trust = names["trust"]
    assert (trust["better"] > 0.99).all()
    assert (trust["noise"] < 0.01).all()


SHOWN = {"01_first_run": first_run, "03_transport_loss": transport_loss, "05_what_pays": what_pays}


def test_every_notebook_is_looked_at():
    assert {path.stem for path in NOTEBOOKS} == set(SHOWN)
