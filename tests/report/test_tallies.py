import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn import metrics as sk
from torch import tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from mtpkdot.losses.task import class_probabilities, output_count, predicted_class
from mtpkdot.metrics.collections import task_metrics
from mtpkdot.metrics.definitions import METRICS
from mtpkdot.metrics.values import ConcordanceCorrelation
from mtpkdot.report import tallies
from mtpkdot.report.tallies import calibration, centre_of, confusion, constant_targets, metrics, tally


def of_classes(seed, n=120, classes=4, subjects=6, present=None):
    random = np.random.default_rng(seed)
    names = [f"c{index}" for index in range(classes)]
    p = random.dirichlet(np.ones(classes), size=n)
    truth = random.choice(present or classes, size=n)
    table = pd.DataFrame(p, columns=[f"p_{name}" for name in names]).assign(
        subject=[f"s{i}" for i in random.integers(0, subjects, n)],
        target="t",
        truth=[names[i] for i in truth],
        prediction=[names[i] for i in p.argmax(axis=1)],
    )
    return table, names, truth, p


@given(st.integers(0, 10**6), st.sampled_from([None, [0, 2], [1]]))
@settings(deadline=None, max_examples=30)
def test_metrics_of_classes_are_those_of_scikit_learn_and_torchmetrics(seed, present):
    table, names, truth, p = of_classes(seed, present=present)
    answer = p.argmax(axis=1)
    found = metrics(tally(table, "ordinal", names).sums.sum(axis=0), "ordinal", names)
    assert found["accuracy", ""] == pytest.approx(sk.accuracy_score(truth, answer))
    assert found["macro_f1", ""] == pytest.approx(sk.f1_score(truth, answer, average="macro", zero_division=0))
    recalls = [(answer[truth == c] == c).mean() for c in np.unique(truth)]
    assert found["balanced_accuracy", ""] == pytest.approx(np.mean(recalls))
    assert found["mae", ""] == pytest.approx(sk.mean_absolute_error(truth, answer))
    assert found["qwk", ""] == pytest.approx(sk.cohen_kappa_score(truth, answer, weights="quadratic"), abs=1e-9)
    expected = multiclass_calibration_error(tensor(p), tensor(truth), num_classes=4, n_bins=15, norm="l1")
    assert found["ece", ""] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("present", [None, [0, 2], [1]])
def test_many_classes_have_the_same_metrics_without_their_pairs(present, monkeypatch):
    table, names, *_ = of_classes(3, present=present)
    table.loc[7, "p_c1"] = np.nan  # of subject s[7], whose sums are NaN
    found = []
    for most in (30, 3):
        monkeypatch.setattr(tallies, "MOST_CONFUSED", most)
        made = tally(table, "ordinal", names)
        sums = np.concatenate([made.sums, made.sums[[0, 0, 1, 3]].sum(axis=0, keepdims=True)])
        found.append(metrics(sums, "ordinal", names))
        assert np.isnan(found[-1]["qwk", ""]).any()
    for key, value in found[0].items():
        np.testing.assert_allclose(found[1][key], value, rtol=1e-12, atol=1e-12)


def test_the_sums_of_a_thousand_classes_grow_with_their_number_and_not_with_its_square():
    table, names, *_ = of_classes(0, n=40, classes=1000)
    assert tally(table, "classification", names).sums.shape[1] < 5 * 1000


@given(st.integers(0, 10**6), st.floats(-50, 50))
@settings(deadline=None, max_examples=30)
def test_metrics_of_values_are_those_of_scipy_and_of_the_package(seed, offset):
    random = np.random.default_rng(seed)
    truth = random.normal(size=(80, 2)) + offset
    prediction = 0.5 * truth + random.normal(size=(80, 2))
    frame = pd.DataFrame({"subject": np.repeat([f"s{i}" for i in range(8)], 10)})
    tables = [
        frame.assign(target=name, truth=truth[:, i], prediction=prediction[:, i]) for i, name in enumerate(("v", "a"))
    ]
    found = metrics(tally(pd.concat(tables), "regression", ["v", "a"]).sums.sum(axis=0), "regression", ["v", "a"])
    for i, name in enumerate(("v", "a")):
        assert found["pearson", name] == pytest.approx(pearsonr(truth[:, i], prediction[:, i])[0], abs=1e-6)
        assert found["mae", name] == pytest.approx(np.abs(truth[:, i] - prediction[:, i]).mean())
        metric = ConcordanceCorrelation(1)
        metric.update(tensor(prediction[:, i : i + 1]), tensor(truth[:, i : i + 1]))
        expected = float(metric.compute())
        assert found["ccc", name] == pytest.approx(expected, abs=1e-6)
    assert found["ccc", "mean"] == pytest.approx((found["ccc", "v"] + found["ccc", "a"]) / 2)


