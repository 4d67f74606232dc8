"""Reading of data for a probe."""

import numpy as np
import pytest
import torch

from mtpkdot.data import PlantedData
from mtpkdot.errors import ConfigError, DataError
from mtpkdot.probe import reading
from mtpkdot.probe.reading import read, rows_of
from tests.data.fake_clips import FakeClips
from tests.probe.worlds import world


def test_the_test_part_and_hidden_labels_are_not_read():
    data = world()
    material = read(data, "")
    test = set(data.samples.subjects[data.parts == "test"].tolist())
    assert not test & set(material.samples.subjects.tolist())
    assert len(material.people) == 8 + 17
    assert material.held_out == 17 / 25
    assert material.unlabelled == 17 * 12
    assert material.unit == "people"


def test_rows_are_mean_and_deviation_over_the_recorded_steps():
    samples = PlantedData(subjects=5, samples_per_subject=2, steps=3).samples
    rows = rows_of(samples)
    video, mask = samples.features["video"], samples.masks["video"]
    assert mask.all()
    expected = np.concatenate([video.mean(axis=1), video.std(axis=1)], axis=1)
    assert torch.allclose(rows.values["video"], torch.from_numpy(expected), atol=1e-5)


def test_many_rows_and_features_are_reduced(monkeypatch):
    monkeypatch.setattr(reading, "_MOST_ROWS", 100)
    monkeypatch.setattr(reading, "_MOST_FEATURES", 20)
    material = read(world(), "")
    assert len(material.rows) == len(material.samples) == 100
    assert material.left_out == 42 * 12 - 100
    assert material.reduced == ["video"]
    monkeypatch.setattr(reading, "_MOST_ROWS", 400)
    material = read(world(), "")
    assert material.samples.known.sum() == 25 * 12
    assert len(material.rows) == 400
    assert {name: x.shape[1] for name, x in material.rows.values.items()} == {"video": 20, "signal": 16}


def test_media_are_refused_with_the_next_step():
    data = world()
    data.samples.features["video"] = FakeClips("video", data.samples.features["video"])
    with pytest.raises(ConfigError, match=r"video has pictures.*FeatureData.*mtpkdot crossval --config c"):
        read(data, "mtpkdot crossval --config c")


def test_too_few_labelled_people_are_refused():
    split = world().split
    split.validation = 0.01
    with pytest.raises(DataError, match="2 people of the training and validation parts have labels"):
        read(world(labelled_subjects=1, split=split), "")
