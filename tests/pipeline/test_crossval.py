"""Studies that are interrupted, in whole or in part; and what is finished."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from mtpkdot.errors import ConfigError
from mtpkdot.pipeline import crossval
from mtpkdot.pipeline.study import Study

ROOT = Path(__file__).parent.parent.parent


def command(config, root, *more):
    own = ["--config", str(config), "--methods", "none,pkdot", "--folds", "2", "--seeds", "1", "--name", "s"]
    return [*own, "--pipeline.root", str(root), "--student.fit.max_epochs", "2", *more]


def start(config, root, *more):
    """The program in a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "mtpkdot", "crossval", *command(config, root, *more)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(arguments, start_new_session=True, env=environment, text=True, **pipes)


def finished(root):
    return sorted(path.parent for path in (root / "s").glob("*/*/*/cell.json"))


def wait_for(condition, process, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def workers(process):
    """Processes that the program has started to run cells."""
    found = []
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
            found.append(int(child))
    return found


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are found by /proc")
def test_a_study_that_was_killed_twice_ends_in_the_same_table(tiny_config, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(tiny_config, whole, "--jobs", "1")
    printed, complaint = process.communicate(timeout=400)
    assert process.returncode == 0, complaint
    assert (whole / "s" / "summary.md").read_text() in printed

    # The program and all its processes at once.
    process = start(tiny_config, killed, "--jobs", "2")
    wait_for(lambda: len(finished(killed)) >= 1, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = {path: (path / "cell.json").stat().st_mtime_ns for path in finished(killed)}
    assert 1 <= len(before) < 6

    # One process of several, as the system does when memory is short.
    process = start(tiny_config, killed, "--jobs", "2")
    wait_for(lambda: len(finished(killed)) > len(before), process)
    victim, *_ = found = workers(process)
    os.kill(victim, signal.SIGKILL)
    _, complaint = process.communicate(timeout=200)
    assert process.returncode == 2
    assert complaint.strip().splitlines()[-1].startswith("mtpkdot: error: a process of the study was killed")
    assert not any(is_running(pid) for pid in found)

    process = start(tiny_config, killed, "--jobs", "2")
    printed, complaint = process.communicate(timeout=400)
    assert process.returncode == 0, complaint
    for name in ("summary.md", "results.csv", "comparisons.csv", "bases.csv"):
        assert (killed / "s" / name).read_bytes() == (whole / "s" / name).read_bytes(), name
    tables = [pd.read_parquet(root / "s" / "predictions.parquet") for root in (whole, killed)]
    pd.testing.assert_frame_equal(*tables)
    # What was finished before was not touched again, and nothing was trained twice.
    assert {path: (path / "cell.json").stat().st_mtime_ns for path in before} == before
    assert len(list((killed / "stages" / "student").iterdir())) == 4


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are found by /proc")
def test_processes_end_with_a_program_that_was_killed(tiny_config, tmp_path):
    process = start(tiny_config, tmp_path, "--jobs", "1")
    wait_for(lambda: workers(process), process)
    found = workers(process)
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    while any(is_running(pid) for pid in found):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.communicate()


def study(root, tiny_config, **more):
    known = {"settings": {"all": {}}, "variants": {"none": {"student.model.method": "none"}}, "folds": ({},)}
    return Study("s", (f"--config={tiny_config}",), **(known | more), seeds=(0,), root=str(root))


def test_a_cell_is_finished_for_its_own_arguments_and_data_alone(tiny_config, tmp_path, monkeypatch):
    made = study(tmp_path, tiny_config)
    cell = next(made.cells())
    folder = made.folder / cell.place

    def fit(cell):
        pd.DataFrame({"id": ["a"]}).to_parquet(folder / "predictions.parquet")

    monkeypatch.setattr(crossval, "_fit", fit)
    made = replace(made, basis={"all/upstream": "b"})
    assert not made.is_finished(cell)
    assert crossval.run_cell(folder, cell, made.basis_of(cell)) is None
    assert made.is_finished(cell)
    assert not replace(made, basis={"all/upstream": "other data"}).is_finished(cell)
    other = study(tmp_path, tiny_config, settings={"all": {"data.nuisance": 2.0}})
    assert next(other.cells()).place == cell.place
    assert not replace(other, basis=made.basis).is_finished(next(other.cells()))
    for name in ("cell.json", "predictions.parquet"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        assert not made.is_finished(cell)
        (folder / name).write_bytes(whole)
        assert made.is_finished(cell)


def test_a_file_in_the_place_of_a_cell_fails_that_cell_alone(tiny_config, tmp_path):
    made = study(tmp_path, tiny_config)
    cell = next(made.cells())
    (made.folder / cell.place).parent.mkdir(parents=True)
    (made.folder / cell.place).touch()
    assert "cannot be written" in crossval.run_cell(made.folder / cell.place, cell, "")


def test_a_cell_that_fails_when_run_again_is_no_longer_finished(tiny_config, tmp_path, monkeypatch):
    made = study(tmp_path, tiny_config)
    cell = next(made.cells())
    folder = made.folder / cell.place
    folder.mkdir(parents=True)
    (folder / "cell.json").write_text(json.dumps({"finished": True, "arguments": [], "digest": "old"}))
    (folder / "predictions.parquet").write_text("")

    def mistake(cell):
        print("half way")
        raise ConfigError("the dose is wrong", "Correct it.")

    monkeypatch.setattr(crossval, "_fit", mistake)
    assert crossval.run_cell(folder, cell, "d") == "the dose is wrong. Correct it."
    assert not (folder / "cell.json").exists()
    assert (folder / "failed.txt").read_text() == "the dose is wrong. Correct it.\n"
    assert (folder / "log.txt").read_text() == "half way\n"

    monkeypatch.setattr(crossval, "_fit", lambda cell: 1 / 0)
    reason = crossval.run_cell(folder, cell, "d")
    assert reason.startswith("ZeroDivisionError: division by zero (see ")
    assert "Traceback" in (folder / "failed.txt").read_text()

    monkeypatch.setattr(crossval, "_fit", lambda cell: None)
    assert crossval.run_cell(folder, cell, "d") is None
    assert not (folder / "failed.txt").exists()


def test_failures_are_reported_by_reason():
    failures = [crossval.Failure("a", "x"), crossval.Failure("b", "y"), crossval.Failure("c", "x")]
    assert crossval.by_reason(failures) == {"x": ["a", "c"], "y": ["b"]}


def test_settings_that_predict_different_things_are_reported_before_anything_is_run(tiny_config, tmp_path):
    made = study(tmp_path, tiny_config, settings={"a": {}, "b": {"data.task": "regression"}})
    with pytest.raises(ConfigError, match=r"b/.*different things"):
        crossval.check(made)
    assert not list(tmp_path.iterdir())


def test_variants_that_are_tested_on_other_samples_are_reported_before_anything_is_run(tiny_config, tmp_path):
    variants = {"none": {"student.model.method": "none"}, "other": {"data.generator_seed": 5}}
    with pytest.raises(ConfigError, match=r"all/.*tested on different samples"):
        crossval.check(replace(study(tmp_path, tiny_config), variants=variants))


def test_data_are_read_once_for_cells_that_agree_on_them(tiny_config, tmp_path, monkeypatch):
    from mtpkdot.data.synthetic.planted import PlantedData

    made = study(tmp_path, tiny_config, settings={"a": {}, "b": {"data.nuisance": 2.0}})
    reads = []
    load = PlantedData.load
    monkeypatch.setattr(crossval, "_read", [])
    monkeypatch.setattr(PlantedData, "load", lambda self: reads.append(self.nuisance) or load(self))
    crossval.check(made)
    assert reads == [1.0, 2.0]


@pytest.mark.parametrize(
    ("named", "count", "overrides", "expected"),
    [
        (None, 3, [], ["0", "1", "2"]),
        ("5, GPU-1,9", 2, [], ["5", "GPU-1"]),
        ("5,6", 2, ["--trainer.accelerator=gpu"], ["5", "6"]),
        ("5,6", 2, ["--trainer.accelerator=cpu"], []),
        ("5,6", 2, ["--trainer.devices=[1]"], []),
        ("", 0, [], []),
        ("3", 1, [], []),
    ],
)
def test_cards_are_shared_out_where_the_trainer_leaves_the_choice(
    named, count, overrides, expected, tiny_config, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    cell = SimpleNamespace(arguments=[f"--config={tiny_config}", "--trainer.accelerator=auto", *overrides])
    assert crossval.cards_for(cell) == expected
