"""A fusion of one's own is tried before anything is trained."""

import pytest
import torch
from torch import nn

from mtpkdot.models.fusions.base import Fusion, fusion_size
from mtpkdot.models.fusions.gated import GatedFusion


class Sum(Fusion):
    """Right."""

    def __init__(self, dims, per_step=False, dim=5):
        super().__init__(dims, per_step, dim)
        self.layers = nn.ModuleList(nn.Linear(size, dim) for size in dims.values())

    def forward(self, features, masks):
        joint = sum(layer(features[name]) for name, layer in zip(self.modalities, self.layers, strict=True))
        joint = joint.flatten(0, 1) if self.per_step else joint.mean(dim=1)
        return joint, joint.new_full((len(joint), len(self.modalities)), 1 / len(self.modalities))


class WithoutGates(Sum):
    def forward(self, features, masks):
        return super().forward(features, masks)[0]


class OtherSize(Sum):
    def forward(self, features, masks):
        joint, gate = super().forward(features, masks)
        return joint[:, :-1], gate


class OtherArguments(Sum):
    def __init__(self, size):
        super().__init__({"video": size})


class Failing(Sum):
    def forward(self, features, masks):
        return features["no such modality"]


class NoFusion(nn.Module):
    def __init__(self, dims, per_step):
        super().__init__()


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize(("build", "size"), [(Sum, 5), (lambda *given: Sum(*given, dim=7), 7), (GatedFusion, 128)])
def test_the_size_of_the_joint_feature_is_found_without_a_random_number(build, size, per_step):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert fusion_size(build, ["video", "sound"], per_step) == size
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (WithoutGates, r"WithoutGates returns Tensor .* not \[\(2, 5\), \(2, 2\)\]"),
        (OtherSize, r"OtherSize returns \[\(2, 4\), \(2, 2\)\]"),
        (OtherArguments, "OtherArguments fails: .*argument"),
        (Failing, "Failing fails: 'no such modality'"),
        (NoFusion, "NoFusion is not a Fusion"),
    ],
)
def test_a_wrong_class_is_named_with_what_is_expected(build, says):
    with pytest.raises(ValueError, match=says) as caught:
        fusion_size(build, ["video", "sound"], False)
    assert "built from (dims, per_step)" in str(caught.value)


@pytest.mark.parametrize("switch", ["batch_attention", "frozen_projections"])
def test_a_fusion_without_the_released_deviations_refuses_them(switch):
    Sum({"video": 3}).use_protocol()
    with pytest.raises(ValueError, match=f"Sum has no {switch}"):
        Sum({"video": 3}).use_protocol(**{switch: True})
