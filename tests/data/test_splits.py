"""Subject-disjoint splits, made and checked."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mtpkdot.data.splits import PARTS, Split, assign_parts, folds_of
from mtpkdot.errors import DataError, UserError
from tests.data.helpers import cohort, complaint, quick

SIZES = st.lists(st.integers(1, 4), min_size=4, max_size=9)
SHARES = st.floats(0.0, 0.6)
SEEDS = st.integers(0, 2**32 - 1)
SOURCE = "folder/manifest.csv"


@st.composite
def made_splits(draw):
    """A cohort and a split to be made of it, of any scheme."""
    sizes = draw(SIZES)
    samples = cohort(sizes)
    scheme = draw(st.sampled_from(["kfold", "loso", "holdout", "fold_column"]))
    folds = len(sizes) if scheme == "loso" else draw(st.integers(2, len(sizes)))
    fold = draw(st.integers(0, folds - 1))
    if scheme == "fold_column":
        fold_of = {subject: str(number % folds) for number, subject in enumerate(np.unique(samples.subjects))}
        samples = replace(samples, split_column=np.array([fold_of[subject] for subject in samples.subjects]))
    shares = {"validation": draw(SHARES), "test": draw(SHARES)}
    return samples, Split(scheme=scheme, folds=folds, fold=fold, seed=draw(SEEDS), **shares)


def parts_or_assume(split, samples):
    """Few subjects may leave no one to train on, which is an orderly error and not what is tested here."""
    try:
        return assign_parts(split, samples, SOURCE)
    except DataError as error:
        assume("part is empty" not in str(error))
        raise


@quick
@given(made_splits())
def test_no_subject_is_in_two_parts_and_every_sample_is_in_one_whatever_the_split(case):
    samples, split = case
    parts = parts_or_assume(split, samples)
    assert len(parts) == len(samples)
    assert set(parts.tolist()) == set(PARTS)
    for subject in np.unique(samples.subjects):
        assert len(np.unique(parts[samples.subjects == subject])) == 1


@quick
@given(made_splits())
def test_the_same_split_of_the_same_samples_gives_the_same_parts(case):
    samples, split = case
    first = parts_or_assume(split, samples)
    np.testing.assert_array_equal(first, assign_parts(replace(split), replace(samples), SOURCE))


@quick
@given(made_splits(), st.randoms(use_true_random=False))
def test_a_split_does_not_depend_on_the_order_of_the_rows(case, random):
    samples, split = case
    before = parts_or_assume(split, samples)
    order = np.array(random.sample(range(len(samples)), len(samples)))
    column = None if samples.split_column is None else samples.split_column[order]
    moved = replace(samples, ids=samples.ids[order], subjects=samples.subjects[order], split_column=column)
    np.testing.assert_array_equal(assign_parts(split, moved, SOURCE), before[order])


@quick
@given(SIZES, SEEDS, st.data())
def test_the_test_parts_of_a_k_fold_partition_the_samples(sizes, seed, data):
    folds = data.draw(st.integers(2, len(sizes) - 1))
    samples = cohort(sizes)
    tested = [
        assign_parts(Split(scheme="kfold", folds=folds, fold=k, seed=seed, validation=0.1), samples, SOURCE) == "test"
        for k in range(folds)
    ]
    np.testing.assert_array_equal(np.sum(tested, axis=0), np.ones(len(samples)))


@quick
@given(SIZES)
def test_leave_one_out_tests_the_subjects_one_by_one_in_sorted_order(sizes):
    samples = cohort(sizes)
    for fold, subject in enumerate(sorted(set(samples.subjects.tolist()))):
        parts = assign_parts(Split(scheme="loso", fold=fold), samples, SOURCE)
        np.testing.assert_array_equal(parts == "test", samples.subjects == subject)


@st.composite
def partly_labelled(draw):
    """A cohort of which some people have no label at all, and others only some."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=8, max_size=14))
    samples = cohort(sizes)
    people = np.unique(samples.subjects)
    without = people[: draw(st.integers(1, len(people) - 5))]
    labelled = ~np.isin(samples.subjects, without)
    for subject in people[len(without) :]:
        rows = np.flatnonzero(samples.subjects == subject)
        labelled[rows[: draw(st.integers(0, len(rows) - 1))]] = False
    return replace(samples, labelled=labelled), set(without.tolist())


