import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses.task import (
    class_probabilities,
    concordance,
    output_count,
    output_loss,
    predicted_class,
    row_losses,
    task_loss,
)
from tests.loops import over
from tests.losses.reference import random

property_test = settings(deadline=None, max_examples=40, derandomize=True)
SOME = torch.tensor([True, False, True, True, False])
NONE = torch.zeros(5, dtype=torch.bool)


def numpy_ccc(prediction, truth):
    p, t = np.asarray(prediction, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    covariance = ((p - p.mean(0)) * (t - t.mean(0))).mean(0)
    return 2 * covariance / (p.var(0) + t.var(0) + (p.mean(0) - t.mean(0)) ** 2)


# concordance


@property_test
@given(st.integers(2, 50), st.integers(1, 4), st.integers(0, 10_000), st.sampled_from([0.01, 1.0, 100.0]))
def test_concordance_equals_its_formula_with_population_variances(n, targets, seed, scale):
    truth = random(n, targets, seed=seed) * scale + 0.2
    prediction = 0.5 * truth + scale * random(n, targets, seed=seed + 1)
    np.testing.assert_allclose(concordance(prediction, truth), numpy_ccc(prediction, truth), rtol=1e-4, atol=1e-5)


def test_concordance_equals_a_hand_computed_case():
    # Means 1 and 2, population variances 1 and 4, covariance 2: 2 * 2 / (1 + 4 + 1).
    prediction, truth = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [4.0]])
    assert concordance(prediction, truth).tolist() == pytest.approx([2 / 3])


@over("scale", [1e-6, 1e-4, 1e-2, 1.0, 1e3])
def test_concordance_does_not_depend_on_the_unit_of_the_targets(scale):
    truth, prediction = random(30, 2, seed=0), random(30, 2, seed=0) + 0.5 * random(30, 2, seed=1)
    torch.testing.assert_close(
        concordance(scale * prediction, scale * truth), concordance(prediction, truth), rtol=1e-4, atol=1e-5
    )


@over("n", [1, 3, 7, 50])
@over("constant", [0.0, 0.1, -0.7, 5.1, 100.1, 10_000.1])
def test_equal_constants_show_no_concordance_and_have_a_finite_gradient(n, constant):
    truth = torch.full((n, 1), constant)
    prediction = truth.clone().requires_grad_()
    ccc = concordance(prediction, truth)
    assert float(ccc.detach()) == pytest.approx(0.0, abs=1e-4)
    (1 - ccc).sum().backward()
    assert prediction.grad.isfinite().all()


def test_a_constant_prediction_has_no_concordance_but_a_gradient_towards_the_truth():
    truth, prediction = torch.tensor([[0.0], [1.0], [2.0]]), torch.full((3, 1), 1.0, requires_grad=True)
    ccc = concordance(prediction, truth)
    assert float(ccc.detach()) == 0.0
    (1 - ccc).sum().backward()
    assert prediction.grad.flatten().tolist() == pytest.approx([1.0, 0.0, -1.0])  # -2 (t - mean) / n / var


def test_gradient_of_concordance_equals_finite_differences():
    truth = random(6, 2, seed=2, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda p: concordance(p, truth), random(6, 2, seed=3, dtype=torch.float64).requires_grad_()
    )


# what outputs mean


@over("task, count", [("classification", 5), ("ordinal", 4), ("regression", 5)])
def test_ordered_classes_have_one_output_less(task, count):
    assert output_count(task, 5) == count


def test_the_ordinal_prediction_is_the_number_of_thresholds_passed():
    output = torch.tensor([[-1.0, -2.0, -3.0], [2.0, -0.1, -5.0], [3.0, 2.0, 1.0], [-1.0, 2.0, -1.0]])
    assert predicted_class("ordinal", output).tolist() == [0, 1, 3, 1]


def test_ordinal_probabilities_are_the_steps_of_the_cumulative_ones():
    output = torch.tensor([0.8, 0.5, 0.1]).logit()[None]
    assert class_probabilities("ordinal", output)[0].tolist() == pytest.approx([0.2, 0.3, 0.4, 0.1])


def test_probabilities_of_classes_without_order_are_a_softmax():
    output = random(5, 3, seed=21)
    assert torch.equal(class_probabilities("classification", output), output.softmax(dim=1))
    assert torch.equal(predicted_class("classification", output), output.argmax(dim=1))


