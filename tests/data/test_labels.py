"""Labels of some people alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.cli.main import main
from mtpkdot.data import PlantedData, Split
from mtpkdot.data.labels import hide_labels, label_counts
from tests.data.helpers import cohort, complaint, quick

SMALL = {"subjects": 20, "samples_per_subject": 6, "steps": 1, "split": Split("kfold", folds=4)}


def labelled_people(data, part="train"):
    rows = data.positions(part)
    return set(data.samples.subjects[rows[data.samples.known[rows]]].tolist())


@pytest.mark.parametrize(("wanted", "count"), [("all", 12), (3, 3), (1, 1), (12, 12), (0.5, 6), (1.0, 12), (0.01, 1)])
def test_the_requested_number_of_training_people_keep_their_labels(wanted, count):
    data = PlantedData(**SMALL, labelled_subjects=wanted)
    assert len(labelled_people(data)) == count
    hidden = (data.parts == "train") & ~data.samples.labelled
    assert hidden.sum() == 6 * (12 - count)
    assert (data.samples.target[hidden] == -1).all()


@pytest.mark.parametrize("wanted", ["all", 2, 0.5])
def test_parts_and_labels_for_evaluation_are_the_same_whatever_is_hidden(wanted):
    everything, some = PlantedData(**SMALL), PlantedData(**SMALL, labelled_subjects=wanted)
    np.testing.assert_array_equal(some.parts, everything.parts)
    judging = everything.parts != "train"
    assert some.samples.labelled[judging].all()
    np.testing.assert_array_equal(some.samples.target[judging], everything.samples.target[judging])


def test_people_labelled_among_few_are_labelled_among_more():
    few, more = (labelled_people(PlantedData(**SMALL, labelled_subjects=n)) for n in (3, 7))
    assert few < more


@st.composite
def people_with_classes(draw):
    """People of whom some have only some of three classes."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=5, max_size=10))
    samples = cohort(sizes, class_names=["a", "b", "c"])
    target = np.array(draw(st.lists(st.integers(0, 2), min_size=len(samples), max_size=len(samples))))
    return replace(samples, target=target)


@quick
@given(people_with_classes(), st.integers(1, 5), st.integers(0, 99))
def test_every_class_keeps_a_label_if_there_are_enough_people(samples, count, seed):
    parts = np.full(len(samples), "train")
    hidden = hide_labels(samples, parts, count, (seed,))
    people = np.unique(samples.subjects)
    classes = [set(samples.target[samples.subjects == person].tolist()) for person in people]
    kept = {person for person in people if hidden.labelled[hidden.subjects == person].all()}
    assert len(kept) == count
    assert hidden.labelled.sum() == np.isin(samples.subjects, list(kept)).sum()
    found = set(samples.target[hidden.labelled].tolist())
    if count >= 3:  # one person for each class is always enough
        assert found == set().union(*classes)
    plain = set(np.random.default_rng([seed]).permutation(people)[:count].tolist())
    of_plain = set(samples.target[np.isin(samples.subjects, list(plain))].tolist())
    assert (kept == plain) or of_plain < set().union(*classes)


def test_labels_of_steps_count_one_by_one():
    samples = cohort([1] * 6)
    target = np.zeros((6, 2), dtype=int)
    target[4, 1] = 1
    labelled = np.ones((6, 2), dtype=bool)
    steps = replace(samples, target=target, labelled=labelled)
    for seed in range(6):
        hidden = hide_labels(steps, np.full(6, "train"), 2, (seed,))
        assert set(hidden.target[hidden.labelled].tolist()) == {0, 1}
        hidden = hide_labels(replace(steps, labelled=labelled & (target == 0)), np.full(6, "train"), 2, (seed,))
        assert hidden.labelled.any(axis=1).sum() == 2


def test_every_fold_and_seed_has_a_draw_of_its_own():
    draws = {
        frozenset(
            labelled_people(PlantedData(**{**SMALL, "split": Split("kfold", folds=4)}, seed=s, labelled_subjects=4))
        )
        for s in range(6)
    }
    assert len(draws) > 3


