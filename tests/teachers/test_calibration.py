import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.teachers.calibration import Calibration, held_out_score, log_likelihood, mean_error


@settings(deadline=None)
@given(temperature=st.floats(0.1, 10.0))
def test_the_temperature_of_outputs_is_found(temperature):
    random = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(5_000, 3, generator=random, dtype=torch.float64)
    truth = torch.multinomial(logits.softmax(dim=1), 1, generator=random)[:, 0]
    found = Calibration.fit("classification", logits * temperature, truth)
    assert float(found.slope[0]) * temperature == pytest.approx(1, abs=0.1)
    assert not found.offset.any()


@given(slope=st.floats(0.1, 10.0), offset=st.floats(-10, 10))
def test_values_are_mapped_to_the_labels(slope, offset):
    random = torch.Generator().manual_seed(2)
    output = torch.randn(500, 2, generator=random, dtype=torch.float64)
    calibrated = Calibration.fit("regression", output, slope * output + offset)(output)
    assert torch.allclose(calibrated, slope * output + offset, atol=1e-8)


def test_values_that_fall_with_the_labels_are_replaced_by_their_mean():
    output = torch.arange(10.0)[:, None]
    found = Calibration.fit("regression", output, -output)
    assert float(found.slope) == 0
    assert torch.allclose(found(output), torch.full((10, 1), -4.5, dtype=torch.float64))


def test_constant_values_are_replaced_by_the_mean_of_the_labels():
    found = Calibration.fit("regression", torch.ones(4, 1), torch.tensor([[0.0], [1.0], [2.0], [3.0]]))
    assert found(torch.ones(1, 1)).item() == pytest.approx(1.5)


@pytest.mark.parametrize("task", ["classification", "ordinal", "regression"])
def test_without_rows_outputs_are_left_as_they_are(task):
    output = torch.tensor([[0.5, -2.0]])
    truth = torch.zeros(0, 2) if task == "regression" else torch.zeros(0, dtype=torch.int64)
    assert torch.equal(Calibration.fit(task, torch.zeros(0, 2), truth)(output), output.double())


def test_calibration_never_lowers_the_likelihood_on_its_rows():
    random = torch.Generator().manual_seed(3)
    output, truth = 5 * torch.randn(50, 4, generator=random), torch.randint(4, (50,), generator=random)
    assert held_out_score("classification", output, truth) >= float(
        log_likelihood("classification", output, truth).mean()
    )


def test_one_sure_mistake_has_a_bounded_cost():
    assert float(log_likelihood("classification", torch.tensor([[1e9, 0.0]]), torch.tensor([1]))) > -20


def test_rows_of_their_own_people_have_the_usual_standard_error():
    gain = torch.randn(30, generator=torch.Generator().manual_seed(4))
    mean, error = mean_error(gain, torch.arange(30))
    assert mean == pytest.approx(float(gain.mean()), abs=1e-6)
    assert error == pytest.approx(float(gain.double().std() / 30**0.5))


def test_copies_of_a_persons_row_do_not_make_the_mean_more_certain():
    gain = torch.randn(30, generator=torch.Generator().manual_seed(4))
    once = mean_error(gain, torch.arange(30))
    often = mean_error(gain.repeat_interleave(7), torch.arange(30).repeat_interleave(7))
    assert often == pytest.approx(once)


def test_a_single_person_gives_no_certainty():
    assert mean_error(torch.ones(5), torch.zeros(5, dtype=torch.int64))[1] == float("inf")
