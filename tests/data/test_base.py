"""What every data set offers: parts, statistics of the training part, loaders in a reproducible order, checks."""

from dataclasses import replace
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from mtpkdot.data import BaseData, PlantedData
from mtpkdot.data.sampling import EpochSampler
from mtpkdot.data.splits import Split
from tests.data.helpers import cohort, complaint, quick


class Given(BaseData):
    """Samples that the test has made: parts in equal thirds of the rows unless it says otherwise."""

    def __init__(self, samples, **options):
        super().__init__(**{"prevalent": "video", **options})
        self.given = samples

    modality_names = property(lambda self: list(self.given.features))
    source = property(lambda self: "given.csv")

    def load(self):
        return self.given

    def contents(self):
        return {}


def make(values=None, mask=None, columns=("train", "validation", "test"), clips=4, **options):
    """A data set whose video holds `values`, with `clips` samples of one subject per named part."""
    sample_options = {key: options.pop(key) for key in ("target", "labelled", "class_names") if key in options}
    n = clips * len(columns)
    values = np.random.default_rng(0).normal(size=(n, 2, 3)) if values is None else values
    features = {"video": values.astype(np.float32), "signal": np.ones((n, 1, 1), np.float32)}
    masks = {name: np.ones(array.shape[:2], np.bool_) for name, array in features.items()}
    masks["video"] = masks["video"] if mask is None else mask
    column = np.repeat(columns, clips)
    samples = cohort([clips] * len(columns), features=features, masks=masks, split_column=column, **sample_options)
    data = Given(samples, **options)
    data.setup("fit")
    return data


def indices(loader):
    return [batch.index.tolist() for batch in loader]


def test_the_trainer_advances_the_epoch_of_the_training_order():
    seen = []

    class Recorder(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)

        def training_step(self, batch, batch_idx):
            seen.append((self.current_epoch, batch.index.tolist()))
            return self.layer(batch.inputs["video"]).mean()

        def validation_step(self, batch, batch_idx):
            """Nothing: without it, Lightning warns."""

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = make(clips=20, batch_size=8, seed=3)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(max_epochs=3, accelerator="cpu", logger=False, limit_val_batches=0, **quiet)
    trainer.fit(Recorder(), datamodule=data)
    for epoch in range(3):
        sampler = EpochSampler(np.arange(20), 3)
        sampler.set_epoch(epoch)
        order = [position for at, batch in seen if at == epoch for position in batch]
        assert order == list(sampler)


@quick
@given(st.lists(st.booleans(), min_size=9, max_size=9), st.booleans())
def test_unlabelled_samples_are_never_among_the_labelled_positions(labelled, everything):
    labelled = np.array(labelled)
    labelled[[0, 3, 6]] = True  # a part without any target is refused
    data = make(clips=3, labelled=labelled, train_on_all=everything)
    for part in ("train", "validation", "test"):
        positions = data.positions(part, labelled_only=True)
        assert labelled[positions].all()
        assert set(positions) == {p for p in data.positions(part) if labelled[p]}


def test_positions_are_those_of_the_part():
    data = make(columns=("test", "train", "validation"), clips=2)
    assert data.positions("test").tolist() == [0, 1]
    assert data.positions("train").tolist() == [2, 3]
    assert data.positions("validation").tolist() == [4, 5]


def test_training_on_all_changes_the_training_part_only():
    data = make(clips=2, train_on_all=True)
    assert data.positions("train").tolist() == list(range(6))
    assert data.positions("validation").tolist() == [2, 3]
    assert data.positions("test").tolist() == [4, 5]


@pytest.mark.parametrize(("uses", "expected"), [(True, {0, 1, 2, 3}), (False, {0, 2, 3})])
def test_unlabelled_samples_are_trained_on_by_modules_that_can_use_them_only(uses, expected):
    data = make(labelled=np.arange(12) != 1, batch_size=3)
    module = SimpleNamespace(uses_unlabelled=uses)
    data.trainer = SimpleNamespace(
        lightning_module=module, overfit_batches=0, training=False, global_rank=0, world_size=1
    )
    batches = indices(data.train_dataloader())
    assert {position for batch in batches for position in batch} == expected
    assert [len(batch) for batch in batches] == ([3, 1] if uses else [3])


def test_unlabelled_samples_of_other_parts_are_marked_for_the_metrics_to_skip():
    data = make(labelled=np.arange(12) != 9)
    (batch,) = data.test_dataloader()
    assert batch.labelled.tolist() == [True, False, True, True]


def test_evaluation_runs_over_every_sample_once_and_in_order():
    data = make(clips=5, batch_size=2)
    assert indices(data.val_dataloader()) == [[5, 6], [7, 8], [9]]
    assert indices(data.test_dataloader()) == [[10, 11], [12, 13], [14]]
    assert indices(data.evaluation_loader("train")) == [[0, 1], [2, 3], [4]]


