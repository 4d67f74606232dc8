"""The store's files: equal content gives equal bytes, and damage is told."""

import json
from pathlib import Path

import numpy as np
import pytest

from mtpkdot.data.media.recordings import Problem
from mtpkdot.data.media.store import (
    Content,
    Store,
    index_entry,
    stored_problems,
    stored_source,
    write_index,
    write_recording,
)
from tests.data.helpers import complaint


def content(value=1.0):
    return Content(
        {"subject": "a", "frames": 3, "class": "x", "age": 20},
        {"times": np.arange(3.0), "offsets": np.array([0, 1, 2, 4])},
        {"signal.x": np.full(100, value, np.float32), "pictures": np.arange(4, dtype=np.uint8)},
    )


@pytest.fixture
def store(tmp_path):
    write_recording(tmp_path, "a", content(), "source")
    write_index(tmp_path, [index_entry(tmp_path, "a")], {"left_out": {}})
    return Store.open(tmp_path)


def test_written_recordings_are_read_back(store):
    row = store.index.iloc[0]
    assert (row["id"], row["subject"], row["age"], row["length.pictures"]) == ("a", "a", 20, 4)
    assert row["offsets"].tolist() == [0, 1, 2, 4]
    assert store.read("a", "pictures", 1, 3).tolist() == [1, 2]
    assert stored_source(store.folder, "a") == "source"
    assert stored_source(store.folder, "b") is None


def test_equal_content_gives_equal_bytes(tmp_path):
    files = set()
    for number in range(20):  # by chance alone, 20 orders of keys would hardly agree
        write_recording(tmp_path, f"{number}", content(), "source")
        files.add((tmp_path / "recordings" / f"{number}.safetensors").read_bytes())
    assert len(files) == 1


def test_different_contents_have_different_digests(tmp_path, store):
    write_recording(tmp_path, "a", content(2.0), "source")
    write_index(tmp_path, [index_entry(tmp_path, "a")], {"left_out": {}})
    assert Store.open(tmp_path).contents != store.contents


def test_a_missing_store_or_one_of_another_format_is_none(tmp_path, store):
    record = json.loads((tmp_path / "store.json").read_text())
    for other in ({**record, "format": 0}, [], {}):
        (tmp_path / "store.json").write_text(json.dumps(other))
        assert Store.open(tmp_path) is None
    assert Store.open(tmp_path / "none") is None


def test_damaged_files_are_reported(tmp_path, store):
    (tmp_path / "recordings" / "a.safetensors").write_bytes(b"half")
    assert "a.safetensors cannot be read" in complaint(
        lambda: Store(tmp_path, {"contents": "other"}).read("a", "x", 0, 1)
    )
    (tmp_path / "index.parquet").write_bytes(b"half of it")
    assert "index.parquet cannot be read" in complaint(lambda: Store.open(tmp_path).index)
    (tmp_path / "store.json").write_text("{")
    assert "store.json cannot be read" in complaint(lambda: Store.open(tmp_path))


def test_a_torn_file_is_noticed_and_a_changed_byte_only_by_its_digest(store):
    path = store.folder / "recordings" / "a.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert stored_source(store.folder, "a") == "source"
    assert index_entry(store.folder, "a")["sha256"] != store.index["sha256"].iloc[0]
    path.write_bytes(data[:-1])
    assert stored_source(store.folder, "a") is None


def test_damage_is_stored_and_notes_are_not(tmp_path):
    scratched = content()
    scratched.problems = [Problem(Path("/x/y/z.jpg"), "is cut", "Mend it."), Problem(Path("/x/y"), "is old", "", False)]
    write_recording(tmp_path, "a", scratched, "source")
    assert stored_problems(tmp_path, "a") == ["y/z.jpg: is cut"]
    assert stored_problems(tmp_path, "b") == []


def test_a_disk_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "recordings").touch()
    assert "a.safetensors cannot be written" in complaint(lambda: write_recording(tmp_path, "a", content(), "s"))