def table_of(task, names, output, truth):
    """Predictions as a run stores them."""
    frame = pd.DataFrame({"subject": [f"s{i % 3}" for i in range(len(output))]})
    if task == "regression":
        columns = [
            {"target": name, "truth": truth[:, i].numpy(), "prediction": output[:, i].numpy()}
            for i, name in enumerate(names)
        ]
        return pd.concat([frame.assign(**column) for column in columns])
    probabilities = class_probabilities(task, output).numpy()
    finite = output.isfinite().all(dim=1).numpy()
    answers = np.where(finite, np.array(names, dtype=object)[predicted_class(task, output).numpy()], None)
    frame = frame.assign(target="t", truth=[names[i] for i in truth], prediction=answers)
    return frame.assign(**{f"p_{name}": probabilities[:, i] for i, name in enumerate(names)})


@given(
    st.sampled_from(list(METRICS)),
    st.integers(2, 5),
    st.integers(1, 40),
    st.sampled_from(["all", "one truth", "one output", "constant", "nan", "inf"]),
    st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=150)
def test_every_metric_is_in_training_what_it_is_in_the_bootstrap(task, count, n, kind, seed):
    generator = torch.Generator().manual_seed(seed)
    names = [f"n{index}" for index in range(count)]
    output = 2 * torch.randn(n, output_count(task, count), generator=generator)
    values = torch.randn(n, count, generator=generator)
    truth = values if task == "regression" else values.argmax(dim=1)
    if kind in ("one truth", "constant"):
        truth = truth[:1].expand_as(truth)
    if kind in ("one output", "constant"):
        output = output[:1].expand_as(output).clone()
    if kind == "constant" and task == "regression":
        output = truth
    if kind in ("nan", "inf"):
        output[seed % n, 0] = float(kind)
    collection = task_metrics(task, output.shape[1])
    for part in torch.arange(n).split(1 + seed % 9):
        collection.update(output[part], truth[part])
    trained = {name: value.reshape(-1) for name, value in collection.compute().items() if "loss" not in name}
    sums = tally(table_of(task, names, output, truth), task, names).sums.sum(axis=0)
    found = metrics(sums, task, names)
    assert set(trained) == {name for name, _ in found}
    for name, value in trained.items():
        targets = names if task == "regression" else [""]
        expected = [float(found[name, target]) for target in targets]
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_sums_of_subjects_are_those_of_the_whole_and_come_in_order():
    table, names, *_ = of_classes(0)
    whole = tally(table, "classification", names)
    assert whole.subjects.tolist() == sorted(whole.subjects.tolist())
    for index, subject in enumerate(whole.subjects):
        own = tally(table[table["subject"] == subject], "classification", names)
        np.testing.assert_allclose(own.sums[0], whole.sums[index])
    more = np.array(["a", *whole.subjects, "z"])
    aligned = whole.aligned(more)
    assert not aligned[[0, -1]].any()
    np.testing.assert_array_equal(aligned[1:-1], whole.sums)


def test_rows_without_truth_do_not_count():
    table, names, *_ = of_classes(1)
    hidden = table.assign(truth=[None if i % 3 else truth for i, truth in enumerate(table["truth"])])
    np.testing.assert_array_equal(
        tally(hidden, "classification", names).sums.sum(axis=0),
        tally(table[::3], "classification", names).sums.sum(axis=0),
    )


