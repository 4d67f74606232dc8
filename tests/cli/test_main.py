import subprocess
import sys
import time

import pytest
import torch

from mtpkdot.cli.help import SECTIONS
from mtpkdot.cli.main import VERBS, main


@pytest.mark.parametrize("argv", [["--help"], ["fit", "--help"], ["stage", "--help"]], ids=" ".join)
def test_help_is_short_and_answers_in_under_a_second_without_importing_torch(argv):
    program = (
        f"import sys; from mtpkdot.cli.main import main; code = main({argv});"
        "heavy = {'torch', 'lightning', 'numpy', 'pandas', 'jsonargparse'} & set(sys.modules);"
        "print(heavy, file=sys.stderr); sys.exit(code or bool(heavy))"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    seconds = time.monotonic() - start
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in (VERBS if argv == ["--help"] else SECTIONS))
    assert len(done.stdout.splitlines()) <= 40
    assert seconds < 1.0


def test_a_closed_pipe_is_not_an_error():
    line = [sys.executable, "-m", "mtpkdot", "fit", "--help"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_call_without_a_verb_shows_the_help_and_fails(capsys):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


def test_an_unknown_verb_names_those_that_exist(complaint):
    assert "fit, stage" in complaint(["fti"])


def test_the_versions_and_devices_are_reported(capsys):
    assert main(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["mtpkdot", "Python", "torch", "lightning", "POT", "devices:"]
    assert f"torch {torch.__version__.partition('+')[0]}" in [line.partition("+")[0] for line in lines]
    assert "cpu with " in lines[-1]


@pytest.mark.parametrize("verb", ["fit", "stage", "validate", "test"])
def test_a_verb_without_arguments_says_what_it_needs(verb, complaint):
    assert complaint([verb])


def test_internal_errors_keep_their_traceback(monkeypatch):
    monkeypatch.setitem(VERBS, "fit", ("mtpkdot.cli.no_such_module:fit", ""))
    with pytest.raises(ModuleNotFoundError):
        main(["fit"])
