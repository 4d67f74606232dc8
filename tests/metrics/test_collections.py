import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, mean_absolute_error

from mtpkdot.metrics.collections import best_mode, logged_metrics, metric_names, score_rows, task_metrics
from mtpkdot.metrics.definitions import LOW, METRICS
from mtpkdot.metrics.values import ConcordanceCorrelation
from tests.loops import over

property_test = settings(deadline=None, max_examples=50, derandomize=True)


def logits_of(classes, num_classes):
    """Logits whose largest entry is the class, with noise on the others."""
    noise = torch.rand(len(classes), num_classes, generator=torch.Generator().manual_seed(0))
    return noise.scatter(1, torch.as_tensor(classes)[:, None], 3.0)


def thresholds_of(levels, num_classes):
    """Logits of thresholds of which as many are passed as the level says, in any order."""
    passed = torch.as_tensor(levels)[:, None] > torch.arange(num_classes - 1)
    shuffled = passed[:, torch.randperm(num_classes - 1, generator=torch.Generator().manual_seed(0))]
    return torch.where(shuffled, 0.7, -1.3)


@st.composite
def labellings(draw):
    num_classes = draw(st.integers(2, 6))
    n = draw(st.integers(1, 30))
    classes = st.lists(st.integers(0, num_classes - 1), min_size=n, max_size=n)
    return num_classes, draw(classes), draw(classes), draw(st.integers(1, n))


@property_test
@given(labellings())
def test_accuracy_and_macro_f1_equal_those_of_scikit_learn_over_any_batches(labelling):
    num_classes, predicted, truth, batch = labelling
    metrics = task_metrics("classification", num_classes)
    logits = logits_of(predicted, num_classes)
    for part, target in zip(logits.split(batch), torch.tensor(truth).split(batch), strict=True):
        metrics.update(part, target)
    values = metrics.compute()
    assert float(values["accuracy"]) == pytest.approx(accuracy_score(truth, predicted))
    assert float(values["macro_f1"]) == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))


@over(
    "predicted, truth, expected",
    [
        ([0, 0, 1, 1], [0, 0, 1, 1], 1.0),  # class 2 is nowhere: it does not count
        ([0, 0, 0, 0], [0, 0, 1, 1], 1 / 3),  # F1 of 2/3 and 0
        ([0, 2], [0, 0], 1 / 3),  # class 2 is predicted but absent: it counts with 0
    ],
)
def test_macro_f1_counts_the_classes_that_occur_in_truth_or_predictions(predicted, truth, expected):
    metrics = task_metrics("classification", 3)
    metrics.update(logits_of(predicted, 3), torch.tensor(truth))
    assert float(metrics.compute()["macro_f1"]) == pytest.approx(expected)


@property_test
@given(labellings())
def test_ordinal_metrics_equal_those_of_scikit_learn_over_any_batches(labelling):
    num_classes, predicted, truth, batch = labelling
    metrics = task_metrics("ordinal", num_classes - 1)
    output = thresholds_of(predicted, num_classes)
    for _ in range(2):  # the second time after a reset
        for part, target in zip(output.split(batch), torch.tensor(truth).split(batch), strict=True):
            metrics.update(part, target)
        values = metrics.compute()
        metrics.reset()
        assert float(values["accuracy"]) == pytest.approx(accuracy_score(truth, predicted))
        assert float(values["mae"]) == pytest.approx(mean_absolute_error(truth, predicted))
        if len({*predicted, *truth}) > 1:
            kappa = cohen_kappa_score(truth, predicted, weights="quadratic", labels=range(num_classes))
            assert float(values["qwk"]) == pytest.approx(kappa, abs=1e-5)


@over("task", list(METRICS))
def test_every_metric_of_the_task_is_computed_and_can_select_an_epoch(task):
    metrics = task_metrics(task, 2)
    metrics.update(torch.zeros(3, 2), torch.zeros(3, 2) if task == "regression" else torch.tensor([0, 1, 1]))
    assert set(metrics.compute()) == {
        *METRICS[task],
        "loss",
        *([] if task == "regression" else ["calibrated_loss"]),
    }
    assert logged_metrics(task) == list(METRICS[task])
    low = {name for name in METRICS[task] if best_mode(f"val/{name}") == "min"}
    assert low == LOW & set(METRICS[task])
    assert best_mode("train/loss") == best_mode("val/loss") == "min"


@over(
    "task, names",
    [("classification", ["accuracy", "macro_f1"]), ("ordinal", ["qwk", "accuracy", "mae"]), ("regression", ["ccc"])],
)
def test_results_have_the_first_metrics_of_the_task(task, names):
    assert metric_names(task) == names
    assert best_mode(f"val/{names[0]}") == "max"


