"""Counting classes."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics.classification import MulticlassCohenKappa, MulticlassF1Score

from mtpkdot.metrics.collections import task_metrics
from mtpkdot.metrics.counts import MacroF1, counted
from mtpkdot.metrics.kappa import QuadraticKappa


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
def test_values_are_those_of_torchmetrics_to_the_bit(classes, deterministic):
    generator = torch.Generator().manual_seed(classes)
    pairs = [
        (MacroF1(classes), MulticlassF1Score(classes, average="macro")),
        (QuadraticKappa(classes), MulticlassCohenKappa(classes, weights="quadratic")),
    ]
    for own, theirs in pairs:
        for size in (7, 1, 20):
            answers, target = torch.randint(classes, (2, size), generator=generator)
            own.update(answers, target)
            theirs.update(answers, target)
        assert torch.equal(own.compute(), theirs.compute())


def test_logits_are_answered_by_the_first_of_the_largest():
    logits, target = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0]]), torch.tensor([0, 2])
    own, theirs = MacroF1(3), MulticlassF1Score(3, average="macro")
    own.update(logits, target)
    theirs.update(logits, target)
    assert torch.equal(own.compute(), theirs.compute())
    assert counted(torch.tensor([2, 0, 2]), 4).tolist() == [1, 0, 2, 0]
