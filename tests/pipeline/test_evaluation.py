"""The number of processes, and the machine, change nothing of an evaluation."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from mtpkdot import progress
from mtpkdot.cli.main import main
from mtpkdot.errors import DataError
from mtpkdot.modules import StageModule
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.elsewhere import as_trained
from mtpkdot.pipeline.jobs import make_jobs, wanted_stages
from tests.data.fake_clips import reads
from tests.pipeline.processes import run
from tests.pipeline.test_features import Project


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """Trained in one process: targets per step, parts of two batches and a piece, 11 samples to submit."""
    made = Project(
        tmp_path_factory.mktemp("evaluation"), 1, batch_size=5, steps_have_targets=True, absent=0.2, asked=11
    )
    made("fit", "--trainer.precision", "64-true")
    shutil.rmtree(made.root / "features")
    return made


def evaluated(project: Project, world: int, folder: Path, **more) -> SimpleNamespace:
    """What so many processes write, print and read where they find no features."""
    root = folder / "runs"
    shutil.copytree(project.root, root)
    reads(project.log)
    run(world, ["validate", str(root / "fake")], ["test", str(root / "fake")], log=folder / "log", **more)
    return SimpleNamespace(
        results=json.loads((root / "fake" / "results.json").read_text()),
        predictions=pd.read_parquet(root / "fake" / "predictions.parquet"),
        submission=pd.read_csv(root / "fake" / "submission.csv"),
        printed=[(folder / f"log-{rank}").read_text() for rank in range(world)],
        read=reads(project.log),
    )


@pytest.fixture(scope="module")
def alone(project, tmp_path_factory) -> SimpleNamespace:
    return evaluated(project, 1, tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize("world", [2, 4])
def test_the_tables_are_those_of_one_process_and_every_sample_is_seen_once(world, project, alone, tmp_path):
    shared = evaluated(project, world, tmp_path)
    assert len(alone.submission) == 11 * 3 * 2
    for name in ("results", "predictions", "submission"):
        # Closer than 1e-12: the batches are the same ones.
        pd.testing.assert_frame_equal(
            pd.DataFrame(getattr(shared, name)), pd.DataFrame(getattr(alone, name)), check_exact=True
        )
    for modality, pairs in alone.read.items():
        assert sorted(shared.read[modality]) == sorted(pairs) == [(position, 0) for position in range(60)]
    assert shared.printed[0].replace(str(tmp_path), "").count("Written to") == 2
    assert shared.printed[1:] == [""] * (world - 1)


def test_a_part_of_one_sample_is_evaluated_by_three_processes(tiny_config, tmp_path):
    few = ["--data.subjects=5", "--data.samples_per_subject=1", "--data.labelled=1", "--data.task=regression"]
    root = tmp_path / "runs"
    line = ["--config", str(tiny_config), "--pipeline.root", str(root), "--pipeline.stages=[backbone]"]
    assert main(["fit", *line, *few]) == 0
    tables = []
    for world in (1, 3):
        (root / "tiny" / "predictions.parquet").unlink()
        run(world, ["test", str(root / "tiny")], log=tmp_path / f"log-{world}")
        tables.append(pd.read_parquet(root / "tiny" / "predictions.parquet"))
    assert tables[0]["id"].nunique() == 1
    pd.testing.assert_frame_equal(*tables, rtol=0, atol=1e-6)


def test_a_sample_that_one_process_cannot_read_ends_all_of_them_in_one_line(project, tmp_path, monkeypatch):
    plain = StageModule.predict_step

    def step(module, batch, batch_idx):
        if os.environ["LOCAL_RANK"] == "1":
            raise DataError("clip 7 is damaged", "Replace it.")
        return plain(module, batch, batch_idx)

    monkeypatch.setattr(StageModule, "predict_step", step)
    root = tmp_path / "runs"
    shutil.copytree(project.root, root)
    run(2, ["test", str(root / "fake")], log=tmp_path / "log", codes=(1, 0))
    assert (tmp_path / "log-0").read_text() == "mtpkdot: error: clip 7 is damaged. Replace it.\n"
    assert (tmp_path / "log-1").read_text() == ""


def test_torchrun_says_how_many_processes_share_the_work(trained_root, tmp_path):
    shutil.copytree(trained_root, tmp_path / "runs")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3", "-m", "mtpkdot"]
    command += ["test", str(tmp_path / "runs" / "tiny")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("torchrun has started 3 processes") == done.stdout.count("Written to") == 1
    ours, theirs = (
        json.loads((root / "tiny" / "results.json").read_text()) for root in (tmp_path / "runs", trained_root)
    )
    assert sorted(map(str, ours)) == sorted(map(str, theirs))


def test_a_run_is_evaluated_in_the_precision_of_the_machine(trained_root, tmp_path, capsys, complaint):
    shutil.copytree(trained_root, tmp_path / "moved")
    folder = str(tmp_path / "moved" / "tiny")
    before = pd.read_parquet(trained_root / "tiny" / "predictions.parquet")
    assert main(["test", folder, "--trainer.precision", "64-true", "--trainer.accelerator", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("trainer.precision is 64-true, and was 32-true in training") == 1
    after = pd.read_parquet(Path(folder) / "predictions.parquet")
    keys = ["split", "stage", "id"]
    ours, theirs = (table.sort_values(keys, ignore_index=True).select_dtypes("number") for table in (after, before))
    assert 0 < (ours - theirs).abs().to_numpy().max() < 1e-5
    for other in (["--data.batch_size", "9"], ["--student.model.lr", "0.5"]):
        assert other[0].rpartition(".")[2] in complaint(["test", folder, "--trainer.precision", "64-true", *other])


def jobs_of(config, *overrides):
    experiment = parse("test RUN", ["--config", str(config), *overrides])
    return make_jobs(experiment, wanted_stages(experiment, everything=True)[1])


def test_stages_are_found_by_what_the_machine_that_trained_them_had(tiny_config, tmp_path):
    machine = ["--trainer.precision=bf16-mixed", "--pipeline.features=float32", "--pipeline.compile=true"]
    there, here = jobs_of(tiny_config, *machine), jobs_of(tiny_config, "--pipeline.root", str(tmp_path))
    before = {name: job.record for name, job in there.items()}
    for name, job in as_trained(here, before, None).items():
        assert job.stored.hash == there[name].stored.hash != here[name].stored.hash
        assert job.stored.root == tmp_path
        for argument, earlier in job.stage.upstream.items():
            assert job.upstream[argument] == str(
                tmp_path / "stages" / earlier / there[earlier].stored.hash / "model.ckpt"
            )
    found = as_trained(jobs_of(tiny_config, "--teacher.model.lr=0.5"), before, None)
    assert [name for name in found if found[name].stored.hash != there[name].stored.hash] == [
        "teacher",
        "adapted",
        "student",
    ]
    # A file of initial weights that is not on this machine.
    record = there["backbone.video"].record
    keys = {"weights": {}, "weights./gone.pt": "0123"}
    record = {**record, "keys": {**record["keys"], **keys}, "chosen": [*record["chosen"], "weights./gone.pt"]}
    (found,) = as_trained({"b": here["backbone.video"]}, {"b": record}, None).values()
    assert found.stored.hash == record["hash"]
    # Code that has changed since, unless it is to be passed over.
    record = {**record, "sources": {**record["sources"], "mine.py": "0123"}}
    held = [as_trained({"b": here["backbone.video"]}, {"b": record}, policy)["b"] for policy in ("retrain", "ignore")]
    assert [job.stored.hash == record["hash"] for job in held] == [False, True]


def test_an_evaluation_says_how_long_it_will_take(project, tmp_path, monkeypatch, capsys):
    shutil.copytree(project.root, tmp_path / "runs")
    monkeypatch.setattr(progress, "_MINUTE", 0.0)
    assert main(["test", str(tmp_path / "runs" / "fake")]) == 0
    told = capsys.readouterr().err
    for what in ("features of video: 60 of 60", "teacher on test: 12 of 12", "student on submission: 11 of 11"):
        assert f"{what} samples, " in told
    assert main(["test", str(tmp_path / "runs" / "fake"), "--trainer.enable_progress_bar", "false"]) == 0
    assert "samples" not in capsys.readouterr().err
