"""Own data: a manifest and feature files, joined on the sample id whatever the order of the rows."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.data import FeatureData, Split
from tests.data.helpers import ARRAY_SUFFIXES, Study, complaint, quick, write_arrays, write_features, write_table

WITH_IDS = (".csv", ".parquet", *ARRAY_SUFFIXES)


def batches_of(data):
    """All batches of all parts as plain lists, NaN as a number that compares."""
    data.setup("fit")
    return [
        [
            batch.index.tolist(),
            {name: np.nan_to_num(values.numpy(), nan=-1e6).tolist() for name, values in batch.inputs.items()},
            {name: values.tolist() for name, values in batch.masks.items()},
            batch.target[batch.labelled].tolist(),
            batch.labelled.tolist(),
        ]
        for part in ("train", "validation", "test")
        for batch in data.evaluation_loader(part)
    ]


def by_hand(values, groups, floor=0.0):
    """Z-scores within groups, ignoring NaN."""
    result = values.astype(np.float64)
    for group in np.unique(groups):
        rows = groups == group
        mean, std = np.nanmean(result[rows], axis=0), np.nanstd(result[rows], axis=0)
        result[rows] = (result[rows] - mean) / np.maximum(std, floor * np.sqrt(std**2 + mean**2))
    return result


@quick
@given(order=st.permutations(range(24)), extra=st.integers(0, 3), suffix=st.sampled_from(WITH_IDS))
def test_the_order_of_a_feature_files_rows_and_rows_of_strangers_do_not_change_any_batch(order, extra, suffix):
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder))
        study.unlabel(1, 6)
        expected = batches_of(study.data(batch_size=5))
        values = np.concatenate([study.features["video"][order], np.full((extra, 3), 99, np.float32)])
        ids = [study.ids[row] for row in order] + [f"stranger{number}" for number in range(extra)]
        study.paths["video"] = write_features(study.folder / f"shuffled{suffix}", ids, values)
        assert batches_of(study.data(batch_size=5)) == expected


@quick
@given(order=st.permutations(range(24)))
def test_the_order_of_the_manifests_rows_does_not_change_what_belongs_to_a_sample(order):
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder))
        before = study.data().samples
        study.paths = {name: study.folder / f"{name}.csv" for name in study.features}
        study.manifest = study.manifest.iloc[list(order)]
        after = study.data().samples
    assert after.ids.tolist() == before.ids[list(order)].tolist()
    for name in ("video", "signal"):
        np.testing.assert_array_equal(after.features[name], before.features[name][list(order)])
    np.testing.assert_array_equal(after.target, before.target[list(order)])


def test_clips_over_time_are_joined_with_their_masks(study):
    clips = np.random.default_rng(0).normal(size=(24, 5, 2)).astype(np.float32)
    mask = np.random.default_rng(1).random((24, 5)) < 0.7
    study.paths["signal"] = write_arrays(study.folder / "signal.npz", clips[::-1], study.ids[::-1], mask[::-1])
    samples = study.data().samples
    np.testing.assert_array_equal(samples.features["signal"], clips)
    np.testing.assert_array_equal(samples.masks["signal"], mask)


def test_arrays_without_ids_follow_the_manifests_order(study):
    study.paths["video"] = write_arrays(study.folder / "video.npy", study.features["video"])
    np.testing.assert_array_equal(study.data().samples.features["video"][:, 0], study.features["video"])


@pytest.mark.parametrize("rows", [23, 25])
def test_arrays_without_ids_must_have_as_many_rows_as_the_manifest(study, rows):
    study.paths["video"] = write_arrays(study.folder / "video.npy", np.ones((rows, 3), np.float32))
    message = complaint(study.data().check)
    assert "video.npy" in message
    assert f"{rows} rows" in message
    assert "manifest.csv has 24" in message


@pytest.mark.parametrize("kind", [int, float])
def test_text_ids_of_the_manifest_match_numbers_of_a_parquet_file(study, kind):
    study.manifest["id"] = [str(number) for number in range(24)]
    table = pd.DataFrame({"id": np.arange(24)[::-1].astype(kind), "f": np.arange(24.0)[::-1]})
    study.paths["signal"] = write_table(study.folder / "signal.parquet", table)
    assert study.data().samples.features["signal"][:, 0, 0].tolist() == list(range(24))


def test_an_id_with_leading_zeros_is_not_that_number(study):
    table = pd.DataFrame({"id": np.arange(24), "f": np.arange(24.0)})
    study.paths["signal"] = write_table(study.folder / "signal.parquet", table)
    assert "'000'" in complaint(study.data().check)


def test_another_id_column_is_used_for_manifest_and_tables(study):
    study.manifest = study.manifest.rename(columns={"id": "clip"})
    for name, values in study.features.items():
        table = pd.DataFrame(values).assign(clip=[f"{number:03d}" for number in range(24)])
        study.paths[name] = write_table(study.folder / f"{name}.csv", table.rename(columns=str))
    data = study.data(id="clip")
    data.check()
    np.testing.assert_array_equal(data.samples.features["video"][:, 0], study.features["video"])


@pytest.mark.parametrize("role", ["manifest", "features.signal"])
def test_a_missing_file_is_an_error_that_names_it(study, role):
    data = study.data()
    path = study.folder / ("manifest.csv" if role == "manifest" else "signal.csv")
    path.unlink()
    assert f"{path} does not exist" in complaint(data.check)
    assert f"{path} does not exist" in complaint(data.contents)


def test_a_sample_without_features_is_an_error_that_names_file_and_sample(study):
    study.paths["signal"] = write_features(study.folder / "signal.csv", study.ids[:-2], study.features["signal"][:-2])
    message = complaint(study.data().check)
    assert "signal.csv has no features of sample '022' (2 of 24 samples" in message
    assert "data.init_args.missing" in message


def test_samples_without_features_can_be_dropped(study):
    study.paths["signal"] = write_features(study.folder / "signal.csv", study.ids[2:], study.features["signal"][2:])
    data = study.data(missing="drop")
    data.check()
    assert data.samples.ids.tolist() == study.ids[2:]
    np.testing.assert_array_equal(data.samples.features["video"][:, 0], study.features["video"][2:])
    np.testing.assert_array_equal(data.samples.features["signal"][:, 0], study.features["signal"][2:])
    assert data.positions("test").tolist() == list(range(14, 22))


def test_samples_without_features_can_be_kept_with_the_modality_absent(study):
    study.paths["signal"] = write_features(study.folder / "signal.csv", study.ids[2:], study.features["signal"][2:])
    data = study.data(missing="mask")
    data.check()
    assert data.samples.masks["signal"][:, 0].tolist() == [False] * 2 + [True] * 22
    assert data.samples.masks["video"].all()
    np.testing.assert_array_equal(data.samples.features["signal"][2:, 0], study.features["signal"][2:])
    assert np.isfinite(data.samples.features["signal"]).all()
    assert data.summary().endswith("video 1x3, signal 1x2 absent from 2 samples (steps x features)")


def test_rows_that_are_not_samples_are_counted(study):
    values = study.features["signal"][1:].copy()
    values[3] = np.nan
    study.paths["signal"] = write_features(study.folder / "signal.csv", [*study.ids[2:], "stranger"], values)
    data = study.data(missing="drop", nan="drop")
    data.check()
    assert data.summary().startswith("21 samples of ")
    assert data.summary().endswith(
        "; 1 rows of signal.csv are not in the manifest; 24 rows of manifest.csv are 21 samples, "
        "2 dropped whose features are missing, 1 dropped whose features are NaN or infinite"
    )


@pytest.mark.parametrize("missing", ["error", "drop", "mask"])
def test_a_feature_file_of_other_samples_altogether_is_an_error(study, missing):
    ids = [f"other{number}" for number in range(24)]
    study.paths["signal"] = write_features(study.folder / "signal.csv", ids, study.features["signal"])
    message = complaint(study.data(missing=missing).check)
    assert "manifest.csv have no id in common: the one has 'other0', the other '000'" in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_a_value_that_is_not_finite_is_an_error_that_names_file_sample_and_column(study, bad, suffix):
    study.features["video"][[5, 17], 1] = bad
    study.paths["video"] = write_features(
        study.folder / f"video{suffix}", study.ids[::-1], study.features["video"][::-1]
    )
    message = complaint(study.data().check)
    assert f"video{suffix}, sample '005'" in message
    assert ("'f1'" if suffix == ".csv" else "'feature 1'") in message
    assert str(bad) in message
    assert "2 samples" in message
    assert "data.init_args.nan" in message


def test_a_value_that_is_not_finite_is_reported_with_its_step(study):
    clips = np.ones((24, 5, 2), np.float32)
    clips[3, 4, 1] = np.nan
    study.paths["signal"] = write_arrays(study.folder / "signal.npz", clips, study.ids)
    message = complaint(study.data().check)
    assert "sample '003', step 4" in message
    assert "'feature 1'" in message


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_a_value_beyond_single_precision_is_an_error_and_no_warning(study, suffix):
    values = study.features["video"].astype(np.float64)
    values[5, 1] = 1e39
    study.paths["video"] = write_features(study.folder / f"video{suffix}", study.ids, values)
    assert f"video{suffix}, sample '005'" in complaint(study.data().check)


def test_values_that_are_not_finite_do_not_matter_in_steps_that_were_not_recorded(study):
    clips, mask = np.ones((24, 5, 2), np.float32), np.ones((24, 5), np.bool_)
    clips[3, 4], mask[3, 4] = np.nan, False
    study.paths["signal"] = write_arrays(study.folder / "signal.npz", clips, study.ids, mask)
    data = study.data()
    data.check()
    assert np.isfinite(data.samples.features["signal"]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_with_values_that_are_not_finite_can_be_dropped(study, bad):
    study.features["video"][5, 1] = study.features["signal"][17, 0] = bad
    data = study.data(nan="drop")
    data.check()
    assert data.samples.ids.tolist() == [name for name in study.ids if name not in ("005", "017")]
    assert all(np.isfinite(values).all() for values in data.samples.features.values())


def test_dropping_every_sample_is_an_error(study):
    study.features["video"][:] = np.nan
    assert "no sample is left" in complaint(study.data(nan="drop").check)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_can_be_zero_after_standardisation(study, bad):
    # A NaN is what the models' standardisation reads as the training mean.
    study.features["video"][5, 1] = bad
    data = study.data(nan="zero")
    data.check()
    np.testing.assert_array_equal(np.argwhere(np.isnan(data.samples.features["video"])), [[5, 0, 1]])
    known = np.delete(study.features["video"][:12, 1], 5).astype(np.float64)
    mean, scale = data.statistics("video")
    assert mean[1].item() == pytest.approx(known.mean(), rel=1e-6)
    assert scale[1].item() == pytest.approx(known.std(), rel=1e-6)


def test_values_that_are_not_finite_are_zero_where_nothing_is_standardised(study):
    study.features["video"][5, 1] = np.inf
    data = study.data(nan="zero", standardize=False)
    assert data.samples.features["video"][5, 0, 1] == 0.0
    assert np.isfinite(data.samples.features["video"]).all()


def test_features_can_be_z_scored_within_each_subject(study):
    data = study.data(subject_zscore=["video"])
    expected = by_hand(study.features["video"], study.manifest["subject"].to_numpy())
    np.testing.assert_allclose(data.samples.features["video"][:, 0], expected, atol=1e-5)
    np.testing.assert_array_equal(data.samples.features["signal"][:, 0], study.features["signal"])


@pytest.mark.parametrize("standardize", [True, False])
def test_values_that_are_not_finite_take_no_part_in_a_subjects_z_score(study, standardize):
    study.features["video"][5, 1] = np.nan
    data = study.data(subject_zscore=["video"], nan="zero", standardize=standardize)
    expected = by_hand(study.features["video"], study.manifest["subject"].to_numpy())
    np.testing.assert_allclose(np.nan_to_num(data.samples.features["video"][:, 0]), np.nan_to_num(expected), atol=1e-5)


def test_a_subjects_z_score_ignores_steps_that_were_not_recorded(study):
    clips, mask = np.random.default_rng(0).normal(size=(24, 5, 2)).astype(np.float32), np.ones((24, 5), np.bool_)
    mask[::2, 3:] = False
    clips[~mask] = 1e6
    study.paths["signal"] = write_arrays(study.folder / "signal.npz", clips, study.ids, mask)
    scored = study.data(subject_zscore=["signal"]).samples.features["signal"]
    who = np.repeat(study.manifest["subject"].to_numpy()[:, None], 5, axis=1)[mask]
    np.testing.assert_allclose(scored[mask], by_hand(clips[mask], who), atol=1e-5)


def test_a_subjects_nearly_constant_and_zero_columns_are_not_blown_up_by_a_z_score(study):
    noise = np.random.default_rng(0).normal(size=24)
    study.features["video"] = np.stack([1000 + 1e-3 * noise, np.zeros(24), np.full(24, 0.1)], axis=1).astype(np.float32)
    scored = study.data(subject_zscore=["video"], std_floor=1e-3).samples.features["video"][:, 0]
    assert np.abs(scored[:, 0]).max() < 0.01
    np.testing.assert_array_equal(scored[:, 1], np.zeros(24))
    assert np.abs(scored[:, 2]).max() < 1e-3


def test_a_z_score_of_an_unknown_modality_is_an_error_that_names_it(study):
    message = complaint(study.data(subject_zscore=["audio"]).check)
    assert "'audio'" in message
    assert "video, signal" in message


def test_a_z_score_without_subjects_is_an_error(study):
    assert "subject" in complaint(study.data(subject_zscore=["video"], subject=None).check)


def test_without_subjects_a_given_split_is_used_and_none_is_made(study):
    study.manifest["split"] = (["train"] * 2 + ["validation", "test"]) * 6
    data = study.data(subject=None)
    data.check()
    assert np.array_equal(data.parts, study.manifest["split"])
    assert "no subject column" in complaint(study.data(subject=None, split=Split(scheme="loso")).check)


def test_a_subject_column_that_is_not_there_is_an_error_that_names_it(study):
    message = complaint(study.data(subject="person").check)
    assert "manifest.csv has no column 'person'" in message
    assert "data.init_args" in message


def test_a_fold_column_is_read_under_its_own_name(study):
    study.manifest["fold"] = np.arange(24) // 8
    data = study.data(split=Split(scheme="fold_column", fold=1), split_column="fold")
    assert data.positions("test").tolist() == list(range(8, 16))


def test_regression_reads_several_targets(study):
    study.manifest["valence"] = -study.manifest["arousal"]
    study.unlabel(4)
    study.manifest.loc[4, "valence"] = None
    data = study.data(task="regression", target=["valence", "arousal"])
    data.check()
    assert data.targets == ["valence", "arousal"]
    expected = study.manifest[["valence", "arousal"]].to_numpy(np.float32)
    np.testing.assert_array_equal(data.samples.target, expected)
    assert np.flatnonzero(~data.samples.labelled).tolist() == [4]


def test_arrays_that_become_tensors_may_be_written_to(study):
    # PyTorch shares their memory and warns of undefined behaviour otherwise.
    study.unlabel(1)
    samples = study.data().samples
    arrays = [samples.target, samples.labelled, *samples.features.values(), *samples.masks.values()]
    assert all(array.flags.writeable for array in arrays)


def test_contents_change_with_every_byte_and_not_with_the_folder(study, tmp_path):
    data = study.data()
    before = data.contents()
    assert set(before) == {"manifest", "features.video", "features.signal"}
    elsewhere = Study(tmp_path / "elsewhere")
    elsewhere.folder.mkdir()
    assert elsewhere.data().contents() == before
    elsewhere.features["signal"][3, 0] += 1
    after = elsewhere.data().contents()
    assert [role for role in before if after[role] != before[role]] == ["features.signal"]


def test_modality_names_are_known_without_reading_a_file():
    data = FeatureData("nowhere.csv", {"voice": "a.npz", "video": "b.npz"}, "label", prevalent="video")
    assert data.modality_names == ["voice", "video"]
    assert data.source == "nowhere.csv"


# --- what is no feature, and what is no number -----------------------------------------------------------------


COLUMNS = {
    "the target": ("label", {}),
    "the target in other letters": (" Label", {}),
    "one of several targets": ("valence", {"task": "regression", "target": ["arousal", "valence"]}),
    "a target that is not predicted": ("arousal", {}),
    "the subject": ("subject", {}),
    "the subject that nothing asks for": ("subject", {"subject": None}),
    "the part": ("split", {}),
    "the part that is not read": ("split", {"split": Split("kfold", folds=3)}),
    "the fold": ("fold", {"split": Split("fold_column", fold=1), "split_column": "fold"}),
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("which", COLUMNS)
def test_columns_that_describe_a_sample_are_not_features(study, which, suffix):
    name, options = COLUMNS[which]
    study.manifest["valence"] = -study.manifest["arousal"]
    table = pd.DataFrame(study.features["video"], columns=list("abc")).assign(id=study.ids, **{name: 0.5})
    study.paths["video"] = write_table(study.folder / f"video{suffix}", table)
    message = complaint(study.data(**options).check)
    assert f"video{suffix} has the column {name!r}, which describes the samples in the manifest" in message


def test_other_columns_of_the_manifest_may_be_features(study):
    study.manifest["age"] = np.arange(24)
    table = pd.DataFrame(study.features["video"], columns=["a", "age", "split_half"]).assign(id=study.ids)
    study.paths["video"] = write_table(study.folder / "video.csv", table)
    assert study.data().modalities["video"] == [3]


@pytest.mark.parametrize(
    "bad", ["NaN", "-nan(ind)", "#N/A", "#DIV/0!", "-1.#IND", "1.#QNAN", "#VALUE!", "inf", "1.#INF"]
)
def test_missing_values_of_openface_and_excel_follow_the_setting(study, bad):
    table = pd.DataFrame(study.features["video"].astype(object), columns=["f0", "f1", "f2"]).assign(id=study.ids)
    table.loc[5, "f1"] = bad
    study.paths["video"] = write_table(study.folder / "video.csv", table)
    assert "video.csv, sample '005': 'f1' is " in complaint(study.data().check)
    data = study.data(nan="zero")
    np.testing.assert_array_equal(np.argwhere(np.isnan(data.samples.features["video"])), [[5, 0, 1]])
    assert "video: 1 values of 1 column, 1 samples, are NaN" in data.summary()
    assert study.data(nan="drop").samples.ids.tolist() == [name for name in study.ids if name != "005"]


@quick
@given(
    holes=st.lists(st.tuples(st.integers(0, 23), st.integers(0, 2), st.sampled_from([np.nan, np.inf, -np.inf]))),
    lost=st.sets(st.integers(0, 23), max_size=4),
)
def test_the_first_line_counts_every_value_that_is_filled_in(holes, lost):
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder))
        for row, column, value in holes:
            study.features["video"][row, column] = value
        kept = [row for row in range(24) if row not in lost]
        ids = [study.ids[row] for row in kept]
        study.paths["signal"] = write_features(study.folder / "signal.csv", ids, study.features["signal"][kept])
        data = study.data(nan="zero", missing="drop")
        line = data.summary()
    values = study.features["video"][kept]
    bad = ~np.isfinite(values)
    columns = f"{bad.any(axis=0).sum()} column{'s' if bad.any(axis=0).sum() > 1 else ''}"
    assert (f"video: {bad.sum()} values of {columns}, {bad.any(axis=1).sum()} samples, are NaN" in line) == bad.any()
    assert ("video: " in line) == bad.any()
    assert (f"({np.isinf(values).sum()} infinite)" in line) == np.isinf(values).any()
    assert (f"24 rows of manifest.csv are {len(kept)} samples, {len(lost)} dropped" in line) == bool(lost)


def test_columns_without_any_number_are_named(study):
    study.features["video"][:, 2] = np.nan
    study.features["video"][3, 0] = np.inf
    line = study.data(nan="zero", standardize=False).summary()
    told = "video: 25 values of 2 columns, 24 samples, are NaN or infinite (1 infinite) and become 0"
    assert f"{told}; no number at all in 'f2'" in line


# --- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", WITH_IDS)
def test_ids_are_the_same_in_whichever_form_of_unicode_they_were_written(study, suffix):
    composed = [f"J\u00f6rg_{number}" for number in range(24)]
    apart = [name.replace("\u00f6", "o\u0308") for name in composed]
    study.manifest["id"] = apart
    study.paths["video"] = write_features(study.folder / f"video{suffix}", composed, study.features["video"])
    study.paths["signal"] = write_features(study.folder / f"signal{suffix}", apart, study.features["signal"])
    samples = study.data().samples
    assert samples.ids.tolist() == composed
    np.testing.assert_array_equal(samples.features["video"][:, 0], study.features["video"])


WRITTEN = {
    "space": (lambda name: f"{name} ", "a space at the start or end"),
    "suffix": (lambda name: f"{name}.mp4", "a suffix"),
    "number": (lambda name: str(int(name)), "leading zeros"),
    "invisible": (lambda name: f"{name}\u200b", "U+200B ZERO WIDTH SPACE"),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_ids_that_look_the_same_are_reported_as_different(study, how):
    write, says = WRITTEN[how]
    others = [write(name) for name in study.ids]
    study.paths["signal"] = write_features(study.folder / "signal.npz", others, study.features["signal"])
    message = complaint(study.data().check)
    assert f"no id in common: the one has {others[0]!r}, the other '000': they differ by" in message
    assert says in message
    mixed = [*study.ids[:-2], *others[-2:]]
    study.paths["signal"] = write_features(study.folder / "signal.npz", mixed, study.features["signal"])
    message = complaint(study.data().check)
    assert "no features of sample '022' (2 of 24 samples" in message
    assert f"it has {others[22]!r}, the manifest '022': they differ by" in message
    line = study.data(missing="mask").summary()
    assert "absent from 2 samples" in line
    assert (
        f"2 rows of signal.npz are not in the manifest; it has {others[22]!r}, the manifest '022': they differ" in line
    )
    assert says in line


def test_people_and_classes_that_look_the_same_are_reported(study):
    study.manifest.loc[1, "label"] = "pain "
    study.manifest.loc[0, "subject"] = "P0"
    line = study.data().summary()
    assert "(calm: 12, pain: 11, 'pain ': 1)" in line
    assert "the classes 'pain' and 'pain ' are taken for two: they differ by a space at the start or end" in line
    assert "the subjects 'P0' and 'p0' are taken for two: they differ by upper and lower case" in line


def test_people_without_a_remaining_sample_are_counted(study):
    study.features["video"][:4] = np.nan
    line = study.data(nan="drop").summary()
    assert line.startswith("20 samples of 5 subjects")
    assert line.endswith("4 dropped whose features are NaN or infinite; 1 of 6 subjects have no sample left")


# --- labels that are missing -----------------------------------------------------------------------------------


def test_words_for_missing_labels_are_reported_or_taken_as_missing(study):
    study.manifest["label"] = ["0", "1", "NA"] * 8
    message = complaint(study.data().check)
    assert "manifest.csv: the target 'label' is 'NA' in 8 rows (first in line 4) and a number elsewhere" in message
    assert 'data.init_args.missing_labels to ["NA"]' in message
    data = study.data(missing_labels=["NA", "none"])
    data.check()
    assert data.targets == ["0", "1"]
    assert np.flatnonzero(~data.samples.labelled).tolist() == list(range(2, 24, 3))
    line = data.summary()
    assert "16 with a label (0: 8, 1: 8), 8 without" in line
    assert "8 targets are 'NA' and taken as missing (missing_labels)" in line
    assert "no targets are 'none' and taken as missing" in line


def test_remarks_on_files_are_shared_with_the_data(study):
    study.features["video"][5, 1] = np.nan
    first, second = study.data(nan="zero"), study.data(nan="zero")
    line = first.summary()
    second.share(first)
    assert second.summary() == line
    assert "1 values of 1 column" in line


def test_the_target_under_another_name_is_reported(study):
    classes = np.where(study.manifest["label"] == "pain", 3.5, -1)
    study.features["video"][:, 1] = classes
    study.features["signal"][:, 0] = study.manifest["arousal"]
    study.unlabel(2, 3)
    assert "; video: 'f1' reveals the target of all 22 labelled samples" in study.data().summary()
    line = study.data(task="regression", target="arousal").summary()
    assert "; signal: 'f0' reveals the target of all 22 labelled samples" in line
    assert "video:" not in line
