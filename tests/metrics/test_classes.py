"""Counting classes."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics import MeanAbsoluteError
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassCohenKappa,
    MulticlassF1Score,
)

from mtpkdot.metrics.classes import ClassMetrics
from mtpkdot.metrics.collections import task_metrics
from tests.loops import over


class Largest(TorchDispatchMode):
    """The number of entries of the largest tensor that is made within it."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.entries = max(self.entries, tensor.numel())
        return made


@pytest.fixture
def deterministic():
    """As the Trainer sets it."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("task", ["classification", "ordinal"])
def test_memory_grows_with_samples_times_classes_not_with_their_square(task, deterministic):
    n, classes = 200, 300
    outputs = torch.randn(n, classes if task == "classification" else classes - 1)
    metrics = task_metrics(task, outputs.shape[1])
    with Largest() as largest:
        metrics.update(outputs, torch.randint(classes, (n,)))
        metrics.compute()
    assert largest.entries <= classes * max(n, classes)


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_values_are_those_of_torchmetrics(classes, deterministic):
    generator = torch.Generator().manual_seed(classes)
    own = ClassMetrics("ordinal", classes - 1)
    theirs = {
        "accuracy": MulticlassAccuracy(classes, average="micro"),
        "macro_f1": MulticlassF1Score(classes, average="macro"),
        "qwk": MulticlassCohenKappa(classes, weights="quadratic"),
        "mae": MeanAbsoluteError(),
    }
    for size in (7, 1, 20):
        answers, target = torch.randint(classes, (2, size), generator=generator)
        own.update(torch.where(answers[:, None] > torch.arange(classes - 1), 1.0, -1.0), target)
        for metric in theirs.values():
            metric.update(answers, target)
    found = own.compute()
    for name, metric in theirs.items():
        torch.testing.assert_close(found[name], metric.compute(), rtol=1e-6, atol=1e-6)


def test_the_calibration_error_is_that_of_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    logits, target = 2 * torch.randn(300, 4, generator=generator), torch.randint(4, (300,), generator=generator)
    own = ClassMetrics("classification", 4)
    for part in torch.arange(300).split(70):
        own.update(logits[part], target[part])
    expected = MulticlassCalibrationError(4, n_bins=15, norm="l1")
    expected.update(logits, target)
    torch.testing.assert_close(own.compute()["ece"], expected.compute())


def kappa(predicted, truth, classes=3):
    metric = ClassMetrics("ordinal", classes - 1)
    passed = torch.tensor(predicted, dtype=torch.long)[:, None] > torch.arange(classes - 1)
    metric.update(torch.where(passed, 1.0, -1.0), torch.tensor(truth, dtype=torch.long))
    return float(metric.compute()["qwk"])


def test_kappa_equals_a_hand_computed_case():
    # Disagreement 1 + 0 + 4 over what the marginals lead one to expect: (0 + 4 + 1 + 0 + 4 + 1 + 1 + 1 + 0) / 3.
    assert kappa([1, 2, 0], [0, 2, 2]) == pytest.approx(1 - 5 / ((1 + 4 + 0 + 1 + 0 + 4 + 1 + 0 + 4) / 3))


def test_perfect_agreement_is_one_and_complete_reversal_minus_one():
    assert kappa([0, 1, 2], [0, 1, 2]) == 1.0
    assert kappa([2, 1, 0], [0, 1, 2]) == pytest.approx(-1.0)


@over("predicted", [[1, 1, 1], [2, 2, 2]])
def test_a_constant_answer_shows_no_agreement(predicted):
    assert kappa(predicted, [0, 1, 2]) == pytest.approx(0.0, abs=1e-6)


def test_one_class_alone_shows_no_agreement():
    assert kappa([1, 1], [1, 1]) == 0.0
    assert kappa([], []) == 0.0


def test_the_first_of_equal_logits_is_the_answer():
    metric = ClassMetrics("classification", 3)
    metric.update(torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0]]), torch.tensor([0, 2]))
    assert metric.compute()["accuracy"] == 0.5


def test_no_order_of_the_samples_changes_a_metric():
    generator = torch.Generator().manual_seed(0)
    output, target = torch.randn(50, 3, generator=generator), torch.randint(3, (50,), generator=generator)
    once, again = ClassMetrics("classification", 3), ClassMetrics("classification", 3)
    once.update(output, target)
    for row in torch.randperm(50, generator=generator):
        again.update(output[row : row + 1], target[row : row + 1])
    assert {k: v.item() for k, v in once.compute().items()} == {k: v.item() for k, v in again.compute().items()}
