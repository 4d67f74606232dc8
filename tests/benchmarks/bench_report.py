"""A study of a thousand cells (made-up predictions): describing it, and a report that names those which are missing."""

import subprocess
import sys

import pytest

from mtpkdot.report.gather import gather, of_study
from tests.report.fake import study, write

METHODS = ["none", "pkdot", "mtpkdot", "mtpkdot_plus", "kd", "sp", "rkd", "fitnets", "selftraining"]


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    made = study(tmp_path_factory.mktemp("thousand") / "study", METHODS, folds=10, seeds=10)
    cells = list(made.cells())
    assert len(cells) == 1000
    gone = {cells[i].place for i in (17, 500)}
    write(made, skip=gone)
    return made, gone


@pytest.mark.benchmark(group="1,000 cells")
def bench_describe(benchmark, thousand):
    made, _ = thousand
    assert len(benchmark(lambda: list(made.cells()))) == 1000


@pytest.mark.benchmark(group="1,000 cells")
def bench_gather(benchmark, thousand):
    made, gone = thousand
    found = benchmark.pedantic(lambda: gather(of_study(made)), rounds=3)
    assert {place.removeprefix(f"{made.folder.name}/") for place in found.missing} == gone


@pytest.mark.benchmark(group="1,000 cells")
def bench_report(benchmark, thousand, tmp_path):
    made, gone = thousand
    line = [sys.executable, "-m", "mtpkdot", "report", str(made.folder), "--out", str(tmp_path)]
    benchmark.pedantic(lambda: subprocess.run(line, check=True, capture_output=True), rounds=2)
    text = (tmp_path / "report.md").read_text()
    assert all(place in text for place in gone)
