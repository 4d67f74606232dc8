import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses.task import output_count, task_loss
from mtpkdot.metrics.collections import task_metrics
from mtpkdot.metrics.loss import CalibratedLoss, MeanLoss
from tests.loops import over

property_test = settings(deadline=None, max_examples=30, derandomize=True)


@property_test
@given(
    st.sampled_from(["classification", "ordinal", "regression"]),
    st.integers(2, 5),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 99),
)
def test_the_loss_of_a_part_is_the_task_s_however_it_is_cut_into_batches(task, targets, n, size, seed):
    generator = torch.Generator().manual_seed(seed)
    output = 3 * torch.randn(n, output_count(task, targets), generator=generator)
    values = torch.randn(n, targets, generator=generator)
    target = values if task == "regression" else values.argmax(dim=1)
    metrics = task_metrics(task, output.shape[1])
    for _ in range(2):  # the second time after a reset
        for rows in torch.arange(n).split(size):
            metrics.update(output[rows], target[rows])
        found = metrics.compute()["loss"].mean()
        metrics.reset()
        expected = task_loss(task, output, target, torch.ones(n, dtype=torch.bool))
        torch.testing.assert_close(found.float(), expected, atol=1e-5, rtol=1e-5)


def test_the_loss_metric_has_no_gradient():
    metric, output = MeanLoss("classification"), torch.randn(4, 3, requires_grad=True)
    metric.update(output, torch.tensor([0, 1, 2, 0]))
    assert not metric.compute().requires_grad


@property_test
@given(st.integers(1, 60), st.integers(0, 99))
def test_the_order_of_the_samples_does_not_change_the_loss(n, seed):
    generator = torch.Generator().manual_seed(seed)
    output, target = 5 * torch.randn(n, 3, generator=generator), torch.randint(3, (n,), generator=generator)
    once, again = MeanLoss("classification"), MeanLoss("classification")
    once.update(output, target)
    for row in torch.randperm(n, generator=generator):
        again.update(output[row : row + 1], target[row : row + 1])
    assert torch.equal(once.compute(), again.compute())


@over("bad, told", [(float("nan"), False), (float("inf"), True)])
def test_a_loss_that_is_not_finite_is_not_ignored(bad, told):
    metric = MeanLoss("classification")
    metric.update(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
    metric.update(torch.tensor([[0.0, -bad]]), torch.tensor([1]))
    found = float(metric.compute())
    assert found > 100 if told else found != found


def test_the_loss_metric_is_not_defined_for_regression():
    with pytest.raises(ValueError, match="classes"):
        MeanLoss("regression")


@property_test
@given(st.sampled_from(["classification", "ordinal"]), st.integers(2, 40), st.integers(1, 9), st.integers(0, 99))
def test_the_calibrated_loss_is_that_of_the_best_temperature_however_it_is_cut(task, n, size, seed):
    generator = torch.Generator().manual_seed(seed)
    output, target = 3 * torch.randn(n, 3, generator=generator), torch.randint(3, (n,), generator=generator)
    found, everything = CalibratedLoss(task), torch.ones(n, dtype=torch.bool)
    for rows in torch.arange(n).split(size):
        found.update(output[rows], target[rows])
    tried = [task_loss(task, output * 2 ** (step / 3), target, everything) for step in range(-12, 13)]
    torch.testing.assert_close(found.compute().float(), torch.stack(tried).min(), atol=1e-5, rtol=1e-5)


@property_test
@given(st.integers(5, 60), st.integers(-6, 6), st.integers(0, 99))
def test_how_sure_a_model_is_does_not_change_the_calibrated_loss(n, thirds, seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(3, (n,), generator=generator)
    output = torch.randn(n, 3, generator=generator) + torch.eye(3)[target]
    once, sharpened = CalibratedLoss("classification"), CalibratedLoss("classification")
    once.update(output / 2, target)
    sharpened.update(output / 2 * 2 ** (thirds / 3), target)
    if 0.3 < float(once.compute()) < 1.05:  # the best temperature lies within the range
        torch.testing.assert_close(once.compute(), sharpened.compute(), atol=2e-3, rtol=1e-2)
