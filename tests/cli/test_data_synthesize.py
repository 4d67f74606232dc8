"""`mtpkdot data synthesize` through the real entry point."""

import pytest

from mtpkdot.cli.main import main

BIOVID = ["--subjects", "1", "--clips", "1", "--classes", "BL1", "--size", "32", "--workers", "1"]


def test_biovid_is_written_where_it_should_be(tmp_path, capsys):
    out = tmp_path / "twin"
    assert main(["data", "synthesize", "biovid", str(out), *BIOVID]) == 0
    printed = capsys.readouterr()
    assert "1 clips (BL1) of 1 generated people" in printed.out
    assert "say nothing about pain or people" in printed.out
    assert not printed.err
    assert len(list(out.rglob("*.mp4"))) == 1


def test_affwild2_is_written_where_it_should_be(tmp_path, capsys):
    out = tmp_path / "twin"
    argv = ["data", "synthesize", "affwild2", str(out), "--videos", "5", "--frames", "20", "24", "--workers", "1"]
    assert main(argv) == 0
    assert "5 generated videos" in capsys.readouterr().out
    assert len([*out.glob("batch*/*")]) == 5


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "required"),
        (["kinetics", "out"], "invalid choice"),
        (["biovid"], "OUT"),
        (["biovid", "out", "--subjects", "0"], "0 subjects"),
        (["biovid", "out", "--classes", "PA9"], "PA9"),
        (["affwild2", "out", "--videos", "2"], "2 videos are too few"),
        (["affwild2", "out", "--frames", "30"], "expected 2 arguments"),
        (["biovid", "out", "--workers", "0"], "0 workers"),
        (["biovid", "out", "--sub", "3"], "unrecognized"),
    ],
)
def test_mistakes_leave_nothing_behind(argv, says, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in complaint(["data", "synthesize", *argv])
    assert not list(tmp_path.iterdir())
