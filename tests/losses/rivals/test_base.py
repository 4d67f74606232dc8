import pytest
import torch

from mtpkdot.losses.rivals import Rival, RivalFactory, Seen
from tests.losses.rivals.cases import batch


def test_a_rival_knows_its_task_and_sizes():
    rival = Rival("ordinal", 3, 4)
    assert (rival.task, rival.student_dim, rival.teacher_dim) == ("ordinal", 3, 4)


def test_a_rival_must_say_what_its_loss_is():
    with pytest.raises(NotImplementedError):
        Rival("regression", 6, 5)(*batch("regression"))


def test_an_unknown_task_is_refused():
    factory: RivalFactory = Rival
    with pytest.raises(ValueError, match="Rival is defined for classification and ordinal and regression, not for x"):
        factory("x", 3, 4)


def test_features_of_a_model_cannot_be_replaced():
    seen = Seen(torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(AttributeError):
        seen.feature = torch.ones(1, 2)
