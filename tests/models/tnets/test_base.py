"""A T-Net of one's own is tried before anything is trained."""

import pytest
import torch
from torch import nn

from mtpkdot.models.tnets.base import TNet, check_tnet
from mtpkdot.models.tnets.hourglass import Hourglass


class Linear(TNet):
    """Right."""

    def __init__(self, in_dim, out_dim):
        super().__init__(in_dim, out_dim)
        self.layer = nn.Linear(in_dim, out_dim)

    def forward(self, feature):
        return self.layer(feature)


class Pooled(Linear):
    def forward(self, feature):
        return super().forward(feature).mean(dim=1)


class Turned(Linear):
    def __init__(self, in_dim, out_dim):
        super().__init__(out_dim, in_dim)


class OtherArguments(Linear):
    def __init__(self, size):
        super().__init__(size, size)


@pytest.mark.parametrize("build", [Linear, Hourglass])
def test_a_right_one_passes_and_takes_no_random_number(build):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check_tnet(build)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (Pooled, r"Pooled turns \(2, 5, 4\) into \(2, 3\), not \(2, 5, 3\)"),
        (Turned, "Turned fails: "),
        (OtherArguments, "OtherArguments fails: .*argument"),
        (nn.Bilinear, "Bilinear fails: "),
        (nn.Linear, "Linear is not a TNet"),
    ],
)
def test_a_wrong_class_is_named_with_what_is_expected(build, says):
    with pytest.raises(ValueError, match=says) as caught:
        check_tnet(build)
    assert "built from (in_dim, out_dim)" in str(caught.value)
