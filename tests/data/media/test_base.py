"""A store is found again by its settings, wherever it lies, and nothing else makes another one."""

import numpy as np
import pytest
import torch

from mtpkdot.data import AffWild2, BioVid, Split
from mtpkdot.data.media.pictures import PictureSettings
from mtpkdot.data.media.transforms import Augment
from tests.data.helpers import complaint
from tests.data.media_helpers import copied, put

SPLIT = Split(scheme="kfold", folds=2, validation=0.4)


def made(root, store=None, size=32, **options):
    where = {"root": None if root is None else str(root), "store": None if store is None else str(store)}
    return BioVid(**where, pictures=PictureSettings(size=size), prepare_workers=1, split=SPLIT, frames=3, **options)


@pytest.fixture(scope="module")
def raw(biovid_twin, tmp_path_factory):
    return copied(biovid_twin, tmp_path_factory.mktemp("media") / "raw")


@pytest.fixture(scope="module")
def data(raw):
    data = made(raw)
    assert len(data.samples) == 10
    return data


def test_the_store_lies_beside_the_raw_files_by_default(raw, data):
    assert data.prepared.folder.parent == raw.with_name("raw.store")


@pytest.mark.parametrize("here", [".", "..", "../raw"])
def test_a_root_without_a_name_is_prepared_beside_itself(raw, here, monkeypatch):
    monkeypatch.chdir(raw / "PartA" if here == ".." else raw)
    assert made(here).preparation.folder.parent.resolve() == raw.with_name("raw.store")


def test_a_moved_store_works_alone(biovid_twin, data, tmp_path):
    moved = copied(data.prepared.folder.parent, tmp_path / "elsewhere")
    alone = made(None, moved)
    assert alone.contents() == data.contents()
    rows = np.arange(10)
    for name in ("video", "physiology"):
        one, two = (d.samples.features[name].read(rows, np.zeros_like(rows)) for d in (alone, data))
        assert torch.equal(one, two)
    assert "no finished store of these settings" in complaint(lambda: made(None, moved, size=40).prepared)
    assert "no finished store" in complaint(lambda: AffWild2(store=str(moved)).prepared)
    assert "no folder of raw files" in complaint(alone.inventory)


def test_where_the_raw_files_lie_does_not_matter(raw, data, tmp_path):
    again = made(copied(raw, tmp_path / "copy"), raw.with_name("raw.store"))
    before = {path.name: path.stat().st_mtime_ns for path in data.prepared.folder.rglob("*.safetensors")}
    assert again.contents() == data.contents()
    assert before == {path.name: path.stat().st_mtime_ns for path in again.prepared.folder.rglob("*.safetensors")}


def test_settings_of_the_samples_share_a_store_and_those_of_the_pictures_do_not(raw, data):
    assert made(raw, unlabelled=["PA2"], start=1.0, augment=Augment()).preparation.folder == data.prepared.folder
    assert made(raw, size=40).preparation.folder != data.prepared.folder
    assert made(raw, part="PartA").preparation.folder != data.prepared.folder


def test_views_exist_where_there_is_augmentation(raw, data):
    assert not data.augments
    augmented = made(raw, augment=Augment())
    assert augmented.augments
    rows = np.array([3])
    plain, zero, one = (
        d.samples.features["video"].read(rows, np.array([view]))
        for d, view in ((data, 0), (augmented, 0), (augmented, 1))
    )
    assert torch.equal(plain, zero)
    assert not torch.equal(zero, one)
    assert torch.equal(data.samples.features["video"].read(rows, np.array([1])), zero)


def test_recordings_that_are_left_out_are_counted_in_the_summary(raw, tmp_path):
    root = copied(raw, tmp_path / "raw")
    path = next((root / "PartA" / "video").rglob("*PA4*.mp4"))
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[: len(whole) // 2])
    data = made(root, on_error="skip")
    put(next((root / "PartA" / "biosignals_filtered").rglob("*BL1*.csv")), b"")
    assert data.summary().endswith("; 1 recordings left out, 2 problems")
    assert path.stem not in data.samples.ids


def test_neither_raw_files_nor_a_store_is_a_mistake():
    with pytest.raises(ValueError, match="root"):
        BioVid()
