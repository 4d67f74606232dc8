import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses.weighting import TermWeights
from tests.loops import over

property_test = settings(deadline=None, max_examples=60, derandomize=True)
WEIGHTS = {"task": 0.8, "transport": 0.2, "centroid": 3.0}


def scalars(**values):
    return {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}


TERMS = {"task": 1.5, "transport": 4.0, "centroid": 0.5}


def in_use(weights, progress):
    _, used = weights(scalars(**TERMS), progress)
    return {name: float(value) for name, value in used.items()}


@over("progress", [0.0, 0.3, 1.0])
def test_fixed_weights_are_those_given_whatever_the_progress(progress):
    weights, terms = TermWeights(WEIGHTS), scalars(**TERMS)
    total, used = weights(terms, progress)
    total.backward()
    assert float(total.detach()) == pytest.approx(0.8 * 1.5 + 0.2 * 4 + 3 * 0.5)
    for name, weight in WEIGHTS.items():
        assert float(used[name]) == pytest.approx(weight)
        assert float(terms[name].grad) == pytest.approx(weight)
    assert not list(weights.parameters())
    assert weights.state_dict() == {}


@over("weighting", ["fixed", "uncertainty", "rise", "fall"])
def test_terms_that_a_batch_lacks_or_that_have_no_weight_are_left_out(weighting):
    terms = scalars(centroid=0.5, task=1.5, output=100.0)
    total, used = TermWeights(WEIGHTS, weighting)(terms, 0.5)
    total.backward()
    assert list(used) == ["task", "centroid"]
    assert terms["output"].grad is None
    assert total.isfinite()
    assert not any(value.requires_grad for value in used.values())


@over(
    "weighting, ramp, shares",
    [
        # Share of the weight at 0, 1/8, 1/4, 1/2, 3/4, 7/8 and 1: half a cosine.
        ("rise", 1.0, [0, 0.0380602, 0.1464466, 0.5, 0.8535534, 0.9619398, 1]),
        ("fall", 1.0, [1, 0.9619398, 0.8535534, 0.5, 0.1464466, 0.0380602, 0]),
        ("rise", 0.25, [0, 0.5, 1, 1, 1, 1, 1]),
        ("fall", 0.25, [1, 1, 1, 1, 1, 0.5, 0]),
        ("rise", 0.5, [0, 0.1464466, 0.5, 1, 1, 1, 1]),
        ("fall", 0.5, [1, 1, 1, 1, 0.5, 0.1464466, 0]),
    ],
)
def test_all_weights_but_the_tasks_rise_and_fall_along_half_a_cosine(weighting, ramp, shares):
    weights = TermWeights(WEIGHTS, weighting, ramp)
    for progress, share in zip([0, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 7 / 8, 1], shares, strict=True):
        used = in_use(weights, progress)
        assert used == pytest.approx({"task": 0.8, "transport": 0.2 * share, "centroid": 3 * share}, abs=1e-6)
        total, _ = weights(scalars(**TERMS), progress)
        assert float(total.detach()) == pytest.approx(1.2 + share * (0.8 + 1.5), abs=1e-6)


def test_learned_weights_start_as_the_fixed_ones():
    weights, terms, fixed = TermWeights(WEIGHTS, "uncertainty"), scalars(**TERMS), scalars(**TERMS)
    total, used = weights(terms)
    total.backward()
    TermWeights(WEIGHTS)(fixed)[0].backward()
    for name, weight in WEIGHTS.items():
        assert float(used[name]) == pytest.approx(weight)
        assert float(terms[name].grad) == pytest.approx(float(fixed[name].grad))
    assert weights.log_variances.requires_grad


def test_the_learned_sum_and_its_gradients_equal_the_formula():
    weights, terms = TermWeights(WEIGHTS, "uncertainty"), scalars(**TERMS)
    variances = [0.3, 1.0, 4.0]
    with torch.no_grad():
        weights.log_variances.copy_(torch.tensor(variances).log())
    total, used = weights(terms)
    total.backward()
    expected = 0.0
    for index, (name, weight) in enumerate(WEIGHTS.items()):
        loss, variance = TERMS[name], variances[index]
        expected += weight * (loss / (2 * variance) + math.log(1 + variance))
        assert float(used[name]) == pytest.approx(weight / (2 * variance))
        assert float(terms[name].grad) == pytest.approx(weight / (2 * variance))
        # d/d ln v of w (L / (2 v) + ln(1 + v)).
        slope = weight * (-loss / (2 * variance) + variance / (1 + variance))
        assert float(weights.log_variances.grad[index]) == pytest.approx(slope, rel=1e-5)
    assert float(total.detach()) == pytest.approx(expected)


def test_the_log_variance_of_an_absent_term_has_no_gradient_and_others_keep_theirs():
    weights = TermWeights(WEIGHTS, "uncertainty")
    with torch.no_grad():
        weights.log_variances.copy_(torch.tensor([0.3, 1.0, 4.0]).log())
    total, used = weights(scalars(centroid=0.5))
    total.backward()
    assert float(total.detach()) == pytest.approx(3 * (0.5 / 8 + math.log(5)))
    assert weights.log_variances.grad[:2].tolist() == [0, 0]
    assert float(weights.log_variances.grad[2]) == pytest.approx(3 * (-0.5 / 8 + 4 / 5), rel=1e-5)
    assert list(used) == ["centroid"]


@over("size", [0.1, 1.0, 10.0])
def test_learning_finds_the_stationary_variance(size):
    weights = TermWeights({"task": 1.0}, "uncertainty")
    optimizer = torch.optim.Adam(weights.parameters(), 0.03)
    for _ in range(400):
        optimizer.zero_grad()
        weights({"task": torch.tensor(size)})[0].backward()
        optimizer.step()
    # L / (2 v) = v / (1 + v), hence v^2 - L v / 2 - L / 2 = 0.
    stationary = size / 4 + math.sqrt(size**2 / 16 + size / 2)
    assert float(weights.log_variances.detach().exp()) == pytest.approx(stationary, rel=0.01)


@property_test
@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(-20, 20), st.floats(-20, 20))
def test_the_learned_sum_of_losses_that_are_not_negative_is_not_negative(a, b, x, y):
    weights = TermWeights({"task": 0.3, "rival": 2.0}, "uncertainty")
    with torch.no_grad():
        weights.log_variances.copy_(torch.tensor([x, y]))
    total, used = weights({"task": torch.tensor(a), "rival": torch.tensor(b)})
    assert total.isfinite()
    assert float(total.detach()) >= 0
    assert float(min(used.values())) > 0


def test_half_of_the_terms_may_be_in_another_precision():
    terms = {"task": torch.tensor(1.5), "transport": torch.tensor(4.0, dtype=torch.float64)}
    for weighting in ("fixed", "uncertainty", "rise", "fall"):
        total, used = TermWeights({"task": 1.0, "transport": 1.0}, weighting)(terms, 0.5)
        assert total.dtype == torch.float64
        assert used["task"].dtype == torch.float32


@over("ramp", [0.0, -0.5, 1.5])
def test_a_ramp_out_of_range_is_refused(ramp):
    with pytest.raises(ValueError, match="ramp"):
        TermWeights(WEIGHTS, "rise", ramp)


def test_negative_weights_cannot_be_learned():
    assert in_use(TermWeights({"task": 1.0, "transport": -0.5}), 1.0)["transport"] == -0.5
    with pytest.raises(ValueError, match="negative"):
        TermWeights({"task": 1.0, "transport": -0.5}, "uncertainty")
