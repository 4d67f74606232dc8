"""A store that several machines prepare in parts is the one that one machine makes."""

import pytest

from mtpkdot.cli.main import main
from mtpkdot.data.prepare import prepare, prepare_part
from mtpkdot.data.prepared import Store
from tests.data.helpers import complaint
from tests.data.media_helpers import digests, found, plan, raw
from tests.data.test_prepare import started, times, wait_for


@pytest.fixture
def root(tmp_path):
    return raw(tmp_path / "raw")


@pytest.mark.parametrize("count", [2, 3, 20])
def test_parts_share_the_recordings_and_the_whole_reads_none_again(count, root, tmp_path):
    folder = tmp_path / "store"
    sizes = [prepare_part(found(root), plan(root, folder), which, count) for which in range(count, 0, -1)]
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
    assert prepare_part(found(root), plan(root, tmp_path / "store"), 2, 2) == 4
    message = complaint(lambda: prepare_part(found(root), plan(root, tmp_path / "store"), 1, 2))
    assert message.endswith("is bad. Make it good.")
    assert prepare_part(found(root), plan(root, tmp_path / "store", on_error="skip"), 1, 2) == 4


_PART = """
import sys
from pathlib import Path
from tests.data.media_helpers import found, plan
from mtpkdot.data.prepare import prepare_part
if __name__ == "__main__":
    root, folder = Path(sys.argv[1]), Path(sys.argv[2])
    prepare_part(found(root), plan(root, folder, seconds=0.2), 1, 2)
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
        prepare(found(root), plan(root, folder, seconds=0.2))
        assert process.wait() == 0
    assert "waiting for the result" in capsys.readouterr().out
    prepare(found(root), plan(root, tmp_path / "whole", seconds=0.2))
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
