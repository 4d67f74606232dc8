"""Batches, and the samples they are cut from."""

import numpy as np
import pytest
import torch

from mtpkdot.data.batch import Batch, SampleDataset
from tests.data.fake_clips import FakeData, reads
from tests.data.helpers import cohort


@pytest.fixture
def samples():
    """Six samples of three subjects with two modalities of different lengths."""
    random = np.random.default_rng(0)
    return cohort(
        [2, 2, 2],
        features={
            "video": random.normal(size=(6, 3, 2)).astype(np.float32),
            "signal": random.normal(size=(6, 1, 4)).astype(np.float32),
        },
        masks={"video": random.random((6, 3)) < 0.5, "signal": np.array([[True], [False]] * 3)},
        labelled=np.array([True, False, True, True, False, True]),
        split_column=np.array(["0", "0", "1", "1", "2", "2"]),
        knows_subjects=False,
    )


def test_a_modality_is_present_where_at_least_one_step_was_recorded():
    mask = torch.tensor([[True, True], [False, True], [False, False]])
    batch = Batch(torch.arange(3), {"video": torch.zeros(3, 2, 1)}, {"video": mask}, torch.zeros(3), mask[:, 0])
    assert batch.present("video").tolist() == [True, True, False]
    assert len(batch) == 3


def test_a_batch_holds_the_samples_of_its_positions_in_their_order(samples):
    rows = [4, 0, 3]
    batch = SampleDataset(samples).__getitems__(rows)
    assert batch.index.tolist() == rows
    assert batch.index.dtype == torch.int64
    for name in ("video", "signal"):
        np.testing.assert_array_equal(batch.inputs[name].numpy(), samples.features[name][rows])
        np.testing.assert_array_equal(batch.masks[name].numpy(), samples.masks[name][rows])
    np.testing.assert_array_equal(batch.target.numpy(), samples.target[rows])
    assert batch.labelled.tolist() == [False, True, True]


def test_one_sample_is_a_batch_of_one(samples):
    batch = SampleDataset(samples)[2]
    assert len(batch) == 1
    assert batch.inputs["video"].shape == (1, 3, 2)
    assert batch.index.tolist() == [2]


def test_a_data_set_is_as_long_as_its_samples(samples):
    assert len(SampleDataset(samples)) == len(samples) == 6


def test_changing_a_batch_leaves_the_data_set_alone(samples):
    data = SampleDataset(samples)
    for batch in (data[1], data.__getitems__([0, 1, 2])):
        batch.inputs["video"].fill_(7)
        batch.masks["video"].fill_(False)
        batch.target.fill_(7)
    assert not np.any(samples.features["video"] == 7)
    assert samples.masks["video"].any()
    assert set(samples.target.tolist()) == {0, 1}


def test_keeping_rows_keeps_everything_of_them_and_nothing_else(samples):
    rows = np.array([True, False, True, True, False, False])
    kept = samples.keep(rows)
    assert len(kept) == 3
    for name in ("ids", "subjects", "target", "labelled", "split_column"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(samples, name)[rows])
    for name in ("video", "signal"):
        np.testing.assert_array_equal(kept.features[name], samples.features[name][rows])
        np.testing.assert_array_equal(kept.masks[name], samples.masks[name][rows])
    assert kept.class_names == samples.class_names
    assert kept.target_names == samples.target_names
    assert not kept.knows_subjects


def test_keeping_rows_without_a_split_column_works():
    assert cohort([2]).keep(np.array([True, False])).split_column is None


# Targets of steps


@pytest.fixture
def stepwise():
    """Samples of three steps with a target each, all different."""
    samples = FakeData(n=12, steps_have_targets=True, absent=0.3).samples
    samples.target = np.arange(12 * 3 * 2, dtype=np.float32).reshape(12, 3, 2)
    samples.labelled = np.random.default_rng(0).random((12, 3)) < 0.7
    return samples


def test_a_batch_of_steps_has_a_row_per_step_in_the_order_of_the_steps(stepwise):
    batch = SampleDataset(stepwise).__getitems__([5, 2])
    assert len(batch) == 6
    assert batch.per_step
    assert batch.index.tolist() == [15, 16, 17, 6, 7, 8]
    assert np.array_equal(batch.target.numpy(), stepwise.target[[5, 2]].reshape(6, 2))
    assert np.array_equal(batch.labelled.numpy(), stepwise.labelled[[5, 2]].flatten())
    assert batch.inputs["video"].shape == (2, 3, 4)


def test_a_modality_is_present_in_the_rows_of_its_recorded_steps(stepwise):
    batch = SampleDataset(stepwise).__getitems__([5, 2, 0])
    assert np.array_equal(batch.present("video").numpy(), stepwise.masks["video"][[5, 2, 0]].flatten())


def test_rows_of_a_batch_are_found_again_by_their_index(stepwise):
    batch = SampleDataset(stepwise).__getitems__([7, 3, 11])
    rows = stepwise.rows(batch.index.numpy())
    assert rows.ids.tolist() == [f"clip{sample:03d}/{step}" for sample in (7, 3, 11) for step in range(3)]
    assert rows.subjects.tolist() == [stepwise.subjects[sample] for sample in (7, 3, 11) for _ in range(3)]
    assert np.array_equal(rows.target, batch.target.numpy())
    assert np.array_equal(rows.labelled, batch.labelled.numpy())


def test_a_sample_is_known_where_any_of_its_steps_is(stepwise):
    stepwise.labelled[:3] = [[False] * 3, [False, True, False], [True] * 3]
    assert stepwise.known[:3].tolist() == [False, True, True]


# Clips and views


def test_every_clip_is_read_in_the_view_that_is_asked_for_and_no_other_modality_is(tmp_path):
    log = tmp_path / "log"
    samples = FakeData(str(log), n=12).samples
    batch = SampleDataset(samples, ["signal"]).__getitems__([(3, 0), (1, 2), (3, 2)])
    assert list(batch.inputs) == ["signal"]
    assert set(batch.masks) == {"video", "signal"}
    assert reads(log) == {"video": [], "signal": [(3, 0), (1, 2), (3, 2)]}
    clips = samples.features["signal"]
    for row, pair in enumerate([(3, 0), (1, 2), (3, 2)]):
        assert np.array_equal(batch.inputs["signal"][row].numpy(), clips.view(*pair))


def test_features_at_hand_are_asked_for_the_same_positions_and_views(tmp_path):
    asked = []

    class Features:
        def read(self, positions, views):
            asked.append((positions.tolist(), views.tolist()))
            return torch.zeros(len(positions), 1, 5), torch.ones(len(positions), 1, dtype=torch.bool)

    data = SampleDataset(FakeData(n=12).samples, [], {"video": Features()})
    batch = data.__getitems__([4, (2, 1)])
    assert not batch.inputs
    assert batch.encoded["video"][0].shape == (2, 1, 5)
    assert asked == [([4, 2], [0, 1])]
    assert not data.reads_clips
    assert SampleDataset(FakeData(n=12).samples, ["video"]).reads_clips
