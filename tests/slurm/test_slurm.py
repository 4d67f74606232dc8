"""The batch files, run by a real Slurm on this machine."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from mtpkdot.cli.main import main
from mtpkdot.report.summary import OF_SECONDS
from tests.conftest import TINY
from tests.pipeline.processes import run

ROOT = Path(__file__).parents[2]
FILES = ROOT / "configs" / "slurm"


def _answers() -> bool:
    if shutil.which("sinfo") is None or shutil.which("srun") is None:
        return False
    return subprocess.run(["timeout", "10", "sinfo", "-h"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not _answers(), reason="Slurm does not run here; tests/slurm/start.sh starts it"),
]


@pytest.fixture
def config(tmp_path) -> Path:
    """Stages that are long enough to be stopped."""
    longer = yaml.safe_load(yaml.safe_dump(TINY))
    longer["backbone"]["video"]["fit"]["max_epochs"] = 150
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(longer, sort_keys=False))
    return path


@pytest.fixture
def submit(tmp_path):
    """Submit a batch file; returns the job's id. The program is the one that is tested."""
    program = tmp_path / "bin" / "mtpkdot"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m mtpkdot "$@"\n')
    program.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "PYTEST"))}
    environment = {
        **kept,
        "PATH": f"{program.parent}:{kept['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CHECKPOINT_EVERY": "1",
    }

    def sbatch(*arguments: str) -> str:
        line = ["sbatch", "--parsable", f"--chdir={tmp_path}", f"--output={tmp_path}/job-%a.out", *arguments]
        return subprocess.run(line, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    return sbatch


def state(job: str) -> set[str]:
    """States of a job, or of all jobs of its array."""
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
    return {word.partition("=")[2] for word in shown.split() if word.startswith("JobState=")}


def wait_for(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.1)


def output(folder: Path) -> str:
    return "\n".join(path.read_text() for path in folder.glob("job-*.out"))


def test_a_job_that_is_asked_to_stop_comes_back_and_ends_in_the_same_weights(config, submit, tmp_path):
    stages = ["--pipeline.stages", "[backbone]"]
    root = tmp_path / "runs"
    job = submit(str(FILES / "fit.sbatch"), "--config", str(config), "--pipeline.root", str(root), *stages)
    wait_for(lambda: any(root.glob("stages/backbone.video/.*.partial/last.ckpt")), 120)
    subprocess.run(["scancel", "--signal=USR1", job], check=True)
    wait_for(lambda: not state(job) & {"RUNNING", "COMPLETING"}, 60)
    assert not list(root.glob("stages/backbone.video/[!.]*")), output(tmp_path)
    wait_for(lambda: state(job) == {"COMPLETED"} or state(job) & {"FAILED", "CANCELLED"}, 240)
    assert state(job) == {"COMPLETED"}, output(tmp_path)
    assert ", resumed" in output(tmp_path)
    expected = tmp_path / "straight"
    run(2, ["fit", "--config", str(config), "--pipeline.root", str(expected), *stages], log=tmp_path / "log")
    names = [path.relative_to(expected) for path in expected.glob("stages/*/[!.]*/model.ckpt")]
    assert len(names) == 2
    for name in names:
        ours, theirs = (torch.load(r / name, weights_only=True)["state_dict"] for r in (root, expected))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_an_array_runs_a_study_in_parts_which_one_command_gathers(tiny_config, submit, tmp_path, capsys):
    study = ["--config", str(tiny_config), "--methods", "none,kd", "--folds", "2", "--seeds", "1"]
    study += ["--pipeline.root", str(tmp_path / "runs")]
    job = submit("--array=1-2", "--cpus-per-task=1", str(FILES / "crossval_array.sbatch"), *study)
    wait_for(lambda: not state(job) & {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING"}, 300)
    assert state(job) == {"COMPLETED"}, output(tmp_path)
    cells = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("cell.json")}
    assert len(cells) == 2 * 3
    assert main(["crossval", *study, "--jobs", "1"]) == 0
    assert "kd" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("cell.json")} == cells


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """The environment of a login node, in a folder of its own."""
    for key in [key for key in os.environ if key.startswith(("SLURM", "PYTEST"))]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


def submitted(capsys) -> list[str]:
    """Ids of the jobs that `crossval --submit` has told."""
    return capsys.readouterr().out.split("Submitted ")[1].split(";")[0].split(", ")


def logs(root: Path) -> str:
    return "\n".join(path.read_text() for path in root.glob("*/jobs/*_log.*"))


def test_a_study_is_submitted_by_one_command_and_gathered_by_another(bare, tiny_config, tmp_path, capsys):
    root = tmp_path / "runs"
    study = ["--config", str(tiny_config), "--methods", "none,kd", "--folds", "2", "--seeds", "1"]
    study += ["--pipeline.root", str(root), "--jobs", "1"]
    assert main(["crossval", *study, "--submit", "2", "--slurm", "timeout_min=10", "--slurm", "cpus_per_task=1"]) == 0
    jobs = submitted(capsys)
    assert len(jobs) == 2
    wait_for(lambda: not set().union(*map(state, jobs)) & {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING"}, 300)
    assert set().union(*map(state, jobs)) == {"COMPLETED"}, logs(root)
    cells = {path: path.stat().st_mtime_ns for path in root.rglob("cell.json")}
    assert len(cells) == 2 * 3
    assert main(["crossval", *study]) == 0
    assert "kd" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in root.rglob("cell.json")} == cells


def test_a_submitted_study_that_runs_out_of_time_comes_back_and_ends_in_the_same_table(bare, config, tmp_path, capsys):
    study = ["--config", str(config), "--methods", "none", "--folds", "2", "--seeds", "1", "--jobs", "1"]
    root, straight = tmp_path / "runs", tmp_path / "straight"
    options = ["--submit", "1", "--slurm", "timeout_min=10", "--slurm", "cpus_per_task=1"]
    assert main(["crossval", *study, "--pipeline.root", str(root), *options]) == 0
    (job,) = submitted(capsys)
    wait_for(lambda: any(root.glob("stages/backbone.video/.*.partial/last.ckpt")), 120)
    # What Slurm sends before the time is up; with ten minutes and less submitit takes it for that.
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    wait_for(lambda: "timed-out" in logs(root), 60)
    wait_for(lambda: state(job) == {"COMPLETED"} or state(job) & {"FAILED", "CANCELLED", "TIMEOUT"}, 300)
    assert state(job) == {"COMPLETED"}, logs(root)
    assert any(", resumed" in path.read_text() for path in root.glob("*/*/*/*/log.txt")), logs(root)
    tables = []
    for folder in (root, straight):
        assert main(["crossval", *study, "--pipeline.root", str(folder), "--name", "study"]) == 0
        printed = capsys.readouterr().out.replace(str(folder), "")
        before, heading, costs = printed.partition("## Gain and cost")
        assert heading
        tables.append(before + costs.partition(OF_SECONDS)[2])  # without the seconds, which differ
    assert tables[0] == tables[1]


def test_agents_run_the_trials_of_a_sweep_and_go_on_with_one_that_was_stopped(config, submit, tmp_path):
    program, server, root = tmp_path / "bin" / "wandb", tmp_path / "server", tmp_path / "runs"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.slurm.agent "$@"\n')
    program.chmod(0o755)
    server.mkdir()
    line = ["${env}", "mtpkdot", "fit", f"--config={config}", "--trainer.logger=WandbLogger", "${args}"]
    (server / "command").write_text(json.dumps(line))
    for trial in range(4):
        values = {
            "student.model.structure.top_k": 4 + trial,
            "pipeline.root": str(root),
            "pipeline.checkpoint_every": 1,
        }
        (server / f"t{trial}.json").write_text(json.dumps(values))
    first = submit("--array=1-1", str(FILES / "sweep_agent.sbatch"), str(server))
    wait_for(lambda: any(root.glob("stages/backbone.video/.*.partial/last.ckpt")), 120)
    subprocess.run(["scancel", "--signal=TERM", first], check=True)
    wait_for(lambda: not state(first) & {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING"}, 60)
    assert not list(root.glob("stages/backbone.video/[!.]*")), output(tmp_path)
    assert [path.stem for path in server.glob("*.running")] == ["t0"]
    (server / "t0.running").rename(server / "t0.json")  # as the server does with a run that was pre-empted
    job = submit("--array=1-2", str(FILES / "sweep_agent.sbatch"), str(server))
    wait_for(lambda: not state(job) & {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING"}, 400)
    assert state(job) == {"COMPLETED"}, output(tmp_path)
    assert ", resumed" in output(tmp_path)
    records = [json.loads((root / f"t{trial}" / "run.json").read_text())["stages"] for trial in range(4)]
    assert [stages["student"]["keys"]["student.model.structure.init_args.top_k"] for stages in records] == [4, 5, 6, 7]
    assert len({stages["teacher"]["hash"] for stages in records}) == 1
    assert len({stages["student"]["hash"] for stages in records}) == 4
    assert all((root / f"t{trial}" / "results.json").is_file() for trial in range(4))
