"""Studies handed to Slurm, without one; tests/slurm has one."""

import pytest

from mtpkdot.cli.crossval import crossval
from mtpkdot.cli.main import main
from mtpkdot.errors import ConfigError, RunError
from mtpkdot.pipeline.submission import Part, submit


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Programs that look like Slurm's; sbatch refuses every job."""
    for name, text in {"sbatch": "echo no such partition >&2; exit 1", "srun": "exit 0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--slurm", "timeout_min=5"], "--slurm sets options of --submit"),
        (["--submit", "0"], "--submit is 0, not a number of jobs"),
        (["--submit", "2", "--part", "1/2"], "--submit divides the study itself"),
        (["--submit", "2", "--slurm", "timeout_min"], "--slurm timeout_min is not of the form KEY=VALUE"),
        (["--submit", "2", "--slurm", "slurm_time=4:00:00"], "--slurm slurm_time is set by timeout_min"),
        (["--submit", "2", "--slurm", "timeout_min=4h"], "--slurm: "),
        (["--submit", "2", "--slurm", "no_such_key=1"], "--slurm: "),
    ],
)
def test_a_mistake_is_reported_in_one_line(slurm, tiny_config, tmp_path, capsys, options, said):
    study = ["--config", str(tiny_config), "--methods", "none,kd", "--folds", "2", "--seeds", "1"]
    assert main(["crossval", *study, "--pipeline.root", str(tmp_path / "runs"), *options]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_without_slurm_nothing_is_run_instead(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="needs Slurm"):
        submit(print, [], 2, tmp_path, {})


def test_jobs_that_slurm_refuses_are_reported(slurm, tmp_path):
    with pytest.raises(RunError, match="Slurm refuses the jobs"):
        submit(crossval, ["--config", "x"], 2, tmp_path / "jobs", {})


def test_a_part_fails_with_its_cells_and_is_started_again_as_it_is():
    calls = []
    part = Part(lambda arguments: calls.append(arguments) or len(calls) - 1, ("--config", "c", "--part", "1/2"))
    part()
    with pytest.raises(RunError, match="cells of this part"):
        part()
    assert calls == [part.arguments] * 2
    assert part.checkpoint().function is part
