"""How far work has come, in a terminal and in a log."""

import sys

import pytest

from mtpkdot import progress


@pytest.fixture
def at_once(monkeypatch):
    """A log without a minute between its lines."""
    monkeypatch.setattr(progress, "_MINUTE", 0.0)


def test_a_log_has_a_line_each_time_and_no_control_characters(at_once, capsys):
    with progress.progress(4, 1, "study", "cell") as bar:
        bar.update()
        bar.update(2)
    told = capsys.readouterr()
    assert not told.out
    lines = told.err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "study: 1 of 4 cells",
        "study: 2 of 4 cells",
        "study: 4 of 4 cells",
        "study: 4 of 4 cells",
    ]
    assert "\r" not in told.err
    assert lines[0].endswith("? left")


def test_work_of_less_than_a_minute_leaves_no_line_in_a_log(capsys):
    with progress.progress(1000, 0, "study", "cell") as bar:
        for _ in range(1000):
            bar.update()
    assert not capsys.readouterr().err


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.progress(4, 0, "study", "cell") as bar:
        bar.update(4)
    assert "\rstudy: 100%" in capsys.readouterr().err
