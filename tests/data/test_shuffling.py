"""A control whose privileged modalities are those of other recordings."""

import numpy as np
import pytest
import torch

from mtpkdot.data import PlantedData
from mtpkdot.data.batch import Clips
from mtpkdot.data.shuffling import Reordered, shuffle_privileged
from mtpkdot.data.splits import Split


def planted(**options) -> PlantedData:
    data = PlantedData(subjects=10, samples_per_subject=12, steps=2, batch_size=32, split=Split("kfold"), **options)
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def plain():
    return planted().samples


@pytest.fixture(scope="module")
def shuffled():
    return planted(shuffle_privileged=True)


def test_every_person_keeps_the_recordings_of_the_privileged_modality(plain, shuffled):
    for person in np.unique(plain.subjects):
        own = plain.subjects == person
        before, after = (
            np.sort(s.features["signal"][own].reshape(own.sum(), -1), axis=0) for s in (plain, shuffled.samples)
        )
        assert np.array_equal(before, after)


def test_recordings_of_the_training_part_alone_are_moved(plain, shuffled):
    moved = (plain.features["signal"] != shuffled.samples.features["signal"]).any(axis=(1, 2))
    training = shuffled.parts == "train"
    assert not moved[~training].any()
    assert moved[training].mean() > 0.8


def test_the_prevalent_modality_the_labels_and_the_people_stay(plain, shuffled):
    assert np.array_equal(plain.features["video"], shuffled.samples.features["video"])
    assert np.array_equal(plain.target, shuffled.samples.target)
    assert np.array_equal(plain.ids, shuffled.samples.ids)


def test_the_mask_moves_with_the_values(plain):
    plain.masks["signal"][::3] = False
    parts = np.full(len(plain), "train")
    found = shuffle_privileged(plain, parts, "video", 0)
    where = {
        tuple(values.ravel()): mask.any()
        for values, mask in zip(plain.features["signal"], plain.masks["signal"], strict=True)
    }
    for values, mask in zip(found.features["signal"], found.masks["signal"], strict=True):
        assert where[tuple(values.ravel())] == mask.any()


class Numbers(Clips):
    shape = (6, 1, 1)

    def read(self, positions, views):
        return torch.from_numpy(positions)[:, None, None] + 100 * torch.from_numpy(views)[:, None, None]

    def keep(self, kept):
        raise AssertionError


def test_clips_are_read_where_they_stand_now():
    clips = Reordered(Numbers(), np.array([3, 1, 0, 2, 5, 4]))
    assert clips.read(np.array([0, 4]), np.array([0, 2])).flatten().tolist() == [3, 205]
    kept = clips.keep(np.array([False, True, True, False, False, True]))
    assert kept.shape == (3, 1, 1)
    assert kept.read(np.arange(3), np.zeros(3, dtype=int)).flatten().tolist() == [1, 0, 4]
