"""Where the packages of all extras are missing, features are trained on, and the rest is one line before any work."""

import contextlib
import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml

from mtpkdot.cli.main import main
from mtpkdot.extras import PACKAGES
from tests.conftest import TINY
from tests.data.helpers import Study, write_arrays

ROOT = Path(__file__).parent.parent
EXTRAS = ("video", "tables", "report", "slurm", "tensorboard")
# Hides packages, then runs commands one after the other: prints how each ended, what it said and what it left behind.
PROGRAM = """
import contextlib, io, json, sys
from importlib.machinery import PathFinder
from pathlib import Path

modules, packages, commands = json.loads(Path("commands.json").read_text())

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in modules else PathFinder.find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, context):
        return () if context.name in packages else PathFinder.find_distributions(context)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
import mtpkdot.losses, mtpkdot.models
from mtpkdot.cli.main import main

for name, command in commands.items():
    before = set(Path().rglob("*"))
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = main(command)
    left = sorted(str(path) for path in set(Path().rglob("*")) - before)
    print(json.dumps({"name": name, "code": code, "said": said.getvalue().splitlines(), "left": left}))
"""
WITHOUT = {
    "fit on videos": ("reading and writing pictures needs OpenCV", "video"),
    "fit on a finished store": ("reading and writing pictures needs OpenCV", "video"),
    "data check of videos": ("reading and writing pictures needs OpenCV", "video"),
    "data prepare": ("reading and writing pictures needs OpenCV", "video"),
    "data synthesize": ("reading and writing pictures needs OpenCV", "video"),
    "fit on .h5": ("reading .h5 files needs h5py", "tables"),
    "data check of .h5": ("reading .h5 files needs h5py", "tables"),
    "report": ("drawing a report needs Matplotlib", "report"),
    "crossval --submit": ("crossval --submit needs submitit", "slurm"),
    "TensorBoardLogger": ("the TensorBoardLogger needs TensorBoard", "tensorboard"),
}


def of_extras():
    """The modules and the packages that the extras bring."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    packages = [requirement.partition(">")[0] for extra in EXTRAS for requirement in extras[extra]]
    modules = set(PACKAGES)
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            modules |= {file.parts[0].removesuffix(".py") for file in distribution(package).files or []}
    return sorted(modules), packages


@pytest.fixture(scope="module")
def ended(tmp_path_factory, biovid_twin, tiny_config):
    """By its name, how each command ended in a process that has no extras."""
    work = tmp_path_factory.mktemp("work")
    raw = ["--config", str(ROOT / "configs/biovid.yaml"), f"--data.root={biovid_twin}", "--data.pictures.crop=whole"]
    raw += ["--data.pictures.size=32", "--data.prepare_workers=1"]
    assert main(["data", "prepare", *raw, f"--data.store={work}/finished"]) == 0
    study = Study(work)
    study.paths["video"] = write_arrays(work / "video.h5", study.features["video"], study.ids)
    features = study.data()
    section = {"manifest": str(features.manifest), "features": {k: str(v) for k, v in features.features.items()}}
    data = {"class_path": "FeatureData", "init_args": {**section, "target": "label", "prevalent": "video"}}
    (work / "h5.yaml").write_text(yaml.safe_dump({**TINY, "data": data}))
    (work / "sbatch").touch(mode=0o755)
    tiny = ["--config", str(tiny_config)]
    commands = {
        "fit on features": ["fit", *tiny],
        "fit on videos": ["fit", *raw, "--data.store=store"],
        "fit on a finished store": ["fit", *raw, "--data.store=finished"],
        "data check of videos": ["data", "check", *raw, "--data.store=store"],
        "data prepare": ["data", "prepare", *raw, "--data.store=store"],
        "data synthesize": ["data", "synthesize", "biovid", "twin"],
        "fit on .h5": ["fit", "--config", "h5.yaml"],
        "data check of .h5": ["data", "check", "--config", "h5.yaml"],
        "report": ["report", "runs/tiny", "--out", "report"],
        "crossval --submit": ["crossval", *tiny, "--methods", "none,kd", "--submit", "2"],
        "TensorBoardLogger": ["fit", *tiny, "--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=logs"],
    }
    (work / "commands.json").write_text(json.dumps([*of_extras(), commands]))
    there = {**os.environ, "PATH": f"{work}{os.pathsep}{os.environ['PATH']}"}
    program = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    done = subprocess.run(program, cwd=work, env=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {one["name"]: one for one in map(json.loads, done.stdout.splitlines())}


def test_features_are_trained_on_without_any_extra(ended):
    assert ended["fit on features"]["code"] == 0, ended["fit on features"]
    assert "runs/tiny/results.json" in ended["fit on features"]["left"]


@pytest.mark.parametrize("name", WITHOUT)
def test_a_missing_package_is_one_line_and_nothing_is_written(name, ended):
    what, extra = WITHOUT[name]
    line = f"mtpkdot: error: {what}, which is not installed. Install it with `pip install 'mtpkdot[{extra}]'`."
    assert ended[name] == {"name": name, "code": 2, "said": [line], "left": []}


def test_tensorboard_shows_the_curves_of_a_stage(tiny_config, tmp_path):
    pytest.importorskip("tensorboard")
    logger = ["--trainer.logger=TensorBoardLogger", f"--trainer.logger.save_dir={tmp_path}/logs"]
    words = ["stage", "backbone.video", "--config", str(tiny_config), f"--pipeline.root={tmp_path}/runs", *logger]
    assert main(words) == 0
    assert list(tmp_path.glob("logs/lightning_logs/backbone.video/version_0/events.out.tfevents.*"))