def test_regression_is_measured_by_the_concordance_of_every_target():
    metrics = task_metrics("regression", 2)
    generator = torch.Generator().manual_seed(1)
    output, truth = torch.randn(20, 2, generator=generator), torch.randn(20, 2, generator=generator)
    metrics.update(output, truth)
    expected = ConcordanceCorrelation(2)
    expected.update(output, truth)
    assert torch.equal(metrics.compute()["ccc"], expected.compute())


def test_rows_of_a_classification_name_the_label():
    predicted, truth = [0, 1, 1, 2, 0], [0, 1, 2, 2, 1]
    rows = score_rows("classification", ["pain"], logits_of(predicted, 4), torch.tensor(truth))
    assert [(metric, target) for metric, target, _ in rows] == [("accuracy", "pain"), ("macro_f1", "pain")]
    expected = [accuracy_score(truth, predicted), f1_score(truth, predicted, average="macro")]
    assert [value for *_, value in rows] == pytest.approx(expected)


def test_rows_of_ordered_classes_name_the_label():
    predicted, truth = [0, 1, 1, 2, 0], [0, 1, 2, 2, 2]
    rows = score_rows("ordinal", ["pain"], thresholds_of(predicted, 4), torch.tensor(truth))
    assert [(metric, target) for metric, target, _ in rows] == [("qwk", "pain"), ("accuracy", "pain"), ("mae", "pain")]
    expected = [cohen_kappa_score(truth, predicted, weights="quadratic"), 3 / 5, 3 / 5]
    assert [value for *_, value in rows] == pytest.approx(expected)


def test_rows_of_a_regression_name_every_target_and_their_mean():
    generator = torch.Generator().manual_seed(2)
    truth = torch.randn(30, 2, generator=generator)
    output = truth * torch.tensor([1.0, 0.2]) + 0.3 * torch.randn(30, 2, generator=generator)
    rows = score_rows("regression", ["valence", "arousal"], output, truth)
    assert [(metric, target) for metric, target, _ in rows] == [
        ("ccc", "valence"),
        ("ccc", "arousal"),
        ("ccc", "mean"),
    ]
    p, t = output.double().numpy(), truth.double().numpy()
    ccc = 2 * ((p - p.mean(0)) * (t - t.mean(0))).mean(0) / (p.var(0) + t.var(0) + (p.mean(0) - t.mean(0)) ** 2)
    assert [value for *_, value in rows] == pytest.approx([*ccc, np.mean(ccc)], rel=1e-5)


def test_rows_hold_plain_numbers():
    rows = score_rows("regression", ["valence"], torch.randn(5, 1), torch.randn(5, 1))
    assert all(type(value) is float for *_, value in rows)


@over("targets", [["valence"], ["valence", "arousal", "dominance"]])
def test_rows_need_one_name_per_target(targets):
    with pytest.raises(ValueError, match="zip"):
        score_rows("regression", targets, torch.randn(5, 2), torch.randn(5, 2))


SPOILS = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("task", ["classification", "ordinal", "regression"])
def test_one_output_that_is_not_finite_makes_every_metric_of_the_part_nan_whatever_batch_it_is_in(task):
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(12, 3, generator=generator)
    truth = output + 1 if task == "regression" else torch.randint(0, 3, (12,), generator=generator)
    whole = task_metrics(task, 3)
    whole.update(output, truth)
    assert all(bool(value.isfinite().all()) for value in whole.compute().values())
    for spoil, row in itertools.product(SPOILS, (0, 5, 11)):
        spoiled = output.clone()
        spoiled[row] = spoil
        collection = task_metrics(task, 3)
        for batch in zip(spoiled.split(4), truth.split(4), strict=True):
            collection.update(*batch)
        assert all(bool(value.isnan().all()) for value in collection.compute().values()), (spoil, row)
        assert all(
            math.isnan(value)
            for *_, value in score_rows(task, ["a", "b", "c"][: 1 if task != "regression" else 3], spoiled, truth)
        )
        collection.reset()
        collection.update(output, truth)
        assert {name: value.tolist() for name, value in collection.compute().items()} == {
            name: value.tolist() for name, value in whole.compute().items()
        }


def test_one_logit_among_many_spoils_its_row():
    output = torch.eye(3)
    output[1, 2] = float("nan")
    assert all(math.isnan(value) for *_, value in score_rows("classification", ["t"], output, torch.arange(3)))


def test_finite_targets_keep_their_concordance_beside_others_and_the_mean_is_nan():
    truth = torch.arange(10.0)[:, None].repeat(1, 2)
    output = truth.clone()
    output[3, 1] = float("inf")
    of = {target: value for _, target, value in score_rows("regression", ["v", "a"], output, truth)}
    assert of["v"] == 1.0
    assert math.isnan(of["a"])
    assert math.isnan(of["mean"])
