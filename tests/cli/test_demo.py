import json

from mtpkdot.cli import demo
from mtpkdot.cli.main import main

SMALL = ["--subjects", "10", "--clips", "2", "--classes", "BL1", "PA4", "--size", "96", "--workers", "1"]


def test_the_demo_goes_from_nothing_to_a_report_and_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "_TWIN", [*SMALL, "--people", "reactive", "--expression", "4"])
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--seed", "3"]) == 0
    rows = json.loads((tmp_path / "runs/demo-3/results.json").read_text())
    assert {row["stage"] for row in rows} == {"backbone", "teacher", "adapted", "pool", "student"}
    assert (tmp_path / "reports/demo-3/report.html").is_file()
    told = capsys.readouterr().out
    for command in ("mtpkdot crossval --config", "mtpkdot init FOLDER", "mtpkdot data check biovid FOLDER"):
        assert command in told
    assert main(["demo", "--seed", "3"]) == 0
    again = capsys.readouterr().out
    assert "are in data/demo-3" in again
    assert again.count("taken from") == 7


def test_a_negative_seed_is_one_line(complaint):
    assert "--seed is -1" in complaint(["demo", "--seed", "-1"])
