"""The notebooks run in a clean kernel, in order, shrunk; what is stored of their outputs is small and of one run."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 500_000  # bytes of a notebook with its outputs

# Before the first cell: fewer passes, and a smaller twin of BioVid.
SHRINK = """
import mtpkdot.cli.experiment as _experiment
from mtpkdot.cli import demo as _demo

_sections = ["backbone.{}".format(name) for name in SECTIONS] + ["teacher", "adapted", "hallucinator", "student"]
_fit = _experiment.fit
_experiment.fit = lambda argv: _fit([*argv, *(f"--{name}.fit.max_epochs=1" for name in _sections)])
_demo._TWIN = "--subjects 10 --clips 2 --classes BL1 PA4 --size 96 --people reactive --expression 4 --workers 1".split()
"""
# Modalities of the notebook's experiment, and what must hold after its last cell.
CHECKED = {
    "01_first_run": (["video", "gsr"], 'assert len(people) >= 3 and Path("reports/demo/report.html").is_file()'),
    "02_own_data": (
        ["lower", "upper"],
        'assert set(of_student["prediction"]) <= set(map(str, range(10))) and len(of_student) == 697\n'
        'assert Path("reports/mine/report.html").is_file()',
    ),
    "03_transport_loss": (
        [],
        'assert modes["same"].abs().max() < 1e-5 and modes["rotated"].abs().max() < 1e-3\n'
        'assert modes["student"].min() > 0.01\n'
        'assert modes["shuffled"]["gromov"] < 1e-3 < modes["shuffled"]["rows"]\n'
        'assert convergence["marginal error"].max() < 1e-6\n'
        'assert wide["overlapping"].is_monotonic_decreasing\n'
        'assert wide["partners"].iloc[0] < wide["overlapping"].iloc[0]\n'
        "assert course[-1][0] < course[0][0] / 5",
    ),
    "05_what_pays": ([], 'assert (trust["better"] > 0.99).all() and (trust["noise"] < 0.01).all()'),
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    notebook = nbformat.read(path, as_version=4)
    sections, check = CHECKED[path.stem]
    if sections:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(SHRINK.replace("SECTIONS", repr(sections))))
    notebook.cells.append(nbformat.v4.new_code_cell(check))
    # A cell that fails raises here with its traceback.
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebooks_were_run_from_top_to_bottom_and_are_small(path):
    assert path.stat().st_size < LARGEST
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)
    assert str(ROOT.parent) not in path.read_text()


def test_every_notebook_is_checked():
    assert {path.stem for path in NOTEBOOKS} == set(CHECKED)