def test_the_last_partial_batch_is_dropped_under_the_protocol_switch_only():
    data = make(clips=5, batch_size=2, drop_last=True)
    assert indices(data.val_dataloader()) == [[5, 6], [7, 8]]
    assert indices(data.test_dataloader()) == [[10, 11], [12, 13]]
    assert indices(data.evaluation_loader("train")) == [[0, 1], [2, 3], [4]]  # what is trained on is seen whole
    assert sum(len(batch) for batch in indices(data.train_dataloader())) == 5


def test_the_epoch_is_selected_on_the_test_part_under_the_protocol_switch_only():
    assert indices(make(clips=2, select_on_test=True).val_dataloader()) == [[4, 5]]
    assert indices(make(clips=2).val_dataloader()) == [[2, 3]]


@pytest.mark.parametrize(("drawn", "augments", "expected"), [(2, True, {0, 1}), (None, True, {8}), (2, False, None)])
def test_training_samples_come_in_the_configured_views(drawn, augments, expected, monkeypatch):
    monkeypatch.setattr(Given, "augments", augments)
    data = make(clips=20)
    data.attach(None, {}, drawn)
    sampler = data.train_dataloader().batch_sampler.sampler
    sampler.set_epoch(7)
    views = None if isinstance(next(iter(sampler)), int) else {view for _, view in sampler}
    assert views == expected
    assert list(data.val_dataloader().sampler) == list(range(20, 40))


def test_worker_processes_give_the_same_batches():
    assert indices(make(batch_size=3, num_workers=1).train_dataloader()) == indices(
        make(batch_size=3).train_dataloader()
    )


def test_statistics_are_mean_and_standard_deviation_of_the_training_part():
    values = 100 + 5 * np.random.default_rng(0).normal(size=(12, 2, 3))
    mean, scale = make(values).statistics("video")
    steps = values[:4].astype(np.float32).astype(np.float64).reshape(8, 3)
    np.testing.assert_allclose(mean.numpy(), steps.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scale.numpy(), steps.std(axis=0), rtol=1e-6)
    assert mean.dtype == scale.dtype == torch.float32


def test_statistics_do_not_see_the_other_parts():
    values = np.random.default_rng(0).normal(size=(12, 2, 3))
    before = make(values).statistics("video")
    values[4:] = 1e6
    for old, new in zip(before, make(values).statistics("video"), strict=True):
        assert torch.equal(old, new)


def test_statistics_see_every_part_that_is_trained_on():
    values = np.random.default_rng(0).normal(size=(12, 2, 3))
    mean, _ = make(values, train_on_all=True).statistics("video")
    np.testing.assert_allclose(mean.numpy(), values.reshape(24, 3).mean(axis=0), atol=1e-6)


def test_statistics_use_training_samples_without_a_target():
    values = np.random.default_rng(0).normal(size=(12, 2, 3))
    mean, _ = make(values, labelled=np.arange(12) != 0).statistics("video")
    np.testing.assert_allclose(mean.numpy(), values[:4].reshape(8, 3).mean(axis=0), atol=1e-6)


def test_statistics_ignore_steps_that_were_not_recorded_and_nan():
    values, mask = np.random.default_rng(0).normal(size=(12, 2, 3)), np.ones((12, 2), np.bool_)
    expected = values[:4].astype(np.float32).astype(np.float64)
    expected[1, 1] = np.nan
    expected[2, 0, 0] = np.nan
    values[1, 1], mask[1, 1], values[2, 0, 0] = 1e6, False, np.nan
    mean, scale = make(values, mask).statistics("video")
    np.testing.assert_allclose(mean.numpy(), np.nanmean(expected.reshape(8, 3), axis=0), rtol=1e-5)
    np.testing.assert_allclose(scale.numpy(), np.nanstd(expected.reshape(8, 3), axis=0), rtol=1e-5)


def test_the_scale_of_a_nearly_constant_column_is_bounded_below():
    noise = np.random.default_rng(0).normal(size=(12, 2, 1))
    values = np.concatenate([1000 + 1e-3 * noise, np.full_like(noise, -20), noise], axis=2)
    _, scale = make(values, std_floor=0.01).statistics("video")
    assert scale[0].item() == pytest.approx(10, rel=1e-3)
    assert scale[1].item() == pytest.approx(0.2, rel=1e-3)
    assert scale[2].item() == pytest.approx(noise[:4].std(), rel=1e-5)


def test_the_scale_of_a_column_of_zeros_is_one():
    mean, scale = make(np.zeros((12, 2, 3))).statistics("video")
    assert mean.tolist() == [0, 0, 0]
    assert scale.tolist() == [1, 1, 1]


def test_a_column_that_is_nan_throughout_the_training_part_has_usable_statistics():
    values = np.ones((12, 2, 3))
    values[:4, :, 1] = np.nan
    mean, scale = make(values).statistics("video")
    assert mean[1].item() == 0
    assert scale[1].item() == 1


@quick
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.integers(0, 99))
@example(1.7e-44, 0.0, 0)
def test_the_scale_is_positive_and_finite_whatever_the_column(offset, spread, seed):
    values = offset + spread * np.random.default_rng(seed).normal(size=(12, 2, 3))
    mean, scale = make(values).statistics("video")
    assert torch.isfinite(mean).all()
    assert torch.isfinite(scale).all()
    assert (scale > 0).all()