@property_test
@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 10_000), st.sampled_from([0.1, 3.0, 1e4]))
def test_ordinal_probabilities_are_a_distribution_whose_median_is_the_prediction(n, thresholds, seed, scale):
    output = scale * random(n, thresholds, seed=seed)  # thresholds that contradict each other, mostly
    probabilities = class_probabilities("ordinal", output)
    assert probabilities.shape == (n, thresholds + 1)
    assert float(probabilities.min()) >= 0
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(n))
    below = probabilities.cumsum(dim=1)
    predicted = predicted_class("ordinal", output)[:, None]
    assert (below.gather(1, predicted) >= 0.5 - 1e-5).all()
    assert (F.pad(below, (1, 0)).gather(1, predicted) <= 0.5 + 1e-5).all()


@property_test
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_thresholds_that_agree_are_taken_as_they_are(thresholds, seed):
    output = random(8, thresholds, seed=seed).sort(dim=1, descending=True).values
    probabilities = class_probabilities("ordinal", output)
    above = probabilities.flip(1).cumsum(dim=1).flip(1)[:, 1:]
    torch.testing.assert_close(above, output.sigmoid(), rtol=1e-4, atol=1e-6)


# task_loss


def test_classification_is_the_mean_cross_entropy_of_labelled_samples():
    output, target = random(5, 3, seed=4), torch.tensor([2, 0, 1, 0, 1])
    probability = torch.softmax(output.double(), dim=1)[[0, 2, 3], [2, 1, 0]]
    assert float(task_loss("classification", output, target, SOME)) == pytest.approx(float(-probability.log().mean()))


def test_regression_is_the_mean_over_targets_of_one_minus_ccc_of_labelled_samples():
    output, target = random(5, 2, seed=5), random(5, 2, seed=6)
    expected = (1 - numpy_ccc(output[SOME], target[SOME])).mean()
    assert float(task_loss("regression", output, target, SOME)) == pytest.approx(expected, rel=1e-5)


def test_the_ordinal_loss_is_the_mean_cross_entropy_of_all_thresholds_of_labelled_samples():
    output, target = random(5, 3, seed=4), torch.tensor([2, 0, 3, 0, 1])
    terms = []
    for row in (0, 2, 3):
        for k in range(3):
            p = 1 / (1 + math.exp(-float(output[row, k])))
            terms.append(-math.log(p if target[row] > k else 1 - p))
    assert float(task_loss("ordinal", output, target, SOME)) == pytest.approx(sum(terms) / 9)


def test_the_ordinal_loss_equals_a_hand_computed_case():
    # Level 1 of 3: the first threshold is passed with 3/4, the second is not passed with 1 - 1/4.
    output = torch.tensor([[math.log(3.0), -math.log(3.0)]])
    loss = task_loss("ordinal", output, torch.tensor([1]), torch.tensor([True]))
    assert float(loss) == pytest.approx(-math.log(0.75))


def test_two_ordered_classes_are_a_binary_classification():
    output, target = random(5, 1, seed=22), torch.tensor([1, 0, 0, 1, 1])
    loss = task_loss("ordinal", output, target, SOME)
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(output[SOME, 0], target[SOME].float()))
    both = torch.cat([torch.zeros_like(output), output], dim=1)
    torch.testing.assert_close(loss, task_loss("classification", both, target, SOME))
    torch.testing.assert_close(class_probabilities("ordinal", output), class_probabilities("classification", both))
    assert torch.equal(predicted_class("ordinal", output), predicted_class("classification", both))
    teacher = random(5, 1, seed=23)
    taught = torch.cat([torch.zeros_like(teacher), teacher], dim=1)
    torch.testing.assert_close(
        output_loss("ordinal", output, teacher, SOME), output_loss("classification", both, taught, SOME)
    )


def test_a_prediction_costs_more_the_more_levels_it_is_off():
    target, labelled = torch.tensor([0]), torch.tensor([True])
    outputs = [torch.where(torch.arange(4) < level, 2.0, -2.0)[None] for level in range(5)]
    losses = [float(task_loss("ordinal", output, target, labelled)) for output in outputs]
    assert np.diff(losses) == pytest.approx([0.5] * 4)


