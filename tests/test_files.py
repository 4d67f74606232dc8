"""Files on a disk that is full, and where a process is killed while it writes one."""

import errno
import multiprocessing
import os
import resource
from pathlib import Path

import pytest

from mtpkdot.errors import DataError
from mtpkdot.files import remove_torn, write_whole, writing


@pytest.fixture
def small_files():
    """No file of more than 100 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("synced", [False, True])
def test_a_file_is_written_below_folders_that_are_made_and_replaced(tmp_path, monkeypatch, synced):
    path, waits = tmp_path / "a" / "b" / "file", []
    monkeypatch.setattr(os, "fsync", waits.append)
    for data in (b"one", memoryview(b"another")):
        write_whole(path, data, synced)
        assert path.read_bytes() == bytes(data)
    assert list(path.parent.iterdir()) == [path]
    assert len(waits) == (2 if synced else 0)


def test_a_write_that_finds_no_room_leaves_the_file_before_and_nothing_else(tmp_path, small_files):
    path = tmp_path / "file"
    write_whole(path, b"one")
    with pytest.raises(DataError, match=f"{path} cannot be written .*Raise the limit"):
        write_whole(path, b"x" * 200)
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_that_is_killed_leaves_the_file_before(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"one")

    def killed():
        Path.replace = lambda *_: os._exit(9)
        write_whole(path, b"another")

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == 9
    assert path.read_bytes() == b"one"
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / ".hidden").write_text("")
    remove_torn(tmp_path, "other")
    assert len(list(tmp_path.iterdir())) == 3
    remove_torn(tmp_path, "fi*")
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".hidden", path]


def test_a_folder_that_is_a_file_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_whole(tmp_path / "file" / "x", b"")


def test_errors_that_the_user_cannot_correct_keep_their_traceback(tmp_path):
    with pytest.raises(OSError, match="too many"), writing(tmp_path / "file"):
        raise OSError(errno.EMFILE, "too many open files")
