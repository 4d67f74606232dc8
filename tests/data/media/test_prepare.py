"""Preparing: resumable, atomic, the same from any number of processes, and never silent about what it leaves out."""

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from filelock import FileLock

from mtpkdot.cli.main import main
from mtpkdot.data.media.prepare import Preparation, prepare, prepare_part
from mtpkdot.data.media.recordings import Inventory, Problem, Recording, Span
from mtpkdot.data.media.store import Store, index_entry
from mtpkdot.errors import DataConfigError, DataError
from tests.data.helpers import complaint
from tests.data.media_helpers import digests, found, plan, raw


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "recordings").iterdir()}


@pytest.fixture
def root(tmp_path):
    return raw(tmp_path / "raw")


def test_a_second_run_converts_nothing_and_a_change_only_what_changed(root, tmp_path):
    folder = tmp_path / "store"
    first = prepare(found(root), plan(root, folder))
    before = times(folder)
    again = prepare(found(root), plan(root, folder))
    assert times(folder) == before
    assert again.record == first.record
    (root / "r3").write_text("5")
    changed = prepare(found(root), plan(root, folder))
    assert {name for name, at in times(folder).items() if at != before[name]} == {"r3.safetensors"}
    assert changed.contents != first.contents
    assert changed.read("r3", "signal.x", 0, 5).tolist() == [0, 1, 2, 3, 4]
    (root / "r0").unlink()
    assert prepare(found(root), plan(root, folder)).index["id"].tolist() == [f"r{n}" for n in range(1, 8)]


def test_other_settings_convert_everything_again(root, tmp_path):
    prepare(found(root), plan(root, tmp_path / "store"))
    before = times(tmp_path / "store")
    store = prepare(found(root), plan(root, tmp_path / "store", settings={"factor": 2}))
    assert not set(before.items()) & set(times(tmp_path / "store").items())
    assert store.read("r1", "signal.x", 3, 4).tolist() == [6]


DECODER = """
from mtpkdot.data.media.store import Content
from own_reading import read


class Data:
    answer = 1


def convert(recording):
    values = [read(path) for _, path in sorted(recording.files.items()) if path.is_file()]
    return Content(dict(recording.facts), {}, {"x": np.concatenate(values)})
"""
READING = "import numpy as np\n\n\ndef read(path):\n    return np.frombuffer(path.read_bytes(), np.uint8)\n"


def test_a_decoder_of_the_users_own_and_every_file_that_it_reads_count(tmp_path, monkeypatch):
    """Four files by any names, one of them a folder; a decoder that imports a helper of its own."""
    monkeypatch.syspath_prepend(tmp_path)
    decoder, reading = tmp_path / "own_decoder.py", tmp_path / "own_reading.py"
    decoder.write_text(f"import numpy as np\n{DECODER}")
    reading.write_text(READING)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    files = {role: tmp_path / f"{role}.bin" for role in ("gaze", "pose", "words")} | {"notes": tmp_path / "deep"}
    for path in (*list(files.values())[:3], tmp_path / "deep" / "er" / "a.bin"):
        path.write_bytes(path.name.encode())
    own = import_module("own_decoder")

    def made():
        inventory = Inventory([Recording("a", {"subject": "a"}, files)])
        store = prepare(inventory, Preparation(tmp_path, tmp_path / "store", {}, own.convert))
        return times(tmp_path / "store")["a.safetensors"], store.contents

    first = made()
    decoder.write_text(f"# Reads.\nimport numpy as np\n{DECODER.replace('answer = 1', 'answer = 2')}")
    reading.write_text(READING.replace("(path):", '(path):\n    """Read."""'))
    assert made() == first
    reading.write_text(READING.replace("return", "assert path\n    return"))
    at, contents = made()
    assert at != first[0]
    assert contents == first[1]  # other code, and the same result: nothing has to be trained again
    (tmp_path / "deep" / "er" / "a.bin").write_bytes(b"changed")
    again = made()
    assert again[0] != at
    files["words"].write_bytes(b"changed")
    assert made()[1] != again[1]


def test_data_read_before_a_change_are_not_used_after_it(root, tmp_path):
    store = prepare(found(root), plan(root, tmp_path / "store"))
    assert store.read("r2", "signal.x", 6, 8).tolist() == [6, 7]
    (root / "r2").write_text("7")
    again = prepare(found(root), plan(root, tmp_path / "store"))
    assert again.read("r2", "signal.x", 6, 7).tolist() == [6]
    with pytest.raises(DataError):
        again.read("r2", "signal.x", 6, 8)


def test_two_processes_make_what_one_makes(root, tmp_path):
    for workers in (1, 2):
        prepare(found(root), plan(root, tmp_path / f"{workers}", workers=workers))
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


