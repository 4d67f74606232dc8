"""What the README shows is run."""

import re
from pathlib import Path

import pytest
import yaml

from mtpkdot.cli.main import VERBS

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_loss_example_runs():
    (example,) = [block for block in blocks("python") if "StructuralTransport" in block]
    names = {}
    exec(example, names)
    assert names["student"].grad.abs().sum() > 0


def test_the_student_example_runs(trained_root):
    import torch

    (checkpoint,) = (trained_root / "stages" / "student").glob("*/model.ckpt")
    (example,) = [block for block in blocks("python") if "StudentModule" in block]
    names = {"video": torch.randn(3, 2, 32), "mask": torch.ones(3, 2, dtype=torch.bool)}
    exec(example.replace("runs/stages/student/<hash>/model.ckpt", str(checkpoint)), names)
    assert names["output"].shape == (3, 4)


def test_the_config_example_parses(tmp_path):
    from mtpkdot.pipeline.config import parse

    (example,) = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(example)
    experiment = parse("fit", ["--config", str(tmp_path / "mine.yaml")])
    assert experiment.data.modality_names == ["face", "wristband"]
    assert set(experiment.config["backbone"]) == {"face", "wristband"}


@pytest.mark.parametrize("command", sorted(set(re.findall(r"mtpkdot (\w+)", README))))
def test_every_command_exists(command):
    assert command in VERBS or command in ("implements", "is")


def test_every_config_that_is_named_exists():
    named = set(re.findall(r"configs/\w+\.yaml", README))
    assert named
    for path in named:
        assert (Path(__file__).parent.parent / path).is_file()
    assert yaml.safe_load(blocks("yaml")[0])["data"]["class_path"] == "FeatureData"
