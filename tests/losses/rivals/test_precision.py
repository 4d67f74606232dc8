import pytest
import torch
from torch import nn

from mtpkdot.losses.rivals import Seen
from mtpkdot.losses.rivals.precision import FullPrecision, Linear, adapter, mean_over_rows
from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals.cases import batch, of_features


class Product(FullPrecision):
    """Remembers what it was given."""

    def compare(self, student, teacher, target, labelled):
        self.given = student, teacher
        return (student.feature @ student.feature.T).sum()


@over(
    "dtype, computed",
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_both_models_are_given_in_at_least_single_precision_even_under_autocast(dtype, computed):
    module, (student, teacher, *rest) = Product("regression", 6, 5), batch("regression", dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(student, teacher, *rest).dtype == computed
    assert {x.dtype for seen in module.given for x in (seen.feature, seen.output)} == {computed}


def test_the_teacher_is_brought_to_the_students_precision_and_loses_its_graph():
    module, (student, teacher, *rest) = Product("regression", 6, 5), batch("regression")
    wide = Seen(teacher.feature.double().requires_grad_(), teacher.output.double().requires_grad_())
    assert module(student, wide, *rest).dtype == torch.float32
    assert not module.given[1].feature.requires_grad
    assert not module.given[1].output.requires_grad
    assert module.given[0].feature.requires_grad


def test_different_numbers_of_samples_are_refused():
    student, _, *rest = of_features(random(4, 6, seed=0), random(4, 5, seed=1))
    _, teacher, *_ = of_features(random(3, 6, seed=0), random(3, 5, seed=1))
    with pytest.raises(ValueError, match="must see the same samples, not 4 and 3"):
        Product("regression", 6, 5)(student, teacher, *rest)


def test_a_comparison_must_be_defined():
    with pytest.raises(NotImplementedError):
        FullPrecision("regression", 6, 5)(*batch("regression"))


@over("kept", [torch.float32, torch.bfloat16, torch.float64])
@over("given", [torch.float32, torch.float64])
def test_a_linear_map_computes_in_the_precision_of_its_input(kept, given):
    layer, x = Linear(3, 2).to(kept), random(4, 3, seed=0, dtype=given)
    answer = layer(x)
    assert answer.dtype == given
    expected = x.double() @ layer.weight.double().T + layer.bias.double()
    torch.testing.assert_close(answer.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_feature_of_the_teachers_size_is_left_as_it_is():
    assert isinstance(adapter(4, 4), nn.Identity)
    assert adapter(4, 3)(random(2, 4, seed=0)).shape == (2, 3)
    assert len(list(adapter(4, 3).parameters())) == 2


def test_the_mean_over_no_rows_is_zero_with_zero_gradient():
    rows = torch.zeros(0, 3, requires_grad=True)
    mean = mean_over_rows(rows)
    mean.backward()
    assert float(mean.detach()) == 0.0
    assert rows.grad.shape == (0, 3)
    assert float(mean_over_rows(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))) == 3.0
