import numpy as np
import pytest

from mtpkdot.data import PlantedData, Split
from mtpkdot.modules.teaching import METHODS
from mtpkdot.modules.teaching.level import level_weights

OWN = METHODS["mtpkdot_plus"].terms()
ALL = ["joint", "video", "signal"]


def planted(labelled, **options):
    """32 people of 4 clips for training; only some of them labelled."""
    few = {"subjects": 50, "samples_per_subject": 4, "steps": 2, "split": Split("kfold", folds=5)}
    data = PlantedData(**few | {"batch_size": 16, "labelled_subjects": labelled} | options)
    data.setup("fit")
    return data


def level(data, weights=OWN, teachers=ALL):
    return level_weights(weights, data, "video", teachers)


@pytest.mark.parametrize(("labelled", "output"), [(2, 15.0), (4, 7.0), (8, 3.0), (16, 3.0), ("all", 3.0)])
def test_an_unlabelled_row_counts_no_less_than_a_labelled_one(labelled, output):
    assert level(planted(labelled)) == {"task": 1.0, "output": output, "transport": 0.2}


def test_the_weight_is_level_with_that_of_the_task():
    assert level(planted(2), {"task": 0.5, "output": 3.0}) == {"task": 0.5, "output": 7.5}
    assert level(planted(2), {"output": 3.0}) == {"output": 3.0}
    assert level(planted(2), {"task": 1.0, "transport": 0.2}) == {"task": 1.0, "transport": 0.2}


@pytest.mark.parametrize("batch_size", [4, 8, 16])
def test_every_row_counts_alike_in_an_epoch_also_where_batches_have_no_label(batch_size):
    data = planted(1, batch_size=batch_size)
    known = data.samples.labelled[data.positions("train")]
    output, generator = level(data)["output"], np.random.default_rng(0)
    of_labelled = of_others = 0.0
    for _ in range(500):
        for batch in np.split(generator.permutation(known), len(known) // batch_size):
            of_labelled += float(batch.any()) / known.sum()
            of_others += output * float((~batch).any()) / (~known).sum()
    # Labels that meet in a batch share it: the expected share is an upper bound, and the weight close to level.
    assert 1.0 <= of_others / of_labelled < 1.35


@pytest.mark.parametrize("teachers", [ALL, ["signal"], ["joint"]])
def test_only_rows_that_the_student_sees_and_a_teacher_teaches_count(teachers):
    data = planted(3)
    samples, rows = data.samples, data.positions("train")
    known, others = rows[samples.labelled[rows]], rows[~samples.labelled[rows]]
    assert (len(known), len(others)) == (12, 116)
    samples.masks["video"][np.concatenate([known[10:], others[100:]])] = False
    samples.masks["signal"][others[:20]] = False
    assert level(data, teachers=teachers)["output"] == (8.0 if teachers == ["signal"] else 10.0)


def test_steps_are_rows_where_they_have_targets():
    data = planted(4)
    data.samples.labelled = np.repeat(data.samples.labelled[:, None], 2, axis=1)
    data.samples.labelled[:, 1] = False
    assert data.samples.per_step
    assert level(data)["output"] == (16 + 2 * 112) / 16


def test_without_a_label_there_is_nothing_to_level():
    data = planted(2)
    data.samples.labelled[:] = False
    assert level(data) == OWN