def test_the_gradient_of_the_ordinal_loss_equals_finite_differences():
    output = random(5, 3, seed=24, dtype=torch.float64).requires_grad_()
    target = torch.tensor([2, -1, 3, 0, -1])
    assert torch.autograd.gradcheck(lambda x: task_loss("ordinal", x, target, SOME), output)


@over("garbage", [-100, 99, torch.iinfo(torch.int64).min])
@over("task", ["classification", "ordinal"])
def test_unlabelled_classes_are_never_read(task, garbage):
    output, target = random(5, 3, seed=7).requires_grad_(), torch.tensor([2, 0, 1, 0, 1])
    clean = task_loss(task, output, target, SOME)
    target[~SOME] = garbage
    dirty = task_loss(task, output, target, SOME)
    dirty.backward()
    assert float(dirty.detach()) == float(clean.detach())
    assert torch.equal(output.grad[~SOME], torch.zeros(2, 3))
    assert float(output.grad[SOME].abs().min()) > 0


@over("garbage", [math.nan, math.inf, 1e30])
def test_unlabelled_values_are_never_read(garbage):
    output, target = random(5, 2, seed=8), random(5, 2, seed=9)
    clean = task_loss("regression", output, target, SOME)
    target[~SOME], output[~SOME] = garbage, garbage
    output.requires_grad_()
    dirty = task_loss("regression", output, target, SOME)
    dirty.backward()
    assert float(dirty.detach()) == float(clean)
    assert torch.equal(output.grad[~SOME], torch.zeros(2, 2))
    assert output.grad.isfinite().all()


@over("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@over("task", ["classification", "ordinal", "regression"])
def test_a_batch_without_labels_has_zero_loss_and_zero_gradient(task, dtype):
    target = torch.full((5, 2), math.nan) if task == "regression" else torch.full((5,), -1)
    output = random(5, 2, seed=10, dtype=dtype).requires_grad_()
    loss = task_loss(task, output, target, NONE)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.equal(output.grad, torch.zeros(5, 2, dtype=dtype))


@over("garbage", [math.nan, math.inf])
def test_outputs_of_a_batch_without_labels_are_never_read(garbage):
    output = torch.full((5, 2), garbage, requires_grad=True)
    for loss in (
        task_loss("classification", output, torch.zeros(5, dtype=torch.long), NONE),
        task_loss("ordinal", output, torch.zeros(5, dtype=torch.long), NONE),
        task_loss("regression", output, torch.zeros(5, 2), NONE),
        output_loss("classification", output, output.detach(), NONE),
        output_loss("ordinal", output, output.detach(), NONE),
    ):
        (gradient,) = torch.autograd.grad(loss, output)
        assert float(loss.detach()) == 0.0
        assert torch.equal(gradient, torch.zeros(5, 2))


def test_outputs_of_a_batch_without_labels_may_be_too_large_to_sum():
    output = torch.full((1000, 3), 100.0, dtype=torch.float16)  # the sum exceeds the largest float16
    nothing = torch.zeros(1000, dtype=torch.bool)
    assert float(task_loss("classification", output, torch.zeros(1000, dtype=torch.long), nothing)) == 0.0
    assert float(output_loss("classification", output, output, nothing)) == 0.0


@over("task", ["classification", "regression"])
def test_a_single_labelled_sample_has_a_finite_loss_and_gradient(task):
    target = torch.tensor([1, 0]) if task == "classification" else torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    output = random(2, 2, seed=11).requires_grad_()
    loss = task_loss(task, output, target, torch.tensor([True, False]))
    loss.backward()
    assert loss.isfinite()
    assert output.grad.isfinite().all()
    assert task == "classification" or float(loss.detach()) == 1.0


@over("dtype", [torch.bfloat16, torch.float16])
@over("labelled", [SOME, NONE])
@over("task", ["classification", "ordinal", "regression"])
def test_half_precision_outputs_give_a_single_precision_loss(task, labelled, dtype):
    target = random(5, 2, seed=12) if task == "regression" else torch.tensor([1, 0, 1, 1, 0])
    output = random(5, 2, seed=13, dtype=dtype)
    loss = task_loss(task, output, target, labelled)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, task_loss(task, output.float(), target, labelled))


