"""Several processes compute the features of frozen encoders in shares, which are those of one process."""

import shutil
from pathlib import Path

import pytest

from tests.data.fake_clips import reads
from tests.pipeline.processes import run
from tests.pipeline.test_features import Project


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> Project:
    """An experiment of five batches and a part of one, whose backbones are trained."""
    project = Project(tmp_path_factory.mktemp("shares"), epochs=1, views=2, absent=0.2, batch_size=11)
    project("fit", "--pipeline.stages", "[backbone]")
    shutil.rmtree(project.root / "features", ignore_errors=True)
    return project


def teacher(project: Project, world: int, folder: Path) -> tuple[dict[str, bytes], dict[str, list[tuple[int, int]]]]:
    """Train a teacher in so many processes; returns the files of the features, and what was read."""
    root = folder / "runs"
    shutil.copytree(project.root / "stages", root / "stages")
    reads(project.log)
    stages = ["--pipeline.stages", "[teacher]", "--pipeline.root", str(root)]
    run(world, ["fit", *project.arguments(*stages)], log=folder / "log")
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.glob("features/**/*") if path.is_file()}
    return files, reads(project.log)


@pytest.mark.parametrize("world", [2, 3])
def test_files_are_the_same_to_the_bit_and_everything_is_read_once(world, backbones, tmp_path):
    alone, once = teacher(backbones, 1, tmp_path / "one")
    shared, shares = teacher(backbones, world, tmp_path / "many")
    assert len([name for name in alone if name.endswith("features.npy")]) == 4
    assert shared == alone
    for modality, pairs in once.items():
        assert sorted(shares[modality]) == sorted(pairs)
        assert len(set(pairs)) == len(pairs)


def test_more_processes_than_batches_do_no_harm(backbones, tmp_path):
    root = tmp_path / "runs"
    # One batch has all: the second process has nothing to do.
    options = ["--data.init_args.batch_size", "60", "--pipeline.stages", "[backbone,teacher]"]
    line = ["fit", *backbones.arguments(*options, "--pipeline.root", str(root))]
    run(2, line, log=tmp_path / "log")
    shared = {path: path.read_bytes() for path in root.glob("features/*/*/*")}
    shutil.rmtree(root / "features")
    shutil.rmtree(root / "stages" / "teacher")
    run(1, line, log=tmp_path / "log")
    assert {path: path.read_bytes() for path in root.glob("features/*/*/*")} == shared != {}
