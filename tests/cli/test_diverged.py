"""Trainings that diverge: one line, exit code 1, and everybody else's results."""

import json

import pandas as pd
import pytest
import torch
import yaml

from mtpkdot.cli.main import main
from mtpkdot.models import FeatureEncoder

ME = "tests.cli.test_diverged"
LOST = ["--student.model.lr=1e30", "--student.fit.gradient_clip_val=null"]


class _Spoil(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


class Spoiled(FeatureEncoder):
    """Goes wrong in the second epoch of its training.

    Args:
        steps: as for every encoder.
        how: `gradient`, or `output` where it is evaluated.
        dim: size of the features.
    """

    def __init__(self, steps, how: str = "output", dim: int = 16):
        super().__init__(steps, dim)
        self.how, self.calls = how, 0

    def forward(self, x, mask):
        """Encode."""
        features, mask = super().forward(x, mask)
        self.calls += self.training
        late = self.calls > 2  # there are two batches
        if late and self.how == "gradient" and self.training:
            features = _Spoil.apply(features)
        if late and self.how == "output" and not self.training:
            features = features.masked_fill(torch.arange(len(features))[:, None, None] == 1, float("inf"))
        return features, mask


def of_video(config, root, *words):
    return ["fit", "--config", str(config), f"--pipeline.root={root}", "--pipeline.stages=[backbone.video]", *words]


@pytest.mark.parametrize("how", ["gradient", "output"])
def test_divergence_is_reported_with_stage_epoch_and_value_and_the_last_good_epoch_is_kept(
    how, tiny_config, tmp_path, capsys
):
    encoder = [f"--backbone.video.model.encoder={ME}.Spoiled", f"--backbone.video.model.encoder.how={how}"]
    assert main(of_video(tiny_config, tmp_path, *encoder, "--backbone.video.fit.max_epochs=4")) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "backbone.video diverged in epoch 2" in line
    assert how in line
    (folder,) = (tmp_path / "stages" / "backbone.video").glob(".*.partial")
    best = torch.load(folder / "best.ckpt", weights_only=True)
    assert best["epoch"] == 0
    assert all(value.isfinite().all() for value in best["state_dict"].values())
    assert torch.load(folder / "last.ckpt", weights_only=True)["epoch"] == 0
    assert not list((tmp_path / "stages" / "backbone.video").glob("[!.]*"))


def test_a_loss_that_is_not_finite_is_reported_and_again_when_the_command_is_repeated(tiny_config, tmp_path, capsys):
    words = ["--backbone.video.model.lr=1e30", "--backbone.video.fit.gradient_clip_val=null"]
    for _ in range(2):
        assert main(of_video(tiny_config, tmp_path, *words)) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "diverged in epoch" in line
        assert "backbone.video.model.lr" in line


def test_in_a_study_the_others_have_their_tables_and_the_one_that_diverged_is_named(tiny_config, tmp_path, capsys):
    lost = {word[2:].partition("=")[0]: word.partition("=")[2] for word in LOST}
    lost = {key: yaml.safe_load(value) if value != "1e30" else 1e30 for key, value in lost.items()}
    file = tmp_path / "lost.yaml"
    variants = {"none": {"student.model.method": "none"}, "lost": {"student.model.method": "pkdot", **lost}}
    file.write_text(yaml.safe_dump({"config": str(tiny_config), "variants": variants, "folds": 2}))
    command = ["crossval", "--ablation", str(file), f"--pipeline.root={tmp_path}", "--jobs", "1"]
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert "diverged: student diverged in epoch" in printed
    study = tmp_path / "lost"
    summary = (study / "summary.md").read_text()
    assert "Diverged, and not in these tables: lost/all/lost/fold0-seed0, lost/all/lost/fold1-seed0" in summary
    values = pd.read_csv(study / "results.csv")
    assert {"none", "teacher", "base"} <= set(values["method"])
    assert "lost" not in set(values["method"])
    assert values.loc[values["metric"] == "accuracy", "value"].notna().all()
    assert main(["report", str(study), "--out", str(tmp_path / "report")]) == 0
    assert "diverged: student diverged in epoch" in (tmp_path / "report" / "report.md").read_text()


def test_a_training_that_time_cuts_short_is_marked_and_not_taken_by_one_without_the_limit(
    tiny_config, tmp_path, capsys, monkeypatch
):
    epochs = "--backbone.video.fit.max_epochs=100000"
    assert main(of_video(tiny_config, tmp_path, epochs, "--trainer.max_time=00:00:00:02")) == 0
    printed = capsys.readouterr().out
    assert "cut short by trainer.max_time" in printed
    (folder,) = (tmp_path / "stages" / "backbone.video").iterdir()
    (note,) = json.loads((folder / "stage.json").read_text())["notes"]
    assert "of 100000 epochs" in note
    assert f"backbone.video {note}." in (tmp_path / "tiny" / "results.md").read_text()
    assert {row["note"] for row in json.loads((tmp_path / "tiny" / "results.json").read_text())} == {note}
    # The same limit finds it, another one, or none, does not.
    assert main(of_video(tiny_config, tmp_path, epochs, "--trainer.max_time=00:00:00:02")) == 0
    assert "taken from" in capsys.readouterr().out
    assert main(of_video(tiny_config, tmp_path, epochs, "--trainer.max_time=00:00:00:03", "--pipeline.name=b")) == 0
    assert "taken from" not in capsys.readouterr().out