_RUN = """
import sys
from pathlib import Path
from tests.data.media_helpers import found, plan
from mtpkdot.cli.main import main
from mtpkdot.data.media.prepare import Preparation, prepare, prepare_part
if __name__ == "__main__":
    root, folder, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    prepare(found(root), plan(root, folder, workers=workers, seconds=0.1))
"""


def started(root, folder, workers=1, program=_RUN):
    script = root.parent / "run.py"
    script.write_text(program)
    here = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, str(script), str(root), str(folder), str(workers)],
        env={**os.environ, "PYTHONPATH": here},
        start_new_session=True,
    )


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def alive(group):
    """Processes of a group that are still running."""
    result = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            result.append(int(stat.parent.name))
    return result


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(root, tmp_path):
    whole = prepare(found(root), plan(root, tmp_path / "whole"))
    folder = tmp_path / "store"
    kept: dict[str, int] = {}
    for done in (1, 3, 6):
        process = started(root, folder)
        wait_for(lambda done=done: len(list(folder.glob("recordings/*.safetensors"))) >= done)
        process.kill()
        process.wait()
        assert Store.open(folder) is None
        now = {name: at for name, at in times(folder).items() if not name.startswith(".")}
        assert kept.items() <= now.items()
        assert len(now) < 8
        kept = now
    (folder / "recordings" / ".r7.safetensors.123-ab01").write_bytes(b"half")
    (folder / ".index.parquet.123-ab01").write_bytes(b"half")
    store = prepare(found(root), plan(root, folder))
    assert kept.items() <= times(folder).items()
    assert digests(folder) == digests(tmp_path / "whole")
    assert store.contents == whole.contents