def test_a_sure_answer_is_in_the_last_bin_and_an_empty_sum_is_not_an_error():
    table, names, *_ = of_classes(2, n=1)
    sure = table.assign(**{"p_c0": 1.0, "p_c1": 0.0, "p_c2": 0.0, "p_c3": 0.0}, prediction="c0", truth="c0")
    sums = tally(sure, "classification", names).sums[0]
    assert calibration(sums, 4)[-1].tolist() == [1.0, 1.0, 1.0]
    assert confusion(sums, 4)[0, 0] == 1.0
    for task in METRICS:
        size = 14 if task == "regression" else len(sums)
        found = metrics(np.zeros(size), task, ["v", "a"] if task == "regression" else names)
        assert all(np.isfinite(value) for value in found.values())
        assert {name for name, _ in found} == set(METRICS[task])


def test_constant_predictions_of_constant_truths_agree_in_nothing():
    table = pd.DataFrame({"subject": "s", "target": "v", "truth": 0.1, "prediction": 0.1}, index=range(7))
    found = metrics(tally(table, "regression", ["v"]).sums.sum(axis=0), "regression", ["v"])
    assert found["ccc", "v"] == 0.0
    assert found["pearson", "v"] == 0.0


def test_targets_with_a_single_true_value_are_found():
    values = {"v": [0.3] * 6, "a": [0.1, 0.1, 0.1, 0.1, 0.1, 0.2]}
    tables = [pd.DataFrame({"subject": "s", "target": t, "truth": of, "prediction": 0.5}) for t, of in values.items()]
    sums = tally(pd.concat(tables), "regression", ["v", "a"]).sums.sum(axis=0)
    assert constant_targets(sums, ["v", "a"]) == ["v"]


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_a_mean_far_from_zero_costs_no_digits(offset):
    random = np.random.default_rng(0)
    truth = random.normal(size=300)
    near = truth + random.normal(size=300)
    table = pd.DataFrame({"subject": "s", "target": "v", "truth": truth + offset, "prediction": near + offset})
    found = metrics(tally(table, "regression", ["v"]).sums.sum(axis=0), "regression", ["v"])
    assert found["pearson", "v"] == pytest.approx(pearsonr(near, truth)[0], rel=1e-6)
    metric = ConcordanceCorrelation(1)
    metric.update(tensor(near)[:, None], tensor(truth)[:, None])
    assert found["ccc", "v"] == pytest.approx(float(metric.compute()), rel=1e-6)


def test_tallies_about_one_centre_add_up_and_those_of_folds_with_other_means_are_those_of_all_rows():
    random = np.random.default_rng(1)
    truth = 1e6 + np.repeat([0.0, 3.0], 50) + random.normal(size=100)
    table = pd.DataFrame(
        {
            "subject": np.repeat(["a", "b"], 50),
            "target": "v",
            "truth": truth,
            "prediction": truth + random.normal(size=100),
        }
    )
    centre = centre_of(table[:50], ["v"])
    folds = sum(tally(part, "regression", ["v"], centre).sums.sum(axis=0) for part in (table[:50], table[50:]))
    found = metrics(folds, "regression", ["v"])
    assert found["pearson", "v"] == pytest.approx(pearsonr(table["prediction"], table["truth"])[0], rel=1e-9)


@pytest.mark.parametrize("spoil", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_makes_every_metric_of_its_target_nan(spoil):
    table = pd.DataFrame({"subject": ["a"] * 9 + ["b"], "target": "v", "truth": np.arange(10.0), "prediction": 1.0})
    table.loc[4, "prediction"] = spoil
    sums = tally(table, "regression", ["v"]).sums
    assert all(np.isnan(value) for value in metrics(sums.sum(axis=0), "regression", ["v"]).values())
    assert not any(
        np.isnan(value) for value in metrics(sums[1], "regression", ["v"]).values()
    )  # that person alone is lost


@pytest.mark.parametrize("task", ["classification", "ordinal"])
@pytest.mark.parametrize("lost", [{"prediction": None}, {"p_c0": np.nan}, {"p_c3": np.inf}])
def test_an_answer_that_is_not_finite_makes_every_metric_of_classes_nan(task, lost):
    table, names, *_ = of_classes(5)
    for column, value in lost.items():
        table[column] = table[column].astype(object) if value is None else table[column]
        table.loc[7, column] = value
    found = metrics(tally(table, task, names).sums.sum(axis=0), task, names)
    assert all(np.isnan(value) for value in found.values())
