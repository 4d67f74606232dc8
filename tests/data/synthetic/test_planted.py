"""Planted data: the gap between face and privileged signal is there because it was put there."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mtpkdot.data import PlantedData, Split
from tests.data.helpers import complaint

SMALL = {"subjects": 10, "samples_per_subject": 20, "steps": 2}


def accuracy(data, modality):
    """Test accuracy of a linear classifier trained on the mean over time of one modality."""
    steps, target = data.samples.features[modality].mean(axis=1), data.samples.target
    train, test = data.positions("train"), data.positions("test")
    model = LogisticRegression(max_iter=200).fit(steps[train], target[train])
    return model.score(steps[test], target[test])


def test_the_same_arguments_give_the_same_data():
    first, second = PlantedData(**SMALL, seed=0).samples, PlantedData(**SMALL, seed=5).samples
    np.testing.assert_array_equal(first.target, second.target)
    for name in ("video", "signal"):
        np.testing.assert_array_equal(first.features[name], second.features[name])


def test_another_generator_seed_gives_other_data():
    first, second = PlantedData(**SMALL).samples, PlantedData(**SMALL, generator_seed=1).samples
    assert not np.array_equal(first.features["video"], second.features["video"])
    assert not np.array_equal(first.target, second.target)


def test_shapes_are_those_asked_for():
    data = PlantedData(**SMALL, video_dim=5, signal_dim=3, classes=3)
    data.check()
    assert len(data.samples) == 200
    assert data.samples.features["video"].shape == (200, 2, 5)
    assert data.samples.features["signal"].shape == (200, 2, 3)
    assert data.modalities == {"video": [5], "signal": [3]}
    assert data.targets == ["state0", "state1", "state2"]
    assert data.modality_names == ["video", "signal"]
    assert all(values.dtype == np.float32 for values in data.samples.features.values())


def test_ids_are_unique_and_every_subject_has_its_samples():
    samples = PlantedData(**SMALL).samples
    assert len(np.unique(samples.ids)) == 200
    assert np.unique(samples.subjects, return_counts=True)[1].tolist() == [20] * 10
    assert all(name.startswith(f"{subject}_") for name, subject in zip(samples.ids, samples.subjects, strict=True))


def test_every_class_is_about_equally_frequent():
    counts = np.bincount(PlantedData(subjects=40, samples_per_subject=100, steps=1).samples.target)
    np.testing.assert_allclose(counts / 4000, [0.25] * 4, atol=0.03)


def test_the_video_is_weak_and_the_privileged_signal_strong():
    data = PlantedData(subjects=20, samples_per_subject=30)
    video, signal = accuracy(data, "video"), accuracy(data, "signal")
    assert signal > 0.8
    assert 0.3 < video < signal - 0.15


def test_privileged_noise_carries_nothing_and_leaves_the_video_as_it_was():
    honest = PlantedData(subjects=20, samples_per_subject=30)
    noise = PlantedData(subjects=20, samples_per_subject=30, privileged_noise=True)
    np.testing.assert_array_equal(noise.samples.features["video"], honest.samples.features["video"])
    np.testing.assert_array_equal(noise.samples.target, honest.samples.target)
    assert accuracy(noise, "signal") < 0.35


def test_a_plainer_video_is_easier():
    weak, plain = (PlantedData(subjects=20, samples_per_subject=30, video_strength=s) for s in (0.2, 2.0))
    assert accuracy(plain, "video") > accuracy(weak, "video") + 0.2


def test_the_nuisance_moves_the_video_of_a_subject_and_not_the_signal():
    def spread(nuisance, name):
        samples = PlantedData(subjects=10, samples_per_subject=100, nuisance=nuisance).samples
        means = [
            samples.features[name][samples.subjects == who].mean(axis=(0, 1)) for who in np.unique(samples.subjects)
        ]
        return np.std(means, axis=0).mean()

    assert spread(3.0, "video") > 2
    assert spread(0.0, "video") < 0.2
    assert spread(3.0, "signal") == spread(0.0, "signal") < 0.3


def test_the_nuisance_is_one_and_the_same_offset_for_all_clips_of_a_subject():
    nuisance, none = (PlantedData(**SMALL, nuisance=value).samples for value in (2.0, 0.0))
    offset = nuisance.features["video"] - none.features["video"]
    for who in np.unique(none.subjects):
        rows = offset[none.subjects == who]
        np.testing.assert_allclose(rows, np.broadcast_to(rows[:1, :1], rows.shape), atol=1e-5)
    assert offset.std() > 1


def test_regression_has_two_targets_within_their_range():
    data = PlantedData(**SMALL, task="regression")
    data.check()
    assert data.targets == ["valence", "arousal"]
    assert data.samples.target.shape == (200, 2)
    assert data.samples.target.dtype == np.float32
    assert np.abs(data.samples.target).max() <= 1
    assert data.samples.target.std() > 0.3


def test_both_tasks_show_the_same_features_and_agree_on_the_state():
    classes, values = PlantedData(**SMALL), PlantedData(**SMALL, task="regression").samples
    np.testing.assert_array_equal(classes.samples.features["video"], values.features["video"])
    state = np.arctanh(values.target.astype(np.float64))
    centres = (np.arange(4) + 0.5) * np.pi / 2 - np.pi
    nearest = (state @ np.stack([np.cos(centres), np.sin(centres)])).argmax(axis=1)
    assert (nearest == classes.samples.target).mean() > 0.99


def test_classes_around_a_circle_have_no_order():
    with pytest.raises(ValueError, match="without an order"):
        PlantedData(**SMALL, task="ordinal")


@pytest.mark.parametrize("share", [0.25, 0.7])
def test_only_training_samples_lose_their_target(share):
    data = PlantedData(subjects=20, samples_per_subject=50, steps=1, labelled=share, split=Split("loso", fold=2))
    data.check()
    labelled = data.samples.labelled
    assert labelled[data.parts != "train"].all()
    assert labelled[data.parts == "train"].mean() == pytest.approx(share, abs=0.06)


def test_hiding_targets_changes_nothing_else():
    full, hidden = PlantedData(**SMALL).samples, PlantedData(**SMALL, labelled=0.3).samples
    assert full.labelled.all()
    np.testing.assert_array_equal(full.target[hidden.labelled], hidden.target[hidden.labelled])
    assert (hidden.target[~hidden.labelled] == -1).all()
    np.testing.assert_array_equal(full.features["signal"], hidden.features["signal"])


def test_hiding_all_labels_of_a_person_changes_no_part():
    split = Split("kfold", folds=5)
    full = PlantedData(**{**SMALL, "samples_per_subject": 2, "split": split})
    hidden = PlantedData(**{**SMALL, "samples_per_subject": 2, "split": split}, labelled=0.1)
    people = np.unique(full.samples.subjects)
    assert any(not hidden.samples.labelled[hidden.samples.subjects == person].any() for person in people)
    np.testing.assert_array_equal(hidden.parts, full.parts)
    loso = PlantedData(**{**SMALL, "samples_per_subject": 2, "split": Split("loso")}, labelled=0.1)
    assert loso.folds == list(range(10))


def test_hiding_every_target_is_an_error():
    assert "no sample of the train part has a target" in complaint(PlantedData(**SMALL, labelled=0.0).check)


def test_subjects_are_kept_apart_by_default():
    data = PlantedData(**SMALL)
    people = [set(data.samples.subjects[data.parts == part]) for part in ("train", "validation", "test")]
    assert sum(map(len, people)) == len(set.union(*people)) == 10


def test_too_few_subjects_for_the_folds_are_an_error():
    assert "3 subjects" in complaint(PlantedData(subjects=3, split=Split("kfold", folds=5)).check)


def test_generated_data_have_no_split_column():
    assert "PlantedData has no split column" in complaint(PlantedData(**SMALL, split=Split("column")).check)


def test_batches_are_ready_for_training():
    data = PlantedData(**SMALL, batch_size=16)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch.inputs["video"].shape == (16, 2, 32)
    assert batch.target.dtype == torch.int64
    assert batch.masks["signal"].all()


def test_the_generators_version_is_part_of_the_identity():
    assert PlantedData().contents() == PlantedData(generator_seed=3).contents() != {}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_requested_share_of_labels_is_wrong_and_none_in_the_test_part(share):
    size = {**SMALL, "subjects": 40}
    clean, noisy = PlantedData(**size), PlantedData(**size, label_noise=share)
    wrong = clean.samples.target != noisy.samples.target
    judged = clean.parts == "test"
    assert not wrong[judged].any()
    assert abs(wrong[~judged].mean() - share) < 0.06
    np.testing.assert_array_equal(clean.samples.features["video"], noisy.samples.features["video"])


def test_wrong_values_are_those_of_other_samples():
    size = {**SMALL, "subjects": 40, "task": "regression"}
    clean, noisy = PlantedData(**size).samples.target, PlantedData(**size, label_noise=0.5).samples.target
    assert 0.3 < (clean != noisy).any(axis=1).mean() < 0.5
    assert {tuple(row) for row in noisy.tolist()} <= {tuple(row) for row in clean.tolist()}


def test_an_entangled_video_takes_many_labels_and_the_signal_few():
    size = {"subjects": 80, "samples_per_subject": 25, "steps": 4, "entanglement": 3.0, "nuisance": 1.0}
    data = PlantedData(**size, video_strength=3.0, signal_strength=3.0, split=Split("holdout", test=0.4))
    train, test, target = data.positions("train"), data.positions("test"), data.samples.target
    few = train[np.isin(data.samples.subjects[train], np.unique(data.samples.subjects[train])[:5])]

    def score(name, rows):
        x = data.samples.features[name].mean(axis=1)
        return LogisticRegression(C=0.1, max_iter=300).fit(x[rows], target[rows]).score(x[test], target[test])

    assert score("signal", few) > 0.75
    assert score("video", train) > score("video", few) + 0.04
    assert score("signal", few) > score("video", few) + 0.08