def test_values_of_hidden_targets_are_gone():
    data = PlantedData(**SMALL, task="regression", labelled_subjects=2)
    hidden = (data.parts == "train") & ~data.samples.labelled
    assert np.isnan(data.samples.target[hidden]).all()


def test_steps_lose_all_their_targets():
    data = PlantedData(**SMALL, task="regression")
    samples, parts = data.samples, data.parts
    stepwise = type(samples)(**{**vars(samples), "target": samples.target[:, None].repeat(3, axis=1)})
    stepwise.labelled = samples.labelled[:, None].repeat(3, axis=1)
    hidden = hide_labels(stepwise, parts, 2, (0,))
    assert hidden.labelled.sum() == 3 * (6 * 2 + (parts != "train").sum())


def test_the_original_keeps_its_labels():
    data = PlantedData(**SMALL)
    before = data.samples.labelled.copy()
    hide_labels(data.samples, data.parts, 2, (0,))
    np.testing.assert_array_equal(data.samples.labelled, before)


def test_more_people_than_there_are_is_reported():
    message = complaint(lambda: PlantedData(**SMALL, labelled_subjects=13).samples)
    assert "labelled_subjects is 13" in message
    assert "12 subjects" in message


@pytest.mark.parametrize("wrong", [0, -1, 1.5, 0.0, "some", True])
def test_an_invalid_number_of_people_is_an_error(wrong):
    with pytest.raises(ValueError, match="labelled_subjects"):
        PlantedData(**SMALL, labelled_subjects=wrong)


def test_a_run_says_how_many_are_labelled(tiny_config, tmp_path, capsys):
    arguments = ["--pipeline.root", str(tmp_path), "--pipeline.stages=[backbone.video]", "--data.labelled=1.0"]
    assert main(["fit", "--config", str(tiny_config), *arguments, "--data.labelled_subjects=2"]) == 0
    assert "72 train (24 labelled)" in capsys.readouterr().out


@quick
@given(
    st.lists(st.integers(-1, 14), min_size=1, max_size=60).filter(lambda drawn: max(drawn) >= 0), st.integers(15, 20)
)
def test_the_counts_of_the_classes_add_up(target, classes):
    target = np.array(target)
    samples = cohort([1] * len(target), class_names=[f"c{number}" for number in range(classes)])
    told = label_counts(replace(samples, target=target, labelled=target >= 0))
    with_label, _, rest = told.partition(" with a label (")
    counts = [int(part.rpartition(": ")[2]) for part in rest.partition(")")[0].split(", ")]
    assert len(counts) == 13  # a dozen classes, and the others together
    assert sum(counts) == int(with_label) == (target >= 0).sum()
    assert f"{classes - 12} more classes: {(target >= 12).sum()}" in told
    without = (target < 0).sum()
    assert told.endswith(f", {without} without" if without else ")")


def test_labelled_numbers_are_counted_if_some_are_missing():
    samples = cohort([2, 2], class_names=[], target=np.zeros((4, 1), np.float32))
    assert label_counts(samples) == ""
    assert label_counts(replace(samples, labelled=np.array([1, 1, 1, 0], bool))) == "3 with a label, 1 without"


def test_names_of_classes_with_invisible_ends_are_in_quotes():
    samples = cohort([1] * 4, class_names=["a ", "b, c"])
    assert label_counts(samples) == "4 with a label ('a ': 2, 'b, c': 2)"


def test_the_choice_of_people_has_a_seed_of_its_own_if_wanted():
    def chosen(**seeds):
        return labelled_people(PlantedData(**SMALL, labelled_subjects=3, **seeds))

    assert chosen(seed=7, labelled_seed=1) == chosen(seed=1) == chosen(seed=1, labelled_seed=1)
    assert chosen(seed=7) != chosen(seed=1)
    with pytest.raises(ValueError, match="labelled_seed is 0 or more"):
        chosen(labelled_seed=-1)
