import sys

import pandas as pd
import pytest

from mtpkdot.cli.main import main
from tests.report.test_page import Outline


def test_a_single_run_has_a_report_with_every_figure(trained_root, tmp_path, capsys):
    assert main(["report", str(trained_root / "tiny"), "--out", str(tmp_path / "out")]) == 0
    *printed, step = capsys.readouterr().out.splitlines()
    assert printed == [str(tmp_path / "out" / name) for name in ("report.html", "report.md", "results.csv")]
    assert step == f"Next: open {printed[0]} in a browser"
    text = (tmp_path / "out" / "report.md").read_text()
    wanted = ["Results", "Gains per subject", "Confusion of the classes", "Calibration", "Learning curves"]
    wanted += ["Which teacher was chosen", "Teacher and student spaces", "What ran", "What is missing"]
    assert [line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")] == wanted
    assert "left out" not in text
    assert "Nothing: every run is finished." in text
    for words in ("sorted by class", "t-SNE", "of the mass stays", "Share of each teacher by epoch"):
        assert words in text
    outline = Outline((tmp_path / "out" / "report.html").read_text())
    assert outline.tags.count("figure") == 9
    table = pd.read_csv(tmp_path / "out" / "results.csv")
    assert {"mtpkdot", "backbone.video", "teacher"} <= set(table["method"])
    # One run has no student without teachers, and so no base.
    assert "base" not in set(table["method"])
    assert "No base for mtpkdot" in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["runs", "--out"]),
        (["x"], ["--out"]),
        (["nowhere", "--out", "out"], ["nowhere", "neither a study nor a run"]),
        (["x", "--out", "out", "--dark"], ["--dark"]),
    ],
)
def test_a_mistake_is_one_line(argv, words, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = complaint(["report", *argv])
    assert all(word in line for word in words), line
    assert not list(tmp_path.iterdir())


def test_a_report_does_not_take_the_place_of_a_runs_own_tables(trained_root, complaint):
    folder = trained_root / "tiny"
    before = sorted(path.name for path in folder.iterdir())
    assert f"--out {folder} is the folder of a study or run" in complaint(["report", str(folder), "--out", str(folder)])
    assert sorted(path.name for path in folder.iterdir()) == before


def test_help_draws_nothing():
    import subprocess

    code = "import sys; from mtpkdot.cli.main import main; main(['--help']); print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "report " in done.stdout
