import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import ConcordanceCorrCoef

from mtpkdot.losses.task import concordance
from mtpkdot.metrics.values import ConcordanceCorrelation
from tests.loops import over

property_test = settings(deadline=None, max_examples=50, derandomize=True)


def numpy_ccc(prediction, truth):
    p, t = np.asarray(prediction, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    covariance = ((p - p.mean(0)) * (t - t.mean(0))).mean(0)
    return 2 * covariance / (p.var(0) + t.var(0) + (p.mean(0) - t.mean(0)) ** 2)


def measured(*batches):
    metric = ConcordanceCorrelation(batches[0][0].shape[1])
    for prediction, truth in batches:
        metric.update(prediction, truth)
    return metric.compute().reshape(-1)  # torchmetrics makes one target a scalar


def pair(n, targets, seed, offset=0.0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(n, targets, generator=generator)
    prediction = 0.6 * truth + 0.5 * torch.randn(n, targets, generator=generator) + 0.2
    return scale * prediction + offset, scale * truth + offset


@property_test
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 3), st.integers(0, 10_000))
def test_ccc_equals_the_formula_on_all_batches_together(sizes, targets, seed):
    sizes = [2, *sizes]  # one sample alone has no variance
    prediction, truth = pair(sum(sizes), targets, seed)
    value = measured(*zip(prediction.split(sizes), truth.split(sizes), strict=True))
    assert value.shape == (targets,)
    np.testing.assert_allclose(value, numpy_ccc(prediction, truth), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(value, measured((prediction, truth)), rtol=1e-6, atol=1e-7)


def test_ccc_is_not_the_mean_over_batches():
    batches = [pair(5, 1, seed, offset=3.0 * seed) for seed in range(4)]
    of_batches = np.mean([numpy_ccc(*batch) for batch in batches])
    assert abs(float(measured(*batches)) - of_batches) > 0.1


def test_ccc_equals_a_hand_computed_case():
    # Means 1 and 2, population variances 1 and 4, covariance 2: 2 * 2 / (1 + 4 + 1).
    assert measured((torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [4.0]]))).tolist() == pytest.approx([2 / 3])


@over("n", [3, 10, 1000])
def test_ccc_differs_from_the_version_with_sample_variance_by_that_alone(n):
    prediction, truth = pair(n, 1, seed=n)
    with_sample_variances = ConcordanceCorrCoef()(prediction[:, 0], truth[:, 0])
    spread = float(prediction.double().var(0, correction=0) + truth.double().var(0, correction=0))
    gap = float((prediction.double().mean() - truth.double().mean()) ** 2)
    expected = float(with_sample_variances) * (spread + gap * (n - 1) / n) / (spread + gap)
    assert float(measured((prediction, truth))) == pytest.approx(expected, rel=1e-4)


def test_the_loss_maximises_the_metric():
    prediction, truth = pair(40, 3, seed=0)
    torch.testing.assert_close(measured((prediction, truth)), concordance(prediction, truth))


def test_perfect_reversed_and_shifted_predictions_score_as_they_should():
    _, truth = pair(50, 2, seed=1)
    truth = truth - truth.mean(0)
    assert measured((truth, truth)).tolist() == pytest.approx([1.0, 1.0])
    assert measured((-truth, truth)).tolist() == pytest.approx([-1.0, -1.0])
    variance = truth.var(0, correction=0)
    torch.testing.assert_close(measured((truth + 2, truth)), 2 * variance / (2 * variance + 4))


@over("scale", [1e-4, 1.0, 1e4])
@over("offset", [0.0, 10.0, 30_000.0])
def test_ccc_depends_neither_on_the_unit_nor_on_the_origin(scale, offset):
    prediction, truth = (x.double() for x in pair(60, 2, seed=2))
    shifted = measured((scale * (prediction + offset), scale * (truth + offset)))
    torch.testing.assert_close(shifted, measured((prediction, truth)), rtol=1e-5, atol=1e-6)


@property_test
@given(st.floats(-100, 100, allow_subnormal=False, width=32), st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_equal_constants_show_no_concordance(constant, sizes):
    batches = [(torch.full((size, 1), constant), torch.full((size, 1), constant)) for size in sizes]
    assert float(measured(*batches)) == 0.0


@over("constant, batches", [(0.1, 50), (0.7, 200), (-3.3, 1000)])
def test_equal_constants_over_many_batches_show_no_concordance(constant, batches):
    assert float(measured(*[(torch.full((7, 1), constant),) * 2] * batches)) == 0.0


@over("constant", [0.0, 0.1, 5.0])
def test_a_constant_prediction_shows_no_concordance(constant):
    _, truth = pair(31, 2, seed=3)
    value = measured((torch.full_like(truth, constant), truth))
    assert value.tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_one_sample_shows_no_concordance():
    assert float(measured((torch.tensor([[0.3]]), torch.tensor([[0.3]])))) == 0.0
    assert float(measured((torch.tensor([[0.3]]), torch.tensor([[0.9]])))) == pytest.approx(0.0, abs=1e-6)


def test_empty_batches_do_not_count():
    prediction, truth = pair(9, 2, seed=4)
    empty = (torch.zeros(0, 2), torch.zeros(0, 2))
    assert torch.equal(measured(empty, (prediction, truth), empty), measured((prediction, truth)))


def test_half_precision_batches_are_accumulated_exactly():
    prediction, truth = (x.half() for x in pair(5000, 1, seed=5))
    value = measured(*zip(prediction.split(50), truth.split(50), strict=True))
    np.testing.assert_allclose(value, numpy_ccc(prediction.double(), truth.double()), rtol=1e-6)


def test_reset_forgets_all_samples():
    metric = ConcordanceCorrelation(1)
    metric.update(*pair(20, 1, seed=6))
    metric.reset()
    metric.update(*pair(20, 1, seed=7))
    assert torch.equal(metric.compute().reshape(-1), measured(pair(20, 1, seed=7)))


@property_test
@given(st.lists(st.integers(0, 9), min_size=2, max_size=5), st.integers(0, 10_000))
def test_states_of_processes_merge_to_that_of_all_samples(sizes, seed):
    both, states = ConcordanceCorrelation(2), []
    for number, size in enumerate([3, *sizes]):
        batch, own = pair(size, 2, seed + number, offset=3.0 * number), ConcordanceCorrelation(2)
        own.update(*batch)
        both.update(*batch)
        states.append(own.moments)
    together = ConcordanceCorrelation(2)
    together.update(torch.zeros(0, 2), torch.zeros(0, 2))
    together.moments = together._reductions["moments"](torch.stack(states))
    torch.testing.assert_close(together.compute(), both.compute())


@pytest.mark.parametrize("offset", [1e4, 1e6, 1e9])
def test_a_mean_far_from_zero_costs_no_digits(offset):
    prediction, truth = (x.double() for x in pair(400, 1, seed=10))
    far = measured(*zip((prediction + offset).split(7), (truth + offset).split(7), strict=True))
    assert float(far) == pytest.approx(numpy_ccc(prediction, truth).item(), rel=1e-5)
