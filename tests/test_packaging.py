"""What others install: the wheel holds all of the package and runs elsewhere, and each bound names a version."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.minimum import constraints

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("mtpkdot", "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(out)]
    done = subprocess.run([*pip, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_with_its_configs_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "mtpkdot").rglob("*.py")}
    configs = {f"mtpkdot/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.*")}
    cards = {str(path.relative_to(ROOT)) for path in (ROOT / "mtpkdot").rglob("*.md")}
    assert held == sources | configs | cards | {"mtpkdot/py.typed"}
    assert {"video", "tables", "report", "slurm", "tensorboard", "all", "dev"} == set(
        re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE)
    )


def test_the_unpacked_wheel_runs_its_own_config_elsewhere(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    work = tmp_path / "work"
    work.mkdir()
    command = ["fit", "--config", "configs/planted.yaml", "--print_config"]
    done = subprocess.run(
        [sys.executable, "-m", "mtpkdot", *command],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "class_path: mtpkdot.PlantedData" in done.stdout
    assert done.stderr.endswith(f"ships: {tmp_path}/site/mtpkdot/configs/planted.yaml\n")


def test_every_requirement_has_a_lowest_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    required = [*project["dependencies"], *(requirement for extra in extras.values() for requirement in extra)]
    others = [requirement for requirement in required if not requirement.startswith("mtpkdot[")]
    assert len(constraints()) == len(others)
    assert "torch==2.6" in constraints()


def test_all_is_every_extra_but_that_of_developers():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["all"] == [f"mtpkdot[{','.join(name for name in extras if name not in ('all', 'dev'))}]"]
    assert extras["dev"][0] == "mtpkdot[all]"