@quick
@given(partly_labelled(), SEEDS, st.sampled_from(["kfold", "loso"]))
def test_people_without_labels_are_trained_on_in_every_fold(case, seed, scheme):
    samples, without = case
    split = Split(scheme=scheme, folds=3, seed=seed)
    tested = np.zeros(len(samples), dtype=int)
    folds = folds_of(split, samples, SOURCE)
    for fold in folds:
        parts = assign_parts(replace(split, fold=fold), samples, SOURCE)
        assert set(parts[np.isin(samples.subjects, list(without))].tolist()) == {"train"}
        tested += parts == "test"
    np.testing.assert_array_equal(tested, ~np.isin(samples.subjects, list(without)))
    assert len(folds) == (3 if scheme == "kfold" else len(np.unique(samples.subjects)) - len(without))


@quick
@given(partly_labelled(), SEEDS)
def test_a_hold_out_is_of_people_with_labels(case, seed):
    samples, without = case
    parts = assign_parts(Split(scheme="holdout", test=0.4, seed=seed), samples, SOURCE)
    assert set(parts[np.isin(samples.subjects, list(without))].tolist()) == {"train"}


def test_people_without_labels_cannot_make_folds():
    samples = replace(cohort([2] * 6), labelled=np.repeat([True, False], [4, 8]))
    message = complaint(lambda: assign_parts(Split(scheme="kfold", folds=3), samples, SOURCE))
    assert "2 subjects with labels: 3 folds cannot be made" in message


@pytest.mark.parametrize("names", [["1", "2", "3"], ["0", "1", "2"], ["2", "10", "03"]])
def test_the_folds_of_a_column_are_its_numbers(names):
    samples = cohort([1] * 9, split_column=np.array(names * 3))
    split = Split(scheme="fold_column")
    folds = folds_of(split, samples, SOURCE)
    assert folds == sorted(map(int, names))
    for fold in folds:
        parts = assign_parts(replace(split, fold=fold), samples, SOURCE)
        np.testing.assert_array_equal(parts == "test", np.array([int(name) == fold for name in names * 3]))


def test_a_fold_column_of_words_is_reported():
    samples = cohort([1] * 3, split_column=np.array(["1", "two", "3"]))
    assert "the fold 'two' is not a number" in complaint(lambda: folds_of(Split(scheme="fold_column"), samples, SOURCE))


def test_another_seed_makes_another_k_fold():
    samples = cohort([2] * 12)
    tested = {
        tuple(assign_parts(Split(scheme="kfold", folds=4, seed=seed), samples, SOURCE) == "test") for seed in range(8)
    }
    assert len(tested) > 1


def test_another_seed_makes_another_hold_out():
    samples = cohort([2] * 12)
    tested = {tuple(assign_parts(Split(scheme="holdout", seed=seed), samples, SOURCE) == "test") for seed in range(8)}
    assert len(tested) > 1


def test_the_shares_of_a_hold_out_count_subjects():
    samples = cohort([1, 4] * 5)
    parts = assign_parts(Split(scheme="holdout", test=0.3, validation=3 / 7), samples, SOURCE)
    counts = {part: len(np.unique(samples.subjects[parts == part])) for part in PARTS}
    assert counts == {"train": 4, "validation": 3, "test": 3}


def test_the_validation_share_is_one_of_the_subjects_that_are_not_tested():
    samples = cohort([2] * 11)
    parts = assign_parts(Split(scheme="loso", fold=3, validation=0.4), samples, SOURCE)
    assert len(np.unique(samples.subjects[parts == "validation"])) == 4


def test_named_test_and_validation_subjects_are_exactly_those_parts():
    samples = cohort([3] * 6)
    split = Split(scheme="holdout", test_subjects=["s04", "s01"], validation_subjects=["s02"])
    parts = assign_parts(split, samples, SOURCE)
    assert set(samples.subjects[parts == "test"].tolist()) == {"s01", "s04"}
    assert set(samples.subjects[parts == "validation"].tolist()) == {"s02"}
    assert set(samples.subjects[parts == "train"].tolist()) == {"s00", "s03", "s05"}


def test_validation_subjects_can_be_named_for_a_k_fold():
    samples = cohort([2] * 6)
    tested = assign_parts(Split(scheme="kfold", folds=3), samples, SOURCE) == "test"
    free = sorted(set(samples.subjects[~tested].tolist()))
    parts = assign_parts(Split(scheme="kfold", folds=3, validation_subjects=free[:1]), samples, SOURCE)
    assert set(samples.subjects[parts == "validation"].tolist()) == {free[0]}


