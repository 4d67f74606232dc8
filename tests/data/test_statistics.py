"""Statistics of clips that are read piece by piece are those of the array they are cut from."""

import numpy as np
import pytest
import torch

from mtpkdot.data import statistics
from mtpkdot.data.statistics import floored, step_statistics
from tests.data.fake_clips import FakeClips, FakeData, reads


@pytest.fixture
def values():
    """25 samples of 3 steps; far from zero, where sums of squares lose all digits."""
    random = np.random.default_rng(0)
    return (1e4 + random.normal(size=(25, 3, 2)) * [1, 20]).astype(np.float32)


@pytest.fixture
def mask():
    return np.random.default_rng(1).random((25, 3)) < 0.6


POSITIONS = np.array([1, 2, 4, 7, 8, 11, 13, 20, 24])


@pytest.mark.parametrize("piece", [1, 4, 256])
def test_clips_and_arrays_agree_however_large_the_pieces(piece, values, mask, monkeypatch):
    monkeypatch.setattr(statistics, "_PIECE", piece)
    values[4, 1, 0] = np.nan
    mask[4, 1] = True
    of_clips = step_statistics(FakeClips("video", values), mask, POSITIONS, 1e-9)
    of_array = step_statistics(values, mask, POSITIONS, 1e-9)
    steps = values[POSITIONS][mask[POSITIONS]].astype(np.float64)
    for ours, theirs in zip(of_clips, of_array, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    np.testing.assert_allclose(of_clips[0], np.nanmean(steps, axis=0), rtol=1e-9)
    np.testing.assert_allclose(of_clips[1], np.nanstd(steps, axis=0), rtol=1e-6)


def test_only_the_asked_samples_are_read_and_without_augmentation(values, mask, tmp_path):
    log = tmp_path / "log"
    step_statistics(FakeClips("video", values, str(log)), mask, POSITIONS, 1e-3)
    assert set(reads(log)["video"]) == {(p, 0) for p in POSITIONS.tolist()}


def test_pictures_and_sound_have_no_statistics_and_are_not_read(tmp_path):
    data = FakeData(log=str(tmp_path / "log"))
    assert data.statistics("video") is not None
    data.samples.features["signal"].media = True
    assert data.statistics("signal") is None
    assert reads(tmp_path / "log")["signal"] == []


def test_samples_without_a_recorded_step_have_usable_statistics(values, mask):
    mask[:] = False
    mean, scale = step_statistics(FakeClips("video", values), mask, POSITIONS, 1e-3)
    assert mean.tolist() == [0, 0]
    assert scale.tolist() == [1, 1]


def test_a_scale_is_bounded_by_its_own_size_and_by_that_of_the_others():
    std, rms = np.array([2.0, 0.0, 1e-12, 0.0]), np.array([2.0, 5.0, 1e-12, 0.0])
    np.testing.assert_allclose(floored(std, rms, 0.1), [2.0, 0.5, 2e-6, 1.0])


def test_target_statistics_are_those_of_labelled_training_steps():
    data = FakeData(steps_have_targets=True)
    samples, train = data.samples, data.positions("train")
    samples.labelled[train[::2], 1] = False
    samples.target[train[::2], 1] = 1e6
    mean, std = data.target_statistics()
    known = samples.target[train][samples.labelled[train]]
    assert len(known) == len(train) * 3 - len(train[::2])
    torch.testing.assert_close(mean, torch.from_numpy(known.mean(axis=0)))
    torch.testing.assert_close(std, torch.from_numpy(known.std(axis=0)))