def test_there_are_no_statistics_where_nothing_is_standardised():
    assert make(standardize=False).statistics("video") is None


def test_modalities_and_targets_give_the_models_their_sizes():
    data = make()
    assert data.modalities == {"video": [3], "signal": [1]}
    assert data.targets == ["a", "b"]
    assert make(class_names=[], task="regression").targets == ["y"]


def test_a_sound_data_set_passes_the_check():
    data = make()
    data.check()
    assert data.positions("train").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("task", ["classification", "ordinal"])
def test_a_class_that_no_training_sample_has_is_an_error_that_names_it(task):
    target = np.array([0, 1, 0, 1, 2, 0, 1, 0, 0, 1, 2, 0])
    message = complaint(make(target=target, class_names=["calm", "mild", "severe"], task=task).check)
    assert "given.csv" in message
    assert "no training sample has the class 'severe'" in message


def test_a_class_without_a_label_among_few_people_is_reported_with_their_number():
    data = make(target=np.array([0, 0, 0, 1] * 3))
    data.labelled_subjects = 1
    data.given.labelled[:4] = data.given.target[:4] == 0
    assert "Set labelled_subjects higher than 1" in complaint(data.check)


def test_a_class_that_only_unlabelled_training_samples_have_is_absent():
    target = np.array([0, 0, 0, 1] * 3)
    message = complaint(make(target=target, labelled=np.arange(12) != 3).check)
    assert "no training sample has the class 'b'" in message


def test_an_unknown_prevalent_modality_is_an_error_that_lists_the_modalities():
    message = complaint(make(prevalent="face").check)
    assert "'face'" in message
    assert "video, signal" in message


def test_a_single_modality_is_an_error():
    samples = make().given
    samples.features.pop("signal")
    assert "nothing is privileged" in complaint(Given(samples).check)


@pytest.mark.parametrize("name", ["face.left", "face left", "", "2nd"])
def test_a_modality_name_that_no_config_key_can_be_is_an_error_that_names_it(name):
    samples = make().given
    samples.features[name] = samples.features["signal"]
    assert repr(name) in complaint(Given(samples).check_modalities)


@pytest.mark.parametrize("size", [0, -3])
def test_a_batch_size_below_one_is_an_error_that_names_it(size):
    assert f"batch_size is {size}" in complaint(make(batch_size=size).check)


def test_a_modality_that_no_labelled_training_sample_has_is_an_error_that_names_it():
    mask = np.ones((12, 2), np.bool_)
    mask[1:4] = False
    assert "'video'" in complaint(make(mask=mask, labelled=np.arange(12) != 0).check)


def steps_with_targets(labelled, steps=2, **options):
    samples = make(**options).given
    target = np.tile(np.array([0, 1]), (12, 1))
    masks = {"video": np.ones((12, 2), np.bool_), "signal": np.ones((12, steps), np.bool_)}
    features = {**samples.features, "signal": np.ones((12, steps, 1), np.float32)}
    return Given(replace(samples, target=target, labelled=labelled, masks=masks, features=features))


def test_a_class_of_unlabelled_steps_alone_is_absent():
    labelled = np.ones((12, 2), np.bool_)
    steps_with_targets(labelled).check()
    labelled[:4, 1] = False
    assert "no training sample has the class 'b'" in complaint(steps_with_targets(labelled).check)


def test_a_modality_with_other_steps_than_the_targets_is_an_error_that_names_both():
    message = complaint(steps_with_targets(np.ones((12, 2), np.bool_), steps=5).check)
    assert "'signal' has 5 steps, but 2 have a target" in message


def test_the_revealed_loader_has_the_hidden_labels_of_the_training_part_alone():
    data = PlantedData(subjects=10, samples_per_subject=3, labelled_subjects=2, batch_size=8, split=Split("kfold"))
    data.setup("fit")
    rows = torch.cat([batch.index for batch in data.revealed_loader()])
    assert rows.tolist() == data.positions("train").tolist()
    assert all(batch.labelled.all() for batch in data.revealed_loader())
    target = torch.cat([batch.target for batch in data.revealed_loader()])
    assert target.tolist() == data._loaded.target[rows].tolist()
    assert not all(batch.labelled.all() for batch in data.evaluation_loader("train"))
    assert data.hidden.sum() == len(rows) - data.samples.labelled[rows].sum() > 0


def test_whoever_is_held_out_may_be_trained_on_and_is_still_evaluated():
    sizes = {"subjects": 10, "samples_per_subject": 3, "split": Split("kfold"), "labelled_subjects": 2}
    usual, fuller = (PlantedData(**sizes, validation_labels=use) for use in ("select", "train"))
    validation = usual.positions("validation").tolist()
    assert fuller.positions("validation").tolist() == validation
    assert fuller.positions("train").tolist() == sorted([*usual.positions("train"), *validation])
    assert set(fuller.positions("train", labelled_only=True)) > set(validation)
    assert not set(fuller.positions("train")) & set(fuller.positions("test"))
    assert (fuller.samples.labelled == usual.samples.labelled).all()