def test_the_parts_follow_a_fold_column():
    folds = np.array(["0", "0", "2", "2", "10", "10"])
    samples = cohort([1] * 6, split_column=folds)
    parts = assign_parts(Split(scheme="fold_column", fold=10), samples, SOURCE)
    np.testing.assert_array_equal(parts == "test", folds == "10")


def test_people_without_labels_are_trained_on_in_every_fold_of_a_column():
    folds = np.array(["0", "0", "1", "1", "3", "2", "2"])
    samples = cohort([1] * 7, split_column=folds)
    samples.labelled[[3, 4]] = False
    assert folds_of(Split(scheme="fold_column"), samples, SOURCE) == [0, 1, 2]
    parts = assign_parts(Split(scheme="fold_column", fold=1), samples, SOURCE)
    assert np.flatnonzero(parts == "test").tolist() == [2]
    assert parts[[3, 4]].tolist() == ["train", "train"]


def test_a_split_column_is_read_in_the_usual_spellings():
    names = ["train", "Training", " TRAIN ", "val", "valid", "dev", "Validation", "test", "Testing"]
    parts = assign_parts(Split(), cohort([1] * len(names), split_column=np.array(names)), SOURCE)
    assert parts.tolist() == ["train"] * 3 + ["validation"] * 4 + ["test"] * 2


def test_an_unknown_part_is_an_error_that_names_the_sample_and_the_part():
    samples = cohort([1, 1, 1], split_column=np.array(["train", "valdation", "test"]))
    message = complaint(lambda: assign_parts(Split(), samples, SOURCE))
    assert SOURCE in message
    assert "'clip001'" in message
    assert "'valdation'" in message


@pytest.mark.parametrize("missing", PARTS)
def test_an_empty_part_is_an_error_that_names_it(missing):
    column = np.array([part if part != missing else next(p for p in PARTS if p != missing) for part in PARTS])
    message = complaint(lambda: assign_parts(Split(), cohort([1, 1, 1], split_column=column), SOURCE))
    assert f"the {missing} part is empty" in message
    assert SOURCE in message


@pytest.mark.parametrize("part", PARTS)
def test_a_part_without_any_target_is_an_error_that_names_it(part):
    column = np.array(PARTS)
    samples = cohort([1, 1, 1], split_column=column, labelled=column != part)
    message = complaint(lambda: assign_parts(Split(), samples, SOURCE))
    assert f"no sample of the {part} part has a target" in message


def test_a_subject_in_two_parts_is_an_error_that_names_the_subject_and_both_parts():
    column = np.array(["train", "train", "validation", "test", "train"])
    message = complaint(lambda: assign_parts(Split(), cohort([2, 1, 2], split_column=column), SOURCE))
    assert "subject 's02' is in both test and train" in message


def test_a_subject_in_two_folds_is_an_error():
    samples = cohort([2, 2, 2, 1], split_column=np.array(["0", "0", "0", "1", "1", "1", "2"]))
    message = complaint(lambda: assign_parts(Split(scheme="fold_column", fold=0), samples, SOURCE))
    assert "'s01'" in message


@pytest.mark.parametrize(("scheme", "fold"), [("kfold", -1), ("kfold", 3), ("loso", -1), ("loso", 5)])
def test_a_fold_out_of_range_is_an_error_that_names_the_range(scheme, fold):
    message = complaint(lambda: assign_parts(Split(scheme=scheme, folds=3, fold=fold), cohort([2] * 5), SOURCE))
    assert f"fold {fold} does not exist" in message
    assert ("0..2" if scheme == "kfold" else "0..4") in message


def test_a_fold_that_the_fold_column_lacks_is_an_error_that_lists_the_folds():
    samples = cohort([1] * 4, split_column=np.array(["a", "b", "c", "c"]))
    message = complaint(lambda: assign_parts(Split(scheme="fold_column", fold=7), samples, SOURCE))
    assert "no fold 7" in message
    assert "a, b, c" in message


@pytest.mark.parametrize("folds", [0, 1, 6])
def test_a_number_of_folds_that_the_subjects_do_not_allow_is_an_error(folds):
    message = complaint(lambda: assign_parts(Split(scheme="kfold", folds=folds), cohort([2] * 5), SOURCE))
    assert "5 subjects" in message
    assert f"{folds} folds" in message