def test_a_script_that_its_workers_would_run_again_stops_with_advice(root, tmp_path):
    script = tmp_path / "run.py"
    body = _RUN.partition('if __name__ == "__main__":\n')
    script.write_text(body[0] + "\n".join(line.strip() for line in body[2].splitlines()))
    run = subprocess.run(
        [sys.executable, str(script), str(root), str(tmp_path / "store"), "2"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode != 0
    assert "Put what it does below `if __name__ == '__main__':`." in run.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_workers_end_with_the_run_that_was_killed(root, tmp_path):
    process = started(raw(root, 60), tmp_path / "store", workers=2)
    wait_for(lambda: list((tmp_path / "store").glob("recordings/r*")))
    assert len(alive(process.pid)) > 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not alive(process.pid), 10)


def test_two_runs_at_once_share_the_work(root, tmp_path):
    folder = tmp_path / "store"
    runs = [started(root, folder) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    prepare(found(root), plan(root, tmp_path / "whole"))
    assert digests(folder) == digests(tmp_path / "whole")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_torn_recording_is_made_again(root, tmp_path, share):
    folder = tmp_path / "store"
    prepare(found(root), plan(root, folder))
    whole = digests(folder)
    path = folder / "recordings" / "r4.safetensors"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    before = times(folder)
    prepare(found(root), plan(root, folder))
    assert digests(folder) == whole
    assert {name for name, at in times(folder).items() if at != before[name]} == {"r4.safetensors"}


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_recordings_stop_or_are_left_out_and_counted(root, tmp_path, capsys, workers):
    (root / "r2").write_text("bad")
    (root / "r5").write_text("bad")
    message = complaint(lambda: prepare(found(root), plan(root, tmp_path / "store", workers=workers)))
    assert message.endswith("is bad. Make it good.")
    store = prepare(found(root), plan(root, tmp_path / "store", workers=workers, on_error="skip"))
    assert store.index["id"].tolist() == ["r0", "r1", "r3", "r4", "r6", "r7"]
    assert store.record["left_out"] == ["r2", "r5"]
    assert store.record["problems"] == [f"{root / name} is bad" for name in ("r2", "r5")]
    assert "2 recordings left out, 2 problems, listed in" in capsys.readouterr().out
    (root / "r2").write_text("4")
    assert prepare(found(root), plan(root, tmp_path / "store", on_error="skip")).record["left_out"] == ["r5"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_in_the_call_cannot_be_skipped_as_damage(root, tmp_path, workers):
    (root / "r0").write_text("unwanted")
    for run in (prepare, lambda *each: prepare_part(*each, 1, 1)):
        with pytest.raises(DataConfigError, match=r"^the reader reads nothing of the kind\. Take another one\.$"):
            run(found(root), plan(root, tmp_path / "store", workers=workers, on_error="skip"))


def test_problems_of_the_inventory_stop_or_leave_the_recording_out(root, tmp_path):
    inventory = found(root)
    inventory.recordings[1] = Recording("r1", {"subject": "r1"}, usable=False)
    inventory.problems += [
        Problem(root / "r1", "holds nothing.", "Fill it."),
        Problem(root, "is old", "Nothing.", False),
    ]
    message = complaint(lambda: prepare(inventory, plan(root, tmp_path / "store")))
    assert message == f"{root / 'r1'}: holds nothing. Fill it, or set data.init_args.on_error to skip."
    assert not (tmp_path / "store").exists()
    store = prepare(inventory, plan(root, tmp_path / "store", on_error="skip"))
    assert "r1" not in set(store.index["id"])
    assert store.record["left_out"] == ["r1"]
    assert store.record["problems"] == [f"{root / 'r1'}: holds nothing."]


def test_recordings_are_counted_apart_from_problems(root, tmp_path):
    inventory = found(root)
    inventory.lost = ["x1", "x2", "x3"]
    inventory.problems = [
        Problem(root, "lacks three recordings", "Find them."),
        Problem(root / "r1", "lacks a table", "Find it."),
    ]
    (root / "r2").write_text("bad")
    store = prepare(inventory, plan(root, tmp_path / "store", on_error="skip"))
    assert store.record["left_out"] == ["r2", "x1", "x2", "x3"]
    assert store.losses == "4 recordings left out, 3 problems"
    assert len(store.index) == 7


@pytest.mark.parametrize("workers", [1, 2])
def test_a_recording_without_a_damaged_file_is_kept_counted_and_refused_by_those_who_raise(root, tmp_path, workers):
    (root / "r4").write_text("9 scratched")
    raising, skipping = (
        plan(root, tmp_path / "store", workers=workers, on_error=on_error) for on_error in ("raise", "skip")
    )
    for _ in range(2):
        message = complaint(lambda: prepare(found(root), raising))
        assert message == f"{root / 'r4'}: is scratched. Polish it, or set data.init_args.on_error to skip."
        # What was stored by one that skips is told all the same to one that raises.
        store = prepare(found(root), skipping)
        assert store.index["id"].tolist() == [f"r{number}" for number in range(8)]
        assert (store.record["left_out"], store.record["problems"]) == ([], ["raw/r4: is scratched"])
        assert store.losses == "0 recordings left out, 1 problems"
    before = times(tmp_path / "store")
    prepare(found(root), skipping)
    assert times(tmp_path / "store") == before
    (root / "r4").write_text("9")
    assert prepare(found(root), raising).losses == ""


def test_requested_frames_keep_their_order_and_are_renewed_without_decoding(root, tmp_path):
    inventory = found(root)
    inventory.asked = [Span("r5"), Span("r1", 4, 6)]
    prepare(inventory, plan(root, tmp_path / "store"))
    before = times(tmp_path / "store")
    inventory.asked.reverse()
    store = prepare(inventory, plan(root, tmp_path / "store"))
    assert [Span(*span) for span in store.record["asked"]] == [Span("r1", 4, 6), Span("r5")]
    assert times(tmp_path / "store") == before


def test_a_data_set_without_usable_recordings_is_an_error(root, tmp_path):
    for path in root.iterdir():
        path.write_text("bad")
    message = complaint(lambda: prepare(found(root), plan(root, tmp_path / "store", on_error="skip")))
    assert "not one of 8 recordings can be used" in message


def test_a_worker_that_is_killed_is_reported(root, tmp_path):
    (root / "r1").write_text("deadly")
    message = complaint(lambda: prepare(found(root), plan(root, tmp_path / "store", workers=2)))
    assert "a process was killed" in message
    assert "prepare_workers" in message


def test_a_folder_that_cannot_be_written_is_reported(root, tmp_path):
    (tmp_path / "file").touch()
    for folder in (Path("/proc/mtpkdot"), tmp_path / "file" / "store"):
        assert f"{folder} cannot be written" in complaint(
            lambda folder=folder: prepare(found(root), plan(root, folder))
        )


def test_a_finished_store_is_used_without_being_written_to(root, tmp_path, monkeypatch):
    first = prepare(found(root), plan(root, tmp_path / "store"))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    assert prepare(found(root), plan(root, tmp_path / "store")).record == first.record
    (root / "r1").write_text("3")
    assert "cannot be written" in complaint(lambda: prepare(found(root), plan(root, tmp_path / "store")))


def test_the_index_holds_what_is_small_and_how_long_the_rest_is(root, tmp_path):
    store = prepare(found(root), plan(root, tmp_path / "store"))
    row = index_entry(store.folder, "r6")
    assert (row["id"], row["subject"], row["length.signal.x"]) == ("r6", "r6", 20_006)
    assert store.index.iloc[6]["times"].tolist() == [0, 1, 2]


# Parts, on many machines


@pytest.mark.parametrize("count", [2, 3, 20])
def test_parts_share_the_recordings_and_the_whole_reads_none_again(count, root, tmp_path):
    folder = tmp_path / "store"
    sizes = [prepare_part(found(root), plan(root, folder), which, count)[0] for which in range(count, 0, -1)]
    assert sum(sizes) == 8
    assert max(sizes) - min(sizes) <= 1
    assert Store.open(folder) is None
    before = times(folder)
    assert len(before) == 8
    prepare(found(root), plan(root, folder))
    assert times(folder) == before
    prepare(found(root), plan(root, tmp_path / "whole"))
    assert digests(folder) == digests(tmp_path / "whole")


def test_a_missing_part_is_made_up_for(root, tmp_path):
    folder = tmp_path / "store"
    prepare_part(found(root), plan(root, folder), 1, 2)
    prepare(found(root), plan(root, folder))
    prepare(found(root), plan(root, tmp_path / "whole"))
    assert digests(folder) == digests(tmp_path / "whole")


def test_a_part_of_changed_files_takes_the_finished_store_back(root, tmp_path):
    folder = tmp_path / "store"
    prepare(found(root), plan(root, folder))
    prepare_part(found(root), plan(root, folder), 1, 2)
    assert Store.open(folder) is not None
    (root / "r0").write_text("5")
    prepare_part(found(root), plan(root, folder), 2, 2)
    assert Store.open(folder) is not None
    prepare_part(found(root), plan(root, folder), 1, 2)
    assert Store.open(folder) is None


def test_a_part_is_stopped_by_what_stops_the_whole(root, tmp_path):
    (root / "r2").write_text("bad")
    folder = tmp_path / "store"
    assert prepare_part(found(root), plan(root, folder), 2, 2) == (4, 0)
    message = complaint(lambda: prepare_part(found(root), plan(root, folder), 1, 2))
    assert message.endswith("is bad. Make it good.")
    skip = plan(root, folder, on_error="skip")
    assert prepare_part(found(root), skip, 1, 2) == (4, 1)
    prepare(found(root), skip)
    # As Slurm does it with a job that had ended: the finished store stays.
    assert prepare_part(found(root), skip, 1, 2) == (4, 1)
    assert Store.open(folder) is not None


def test_a_part_that_starts_late_waits_for_the_whole_and_finds_nothing_to_do(root, tmp_path):
    folder = tmp_path / "store"
    whole = started(root, folder)
    wait_for(lambda: list(folder.glob("recordings/*.safetensors")))
    part = started(root, folder, program=_PART)
    assert [whole.wait(), part.wait()] == [0, 0]
    assert Store.open(folder) is not None
    prepare(found(root), plan(root, tmp_path / "whole", seconds=0.1))
    assert digests(folder) == digests(tmp_path / "whole")


_PART = """
import sys
from pathlib import Path
from tests.data.media_helpers import found, plan
from mtpkdot.data.media.prepare import prepare_part
if __name__ == "__main__":
    root, folder = Path(sys.argv[1]), Path(sys.argv[2])
    prepare_part(found(root), plan(root, folder, seconds=0.1), 1, 2)
"""


def test_the_whole_waits_for_a_part_at_work_and_goes_on_after_a_killed_one(root, tmp_path, capsys):
    folder = tmp_path / "store"
    for killed in (True, False):
        before = len(list(folder.glob("recordings/*.safetensors")))
        process = started(root, folder, program=_PART)
        wait_for(lambda before=before: len(list(folder.glob("recordings/*.safetensors"))) > before)
        if killed:
            process.kill()
            process.wait()
            continue
        prepare(found(root), plan(root, folder, seconds=0.1))
        assert process.wait() == 0
    assert "waiting for the result" in capsys.readouterr().out
    prepare(found(root), plan(root, tmp_path / "whole", seconds=0.1))
    assert digests(folder) == digests(tmp_path / "whole")


def test_the_program_prepares_parts(biovid_twin, tmp_path, capsys):
    line = ["data", "prepare", "biovid", str(biovid_twin), "--data.pictures.size", "32", "--data.prepare_workers", "1"]
    for part in ("1/2", "2/2"):
        assert main([*line, "--data.store", str(tmp_path / "parts"), "--part", part]) == 0
        assert f"Part {part}, " in capsys.readouterr().out
    for store in ("parts", "whole"):
        assert main([*line, "--data.store", str(tmp_path / store)]) == 0
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    capsys.readouterr()
    assert main([*line, "--part", "3/2"]) == 2
    assert "--part is '3/2'" in capsys.readouterr().err
