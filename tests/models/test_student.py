"""The student as a plain network: what it reads, and that it can be exported."""

from functools import partial

import pytest
import torch
from torch.export import Dim, export

from mtpkdot.models import (
    Backbone,
    FeatureEncoder,
    FrameEncoder,
    GatedFusion,
    Head,
    Hourglass,
    SignalEncoder,
    Steps,
    Student,
    VideoEncoder,
)

ENCODERS = {
    "features": (partial(FeatureEncoder, dim=8), (4,), False),
    "features over time": (partial(FeatureEncoder, dim=8, temporal_layers=1), (4,), False),
    "features per step": (partial(FeatureEncoder, dim=8, temporal_layers=1), (4,), True),
    "frames": (partial(FrameEncoder, model="test_resnet", dim=8, temporal_layers=1), (3, 32, 32), False),
    "clips per step": (partial(FrameEncoder, model="test_resnet", dim=8), (2, 3, 32, 32), True),
    "one clip": (partial(VideoEncoder, dim=8), (3, 32, 32), False),
    "a signal": (partial(SignalEncoder, channels=[8], kernel=3, stride=2, dim=8), (2,), False),
    "signals per step": (partial(SignalEncoder, dim=8), (16, 2), True),
}


def student(name="features", names=("sound",), zeros=False):
    """An untrained student, in eval mode."""
    torch.manual_seed(0)
    encoder, shape, per_step = ENCODERS[name]
    backbone = Backbone(Steps(shape), 2, encoder, per_step)
    fusion = GatedFusion({"video": backbone.dim, **dict.fromkeys(names, 6)}, per_step, dim=16)
    tnets = {each: Hourglass(backbone.dim, 6) for each in names}
    return Student(backbone, Head(16, 2), tnets, fusion, "video", zeros).eval()


def inputs(name, batch, time, gaps=True):
    """Random steps; masked ones hold what no one may read."""
    steps, mask = torch.rand(batch, time, *ENCODERS[name][1]), torch.rand(batch, time) > 0.3 * gaps
    steps[~mask] = 1e6
    if batch > 1 and gaps:
        mask[1] = False
    return steps, mask


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_an_exported_student_answers_the_same_for_other_batches_and_lengths(name):
    model, clip = student(name), name == "one clip"
    shapes = ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC},) * 2
    exported = export(model, inputs(name, 3, 5), dynamic_shapes=shapes).module()
    # The strides of a network over time leave lengths of the kind of the example's.
    for batch, time in ((2, 8), (7, 6)) if clip or name == "a signal" else ((1, 1), (2, 9), (7, 3)):
        seen = inputs(name, batch, time, gaps=not clip)  # a video network reads a clip to its end
        for found, expected in zip(exported(*seen), model(*seen), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_replacement_of_privileged_features_decides_the_answer_or_not():
    seen = inputs("features", 4, 3)
    for zeros, names, reads in ((False, ("sound", "emg"), True), (True, ("sound", "emg"), False)):
        model = student(names=names, zeros=zeros)
        before = model(*seen)[1]
        for parameter in model.tnets.parameters():
            parameter.add_(1.0)
        assert torch.equal(model(*seen)[1], before) != reads
    assert student(names=()).fusion.modalities == ["video"]


@torch.no_grad()
def test_by_backbone_the_answer_is_that_of_the_backbone():
    model, seen = student(), inputs("features", 4, 3)
    model.by_backbone = True
    for found, expected in zip(model(*seen), model.backbone(*seen), strict=True):
        assert torch.equal(found, expected)