@pytest.mark.parametrize("key", ["test_subjects", "validation_subjects"])
def test_an_unknown_subject_is_an_error_that_names_it_and_the_key(key):
    split = Split(scheme="holdout", **{key: ["s01", "nobody"]})
    message = complaint(lambda: assign_parts(split, cohort([2] * 5), SOURCE))
    assert "'nobody'" in message
    assert f"split.{key}" in message


def test_a_tested_subject_cannot_select_the_epoch():
    split = Split(scheme="holdout", test_subjects=["s01"], validation_subjects=["s01"])
    message = complaint(lambda: assign_parts(split, cohort([2] * 5), SOURCE))
    assert "'s01'" in message
    assert "validation_subjects" in message


def test_testing_everybody_is_an_error():
    split = Split(scheme="holdout", test_subjects=[f"s{number:02d}" for number in range(4)])
    assert "the train part is empty" in complaint(lambda: assign_parts(split, cohort([2] * 4), SOURCE))


@pytest.mark.parametrize("scheme", ["kfold", "loso", "holdout"])
def test_no_split_is_made_where_subjects_are_unknown(scheme):
    samples = cohort([2] * 5, knows_subjects=False)
    message = complaint(lambda: assign_parts(Split(scheme=scheme), samples, SOURCE))
    assert f"{SOURCE} has no subject column" in message
    assert "data.init_args.subject" in message


@pytest.mark.parametrize(("scheme", "word"), [("column", "split column"), ("fold_column", "fold column")])
def test_a_missing_split_or_fold_column_is_an_error(scheme, word):
    assert f"no {word}" in complaint(lambda: assign_parts(Split(scheme=scheme), cohort([2] * 5), SOURCE))


@pytest.mark.parametrize("options", [{"validation": -0.5}, {"test": -0.5}, {"validation": np.nan}, {"test": np.nan}])
def test_a_share_outside_0_to_1_is_an_error_that_names_the_key(options):
    with pytest.raises(UserError, match=next(iter(options))):
        assign_parts(Split(scheme="holdout", **options), cohort([2] * 5), SOURCE)


@pytest.mark.parametrize("scheme", ["kfold", "loso", "holdout"])
def test_a_negative_seed_is_an_error_that_names_the_key(scheme):
    with pytest.raises(UserError, match="seed"):
        assign_parts(Split(scheme=scheme, seed=-1), cohort([2] * 5), SOURCE)


def test_splitting_by_clip_ignores_who_is_who():
    samples = cohort([10] * 3)
    parts = assign_parts(Split(scheme="kfold", folds=5), samples, SOURCE, by_clip=True)
    assert np.sum(parts == "test") == 6
    assert any(len(np.unique(parts[samples.subjects == subject])) > 1 for subject in np.unique(samples.subjects))


def test_splitting_by_clip_accepts_a_split_column_that_mixes_subjects():
    column = np.array(["train", "test", "validation", "train"])
    parts = assign_parts(Split(), cohort([2, 2], split_column=column), SOURCE, by_clip=True)
    assert parts.tolist() == column.tolist()


def test_a_split_column_is_accepted_where_subjects_are_unknown():
    column = np.array(["train", "test", "validation", "train"])
    parts = assign_parts(Split(), cohort([2, 2], split_column=column, knows_subjects=False), SOURCE)
    assert parts.tolist() == column.tolist()


def test_subjects_that_a_config_names_are_compared_in_one_form_of_unicode():
    samples = cohort([2] * 6)
    composed, apart = "J\u00f6rg", "Jo\u0308rg"
    for named, written in ((composed, apart), (apart, composed)):
        people = np.where(samples.subjects == "s00", written, samples.subjects)
        split = Split("holdout", test_subjects=[named], validation_subjects=["s01"])
        parts = assign_parts(split, replace(samples, subjects=people), "m.csv")
        assert np.flatnonzero(parts == "test").tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "how"), [("S02", "upper and lower case"), ("s02 ", "a space"), ("s2", "leading zeros")]
)
def test_a_subject_with_a_similar_name_is_reported_as_different(name, how):
    split = Split("holdout", test_subjects=[name])
    message = complaint(lambda: assign_parts(split, cohort([2] * 6), "m.csv"))
    assert (
        f"names {name!r}, which m.csv does not have (or which is tested); it has 's02': they differ by {how}" in message
    )
