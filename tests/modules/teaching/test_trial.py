from functools import partial

import pytest
import torch

from mtpkdot.losses.rivals import RIVALS, Rival
from mtpkdot.losses.selection import Selection, Shares
from mtpkdot.losses.structure import StructuralLoss
from mtpkdot.modules.teaching.trial import try_rival, try_selection, try_structure
from tests.extending.parts import Distance, Even, Gram


class Vector(Rival):
    def forward(self, student, teacher, target, labelled):
        return (student.output - teacher.output).square().mean(dim=1)


class Bare(Rival):
    def __init__(self):
        super().__init__("classification", 1, 1)


class Slopes(Rival):
    """Compares gradients, which it computes itself."""

    def forward(self, student, teacher, target, labelled):
        (slope,) = torch.autograd.grad(student.output.square().sum(), student.feature, allow_unused=True)
        return student.output.sum() if slope is None else slope.sum()


class Plain(StructuralLoss):
    def forward(self, student, teacher, weights=None, past=None):
        return (student.mean() - teacher.mean()).square()


class Pair(StructuralLoss):
    def forward(self, student, teacher):
        return student, teacher


class Whole(Selection):
    def __call__(self, task, own, teachers, valid, target, labelled, scale=1.0):
        return Shares(valid[0].float(), torch.ones(len(own)))


class Unscaled(Selection):
    def __call__(self, task, own, teachers, valid, target, labelled):
        return Shares(valid.float(), torch.ones(len(own)))


@pytest.mark.parametrize("task", ["classification", "ordinal", "regression"])
def test_own_losses_of_the_right_form_pass_and_leave_the_random_state(task):
    state = torch.get_rng_state()
    try_selection(Even, task, 3, "joint")
    try_structure(partial(Gram, factor=2.0))
    for rival in (Distance, Slopes, *(each for each in RIVALS.values() if task in each.tasks)):
        try_rival(rival, task, 3)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("trial", "says"),
    [
        (lambda: try_rival(Vector, "classification", 3), r"Vector returns \(4,\) for a few rows, not \(\): a rival is"),
        (lambda: try_rival(Bare, "classification", 3), r"Bare fails: .*built from \(task, student_dim, teacher_dim\)"),
        (lambda: try_structure(Plain), r"Plain returns Tensor for a few rows, not \(\), \(\), \(\): a structural loss"),
        (lambda: try_structure(Pair), r"Pair fails: .*called with \(student, teacher, weights, past\)"),
        (lambda: try_selection(Whole, "regression", 2, "joint"), r"Whole returns \(2,\), \(4,\) .* \(4, 2\), \(4,\)"),
        (lambda: try_selection(Unscaled, "regression", 2, "joint"), r"Unscaled fails: .*'scale'.*called with \(task,"),
    ],
)
def test_own_losses_of_another_form_are_one_line_that_names_the_expected_one(trial, says):
    with pytest.raises(ValueError, match=says) as error:
        trial()
    assert "\n" not in str(error.value)
