import io
import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.errors import RunError
from mtpkdot.pipeline.store import StoredStage, digest, flatten, write_text

_buffer = io.BytesIO()
torch.save({}, _buffer)
WEIGHTS = _buffer.getvalue()
KEYS = st.dictionaries(st.text(min_size=1, max_size=5), st.integers() | st.text(max_size=3) | st.none(), max_size=6)


def train_slowly(root: Path, log: Path) -> None:
    stored = StoredStage(root, "teacher", "abc")
    with stored.exclusively("waiting"):
        if not stored.exists():
            stored.partial.mkdir(parents=True)
            time.sleep(0.3)
            (stored.partial / "model.ckpt").write_bytes(WEIGHTS)
            stored.publish({"who": os.getpid()})
            with log.open("a") as file:
                file.write("trained\n")


@given(KEYS)
def test_the_hash_does_not_depend_on_the_order_of_keys(keys):
    assert digest(dict(reversed(keys.items()))) == digest(keys)


@given(KEYS, KEYS)
def test_other_keys_have_another_hash(old, new):
    assert (digest(old) == digest(new)) == (old == new)


def test_nested_sections_become_dotted_keys():
    assert flatten({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [1, 2], "e": {}}


def test_a_stage_is_there_only_once_it_is_whole(tmp_path):
    stored = StoredStage(tmp_path, "teacher", "abc")
    stored.partial.mkdir(parents=True)
    (stored.partial / "model.ckpt").write_bytes(WEIGHTS)
    assert not stored.exists()
    stored.publish({"hash": "abc"})
    assert stored.exists()
    assert stored.record() == {"hash": "abc"}
    assert not stored.partial.exists()


def test_a_damaged_stage_is_trained_again(tmp_path):
    stored = StoredStage(tmp_path, "teacher", "abc")
    stored.folder.mkdir(parents=True)
    (stored.folder / "stage.json").write_text("{}")
    assert not stored.exists()
    stored.partial.mkdir()
    (stored.partial / "model.ckpt").write_bytes(WEIGHTS)
    stored.publish({})
    assert stored.exists()


def test_torn_weights_count_as_missing(tmp_path):
    stored = StoredStage(tmp_path, "teacher", "abc")
    stored.partial.mkdir(parents=True)
    (stored.partial / "model.ckpt").write_bytes(WEIGHTS)
    stored.publish({})
    assert stored.exists()
    stored.checkpoint.write_bytes(WEIGHTS[: len(WEIGHTS) // 2])
    assert not stored.exists()


def test_a_record_that_cannot_be_read_says_what_to_remove(tmp_path):
    stored = StoredStage(tmp_path, "teacher", "abc")
    stored.folder.mkdir(parents=True)
    (stored.folder / "stage.json").write_text("{")
    with pytest.raises(RunError, match="Remove"):
        stored.record()


@pytest.mark.slow
def test_four_processes_train_a_shared_stage_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    processes = [context.Process(target=train_slowly, args=(tmp_path, log)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert log.read_text() == "trained\n"


@pytest.mark.slow
def test_the_lock_of_a_killed_process_is_free(tmp_path):
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=train_slowly, args=(tmp_path, tmp_path / "log"))
    process.start()
    deadline = time.monotonic() + 60
    partial = StoredStage(tmp_path, "teacher", "abc").partial
    while not partial.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.join()
    stored = StoredStage(tmp_path, "teacher", "abc")
    with stored.exclusively("must not wait"):
        assert not stored.exists()


def test_a_file_is_replaced_whole(tmp_path):
    write_text(tmp_path / "a" / "file.txt", "one")
    write_text(tmp_path / "a" / "file.txt", "two")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file.txt"]
    assert json.dumps((tmp_path / "a" / "file.txt").read_text()) == '"two"'
