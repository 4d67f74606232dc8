"""A fusion without weights, of which linear students are made."""

import pytest
import torch

from mtpkdot.models import Backbone, Concatenation, Head, LinearEncoder, Steps, Student
from mtpkdot.models.fusions import fusion_size


@pytest.mark.parametrize("per_step", [False, True])
def test_it_has_the_shapes_of_a_fusion(per_step):
    assert fusion_size(Concatenation, ["video", "sound"], per_step) == 9


def test_means_of_real_steps_stand_side_by_side_and_absent_modalities_are_zero():
    features = {"video": torch.tensor([[[1.0], [3.0], [9.0]]] * 2), "sound": torch.full((2, 1, 2), 5.0)}
    masks = {"video": torch.tensor([[True, True, False]] * 2), "sound": torch.tensor([[True], [False]])}
    joint, gate = Concatenation({"video": 1, "sound": 2})(features, masks)
    assert joint.tolist() == [[2, 5, 5], [2, 0, 0]]
    assert gate.tolist() == [[0.5, 0.5], [1, 0]]


def test_a_linear_student_is_linear():
    encoder = LinearEncoder
    backbone = Backbone(Steps((5,)), 2, encoder)
    student = Student(backbone, Head(5, 2), {}, Concatenation({"video": 5}), "video").eval()
    mask = torch.ones(1, 3, dtype=torch.bool)
    x, y = torch.randn(2, 1, 3, 5)
    zero = student(torch.zeros(1, 3, 5), mask)[1]
    sums = student(x + 2 * y, mask)[1] - zero
    torch.testing.assert_close(sums, student(x, mask)[1] - zero + 2 * (student(y, mask)[1] - zero))


def test_pictures_have_no_linear_encoder():
    with pytest.raises(ValueError, match="vectors"):
        LinearEncoder(Steps((3, 8, 8)))
