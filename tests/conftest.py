"""Shared by all tests: a tiny experiment and the real entry point."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml

from mtpkdot.cli.main import main
from mtpkdot.losses import gather
from tests.plugs import gated, hourglass, transport

TINY = {
    "seed_everything": 0,
    "data": {
        "class_path": "PlantedData",
        "init_args": {
            "subjects": 10,
            "samples_per_subject": 12,
            "steps": 2,
            "batch_size": 32,
            "labelled": 0.7,
            "split": {"scheme": "kfold", "folds": 5},
        },
    },
    "trainer": {"accelerator": "cpu"},
    "backbone": {
        name: {
            "model": {"encoder": {"class_path": "FeatureEncoder", "init_args": {"dim": 16}}},
            "fit": {"max_epochs": 2},
        }
        for name in ("video", "signal")
    },
    "teacher": {"model": gated(dim=16, feedforward=16), "fit": {"max_epochs": 2}},
    "adapted": {"fit": {"max_epochs": 2}},
    "hallucinator": {"model": hourglass(hidden=[16]), "fit": {"max_epochs": 2}},
    "student": {"model": gated(dim=16, feedforward=16) | transport(top_k=8), "fit": {"max_epochs": 2}},
    "pipeline": {"name": "tiny"},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of the whole program as slow: those of a trained run, and files that import the entry point."""
    for item in items:
        assert isinstance(item, pytest.Function)
        if getattr(item.module, "main", None) is main or "trained_root" in item.fixturenames:
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of this user's records, which tests do not share with whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        patch.setenv("XDG_STATE_HOME", str(folder))
        patch.delenv("MTPKDOT_TRUST", raising=False)
        yield folder


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny experiment as a file."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def trained_root(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs in which the tiny experiment has been trained; not to be changed."""
    root = tmp_path_factory.mktemp("runs")
    assert main(["fit", "--config", str(tiny_config), "--pipeline.root", str(root)]) == 0
    return root


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that ends in one line, which is returned: exit code 2 for a mistake, 1 for what is in the data."""

    def run(argv: list[str], code: int = 2) -> str:
        capsys.readouterr()
        ended = main(argv)
        captured = capsys.readouterr()
        lines = captured.err.strip().splitlines()
        assert ended == code, captured
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("mtpkdot: error: ")
        return lines[0]

    return run


@pytest.fixture(scope="session")
def biovid_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated BioVid, official layout: 5 people, 3 classes, one clip each; not to be changed."""
    from mtpkdot.data.biovid import twin as biovid

    root = tmp_path_factory.mktemp("twins") / "biovid"
    biovid.synthesize(root, subjects=5, clips=1, classes=("BL1", "PA2", "PA4"), size=48, seed=3)
    return root


@pytest.fixture(scope="session")
def affwild2_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated Aff-Wild2: 6 videos of 40 to 60 frames, with all its oddities; not to be changed."""
    from mtpkdot.data.affwild2 import twin as affwild2

    root = tmp_path_factory.mktemp("twins") / "affwild2"
    affwild2.synthesize(root, videos=6, frames=(40, 60), seed=1)
    return root


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], dict[str, int]]:
    """Bytes of the buffers that collectives fill, in a world of processes that all have the same rows."""
    bytes_of = {"forward": 0, "backward": 0}

    def start(world: int) -> dict[str, int]:
        def all_gather(parts: list[torch.Tensor], own: torch.Tensor) -> None:
            for part in parts:
                part.copy_(own)
            bytes_of["forward"] += sum(part.numel() * part.element_size() for part in parts)

        def all_reduce(tensor: torch.Tensor) -> None:
            bytes_of["backward"] += tensor.numel() * tensor.element_size()

        monkeypatch.setattr(gather, "_several", lambda: True)
        monkeypatch.setattr(dist, "get_world_size", lambda: world)
        monkeypatch.setattr(dist, "get_rank", lambda: 0)
        monkeypatch.setattr(dist, "all_gather", all_gather)
        monkeypatch.setattr(dist, "all_reduce", all_reduce)
        return bytes_of

    return start