# output_loss


def test_classes_are_distilled_by_the_scaled_divergence_of_the_softened_distributions():
    output, teacher = random(5, 3, seed=14), random(5, 3, seed=15)
    p = torch.softmax(teacher[SOME].double() / 3, dim=1).numpy()
    q = torch.softmax(output[SOME].double() / 3, dim=1).numpy()
    expected = 9 * (p * np.log(p / q)).sum(axis=1).mean()
    assert float(output_loss("classification", output, teacher, SOME, temperature=3.0)) == pytest.approx(expected)


def test_ordered_classes_are_distilled_by_the_mean_scaled_divergence_of_every_threshold():
    output, teacher = random(5, 3, seed=14), random(5, 3, seed=15)
    p = torch.sigmoid(teacher[SOME].double() / 3).numpy()
    q = torch.sigmoid(output[SOME].double() / 3).numpy()
    expected = 9 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert float(output_loss("ordinal", output, teacher, SOME, temperature=3.0)) == pytest.approx(expected)


def test_very_sure_thresholds_are_distilled_without_nan():
    output, teacher = torch.tensor([[1e4, -1e4]], requires_grad=True), torch.tensor([[-1e4, -1e4]])
    loss = output_loss("ordinal", output, teacher, torch.tensor([True]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(4 * 0.5 * 1e4 / 2)
    assert output.grad.isfinite().all()


def test_the_temperature_defaults_to_two():
    output, teacher = random(5, 3, seed=14), random(5, 3, seed=15)
    assert torch.equal(
        output_loss("classification", output, teacher, SOME), output_loss("classification", output, teacher, SOME, 2.0)
    )


def test_values_are_distilled_by_their_mean_squared_error():
    output, teacher = random(5, 2, seed=16), random(5, 2, seed=17)
    expected = F.mse_loss(output[[0, 2, 3]], teacher[[0, 2, 3]])
    torch.testing.assert_close(output_loss("regression", output, teacher, SOME), expected)


def test_values_are_compared_in_the_unit_of_each_target():
    output, teacher, scale = random(5, 2, seed=16), random(5, 2, seed=17), torch.tensor([10.0, 0.1])
    expected = ((output[SOME] - teacher[SOME]) / scale).square().mean()
    torch.testing.assert_close(output_loss("regression", output, teacher, SOME, scale=scale), expected)
    in_units = output_loss("regression", output * scale, teacher * scale, SOME, scale=scale)
    torch.testing.assert_close(in_units, output_loss("regression", output, teacher, SOME))


@over("task", ["classification", "ordinal", "regression"])
def test_outputs_equal_to_the_teachers_cost_nothing(task):
    output = random(5, 3, seed=18).requires_grad_()
    loss = output_loss(task, output, output.detach().clone(), SOME)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    assert float(output.grad.abs().max()) < 1e-6


@over("task", ["classification", "ordinal", "regression"])
def test_samples_on_which_the_teacher_sees_nothing_are_left_out(task):
    output, teacher = random(5, 3, seed=19).requires_grad_(), random(5, 3, seed=20)
    clean = output_loss(task, output, teacher, SOME)
    teacher[~SOME] = math.nan
    dirty = output_loss(task, output, teacher, SOME)
    dirty.backward()
    assert float(dirty.detach()) == float(clean.detach())
    assert torch.equal(output.grad[~SOME], torch.zeros(2, 3))
    nothing = output_loss(task, output, teacher, NONE)
    output.grad = None
    nothing.backward()
    assert float(nothing.detach()) == 0.0
    assert torch.equal(output.grad, torch.zeros(5, 3))


@property_test
@given(st.sampled_from(["classification", "ordinal", "regression"]), st.integers(0, 10_000))
def test_weights_make_a_weighted_mean_of_the_losses_of_the_rows(task, seed):
    output, teacher, scale = random(5, 3, seed=seed), random(5, 3, seed=seed + 1), torch.tensor([0.5, 2.0, 1.0])
    weights = random(5, seed=seed + 2).square()
    single = [output_loss(task, output[i : i + 1], teacher[i : i + 1], SOME[:1], 3.0, scale) for i in range(5)]
    expected = sum(float(weights[i] * single[i]) for i in (0, 2, 3)) / float(weights[SOME].sum())
    found = output_loss(task, output, teacher, SOME, 3.0, scale, weights)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(output_loss(task, output, teacher, SOME, 3.0, scale, 7 * weights), found)
    even = output_loss(task, output, teacher, SOME, 3.0, scale, torch.full((5,), 0.3))
    torch.testing.assert_close(even, output_loss(task, output, teacher, SOME, 3.0, scale))


@over("task", ["classification", "ordinal", "regression"])
def test_weights_scale_the_gradient_of_each_row(task):
    output, teacher = random(5, 3, seed=18).requires_grad_(), random(5, 3, seed=19)
    weights = torch.tensor([3.0, 5.0, 0.0, 1.0, 2.0])
    output_loss(task, output, teacher, SOME).backward()
    even, output.grad = output.grad, None
    output_loss(task, output, teacher, SOME, weights=weights).backward()
    torch.testing.assert_close(output.grad, even * 3 * torch.tensor([0.75, 0.0, 0.0, 0.25, 0.0])[:, None])


@over("task", ["classification", "ordinal", "regression"])
def test_weights_that_are_all_zero_give_zero_with_zero_gradient(task):
    output = random(5, 3, seed=18).requires_grad_()
    loss = output_loss(task, output, random(5, 3, seed=19), SOME, weights=torch.zeros(5))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.equal(output.grad, torch.zeros(5, 3))


# row_losses


def test_the_loss_of_a_row_equals_a_hand_computed_case():
    everything = torch.tensor([True, True])
    classes = row_losses(
        "classification", torch.tensor([[0.2, 0.8], [0.5, 0.5]]).log(), torch.tensor([1, 0]), everything
    )
    assert classes.tolist() == pytest.approx([-math.log(0.8), -math.log(0.5)])
    # Level 1 of 3 passes the first threshold alone; level 2 both.
    levels = row_losses("ordinal", torch.tensor([[0.9, 0.2], [0.9, 0.2]]).logit(), torch.tensor([1, 2]), everything)
    assert levels.tolist() == pytest.approx([-math.log(0.9 * 0.8) / 2, -math.log(0.9 * 0.2) / 2])
    target, scale = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([2.0, 10.0])
    values = row_losses("regression", torch.tensor([[3.0, 10.0], [0.0, -20.0]]), target, everything, scale)
    assert values.tolist() == pytest.approx([1.0, 2.0])


@over("task", ["classification", "ordinal"])
def test_the_losses_of_the_rows_have_the_loss_of_the_batch_as_their_mean(task):
    output, target = random(5, 3, seed=25), torch.tensor([2, 0, 1, 0, 1])
    losses = row_losses(task, output, target, SOME)
    torch.testing.assert_close(losses[SOME].mean(), task_loss(task, output, target, SOME))
    for row in range(5):
        alone = row_losses(task, output[row : row + 1], target[row : row + 1], SOME[row : row + 1])
        torch.testing.assert_close(alone[0], losses[row])


@over("task", ["classification", "ordinal", "regression"])
def test_a_row_without_label_has_no_loss_whatever_it_holds(task):
    output = random(5, 3, seed=26)
    target = random(5, 3, seed=27) if task == "regression" else torch.tensor([2, 0, 1, 0, 1])
    clean = row_losses(task, output, target, SOME)
    output[~SOME] = math.nan
    target[~SOME] = math.nan if task == "regression" else torch.iinfo(torch.int64).min
    dirty = row_losses(task, output, target, SOME)
    assert torch.equal(dirty, clean)
    assert dirty[~SOME].tolist() == [0, 0]
    assert float(dirty[SOME].min()) > 0
    assert row_losses(task, output, target, NONE).tolist() == [0] * 5


@over("task", ["classification", "ordinal", "regression"])
@over("dtype, kept", [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)])
def test_losses_of_rows_are_in_single_precision_or_better(task, dtype, kept):
    output = random(5, 3, seed=28, dtype=dtype)
    target = random(5, 3, seed=29) if task == "regression" else torch.tensor([2, 0, 1, 0, 1])
    found = row_losses(task, output, target, SOME)
    assert found.dtype == kept
    torch.testing.assert_close(found, row_losses(task, output.to(kept), target, SOME))
