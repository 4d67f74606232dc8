import subprocess
import sys
import time

import pytest

from mtpkdot.cli.main import VERBS, main


def test_help_answers_in_under_a_second_without_importing_torch():
    program = (
        "import sys; from mtpkdot.cli.main import main; code = main(['--help']);"
        "heavy = {'torch', 'lightning', 'numpy', 'pandas', 'jsonargparse'} & set(sys.modules);"
        "print(heavy, file=sys.stderr); sys.exit(code or bool(heavy))"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    seconds = time.monotonic() - start
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in VERBS)
    assert seconds < 1.0


def test_no_verb_shows_the_help_and_is_a_mistake(capsys):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


def test_an_unknown_verb_names_those_that_exist(complaint):
    assert "fit, stage" in complaint(["fti"])


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mtpkdot ")


@pytest.mark.parametrize("verb", ["fit", "stage", "validate", "test"])
def test_a_verb_without_arguments_says_what_it_needs(verb, complaint):
    assert complaint([verb])


def test_our_own_mistakes_keep_their_traceback(monkeypatch):
    monkeypatch.setitem(VERBS, "fit", ("mtpkdot.cli.no_such_module:fit", ""))
    with pytest.raises(ModuleNotFoundError):
        main(["fit"])
