"""The pool of processes."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mtpkdot.errors import DataError
from mtpkdot.workers import THREADS, completed, visible_cards, workers

KILLED = DataError("a process was killed", "Take fewer.")
ROOT = Path(__file__).parent.parent


def place(folder: Path) -> tuple[int, str | None]:
    """Process and card of a task that lasts until three processes have one."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 3:
        time.sleep(0.01)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


def test_cards_go_round_among_the_processes(tmp_path, monkeypatch):
    # Forked, so that what is slow to import is imported once.
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: multiprocessing.context.ForkContext())
    with workers(3, 1, KILLED, ["4", "GPU-7"]) as submit:
        found = dict(future.result() for future in [submit(place, tmp_path) for _ in range(3)])
    assert sorted(map(str, found.values())) == ["4", "4", "GPU-7"]


def test_a_process_has_its_card_before_it_imports_torch():
    line = "import sys, mtpkdot.workers, mtpkdot.pipeline.notices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line]).returncode == 0


CASES = [(None, 3, ["0", "1", "2"]), ("5, GPU-1,9", 2, ["5", "GPU-1"]), ("", 0, [])]


@pytest.mark.parametrize(("named", "count", "expected"), CASES)
def test_the_cards_are_those_that_are_visible(named, count, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_cards() == expected  # what comes after a card that is not there cannot be used


def test_processes_have_the_threads_that_they_are_given_and_this_one_keeps_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with workers(1, 3, KILLED) as submit:
        assert [submit(os.getenv, name).result() for name in THREADS] == ["3"] * 3
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_the_preparation_of_a_process_runs_in_it():
    with workers(1, 1, KILLED, start=forbid) as submit:
        assert submit(os.umask, 0).result() == 0o777


def forbid():
    os.umask(0o777)


# Functions of the standard library: worker processes then start without importing torch.
@pytest.mark.parametrize("count", [1, 2])
def test_every_result_comes_with_the_position_of_its_job(count):
    found = list(completed(math.sqrt, (n**2 for n in range(9)), count, KILLED))
    assert sorted(found) == [(n, n) for n in range(9)]
    assert list(completed(math.sqrt, [], count, KILLED)) == []


def test_results_come_as_they_are_completed_and_jobs_are_taken_as_they_are_needed():
    taken = []

    def jobs():
        for seconds in [1.5, *[0.0] * 9]:
            taken.append(seconds)
            yield seconds

    found = completed(time.sleep, jobs(), 2, KILLED)
    assert next(found)[0] != 0
    assert len(taken) == 4
    assert len(list(found)) == 9


@pytest.mark.parametrize("count", [1, 2])
def test_a_failing_job_ends_the_work(count):
    with pytest.raises(ValueError, match="math domain error"):
        list(completed(math.sqrt, [4, -1, 9], count, KILLED))
    assert not multiprocessing.active_children()


def test_after_an_error_no_process_goes_on_with_its_job(tmp_path):
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()
    started = time.monotonic()
    with pytest.raises(ValueError, match="math domain error"), workers(2, 1, KILLED) as submit:
        _ = submit(time.sleep, 600), submit(math.sqrt, -1).result()
    assert time.monotonic() - started < 60
    assert multiprocessing.active_children() == [other]  # which is no process of the pool
    other.kill()
    other.join()


def test_a_process_that_is_killed_gives_one_line():
    with pytest.raises(DataError, match=r"^a process was killed\. Take fewer\.$"):
        list(completed(os._exit, [1], 2, KILLED))
    with pytest.raises(DataError, match=r"^a process was killed\. Take fewer\.$"), workers(1, 1, KILLED) as submit:
        submit(signal.raise_signal, signal.SIGKILL).result()


_PARENT = """
import os, sys, time
from mtpkdot.errors import DataError
from mtpkdot.workers import workers

if __name__ == "__main__":
    with workers(2, 1, DataError("a", "b")) as submit:
        print(*{submit(os.getpid).result() for _ in range(2)}, flush=True)
        for _ in range(2):
            submit(time.sleep, 600)
        time.sleep(600)
"""


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found by /proc")
def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment)
    found = [int(pid) for pid in parent.stdout.readline().split()]
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert found
    assert all(is_running(pid) for pid in found)
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 30
    while any(is_running(int(pid)) for pid in [*found, *children]):
        assert time.monotonic() < end
        time.sleep(0.02)
