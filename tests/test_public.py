"""What the package exports: imported only where it is asked for, and with examples that run."""

import doctest
import inspect
import subprocess
import sys
from importlib import import_module

import pytest
import torch

import mtpkdot
from tests.loops import over
from tests.test_house import ROOT, SOURCES

PACKAGES = ("mtpkdot.data", "mtpkdot.losses", "mtpkdot.metrics", "mtpkdot.models")
SHOWING = [path for path in SOURCES if ">>>" in path.read_text()]


def exported(package):
    """Classes and functions that a package exports."""
    module = import_module(package)
    found = [getattr(module, name) for name in module.__all__]
    return [value for value in found if inspect.isclass(value) or inspect.isfunction(value)]


@over("value", [value for package in PACKAGES for value in exported(package)])
def test_every_exported_name_has_an_example(value):
    assert ">>>" in (value.__doc__ or ""), f"{value.__qualname__} has no example"


@over("path", SHOWING)
def test_every_example_runs(path, tmp_path, monkeypatch):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)  # Examples may write files.
    module = import_module(name)
    names = {"torch": torch, "mtpkdot": mtpkdot, **vars(module)}
    report, runner = [], doctest.DocTestRunner(verbose=False)
    for example in doctest.DocTestFinder().find(module, globs=names):
        runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)


def test_the_package_is_imported_without_torch():
    program = (
        "import sys, mtpkdot; from mtpkdot import UserError; assert set(mtpkdot.__all__) <= set(dir(mtpkdot)); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'lightning', 'numpy', 'wandb')))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_every_name_of_the_package_is_there():
    assert mtpkdot.__all__ == sorted(mtpkdot.__all__)
    for name in mtpkdot.__all__:
        assert getattr(mtpkdot, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        mtpkdot.fitt  # noqa: B018
