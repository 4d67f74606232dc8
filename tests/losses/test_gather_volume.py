"""What gathering sends in a step is what the README's formula says."""

import pytest
import torch
import torch.distributed as dist

from mtpkdot.losses import gather
from mtpkdot.losses.distillation import Distillation, Teacher
from mtpkdot.losses.rivals import Seen
from mtpkdot.losses.selection import TeacherSelection
from mtpkdot.losses.structure import StructuralTransport

FLOAT, INTEGER = 4, 8


@pytest.fixture
def sent(monkeypatch):
    """Bytes of the buffers that collectives fill, in a world of processes that all have the same rows."""
    bytes_of = {"forward": 0, "backward": 0}

    def start(world):
        def all_gather(parts, own):
            for part in parts:
                part.copy_(own)
            bytes_of["forward"] += sum(part.numel() * part.element_size() for part in parts)

        def all_reduce(tensor):
            bytes_of["backward"] += tensor.numel() * tensor.element_size()

        monkeypatch.setattr(gather, "_several", lambda: True)
        monkeypatch.setattr(dist, "get_world_size", lambda: world)
        monkeypatch.setattr(dist, "get_rank", lambda: 0)
        monkeypatch.setattr(dist, "all_gather", all_gather)
        monkeypatch.setattr(dist, "all_reduce", all_reduce)
        return bytes_of

    return start


@pytest.mark.parametrize(("world", "share"), [(2, 16), (4, 8)])
@pytest.mark.parametrize("teachers", [1, 3])
def test_a_distilled_step_sends_what_the_formula_says(world, share, teachers, sent):
    dim, classes = 12, 5
    batch = world * share
    torch.manual_seed(0)
    feature, output = torch.randn(share, dim, requires_grad=True), torch.randn(share, classes, requires_grad=True)
    yes, target = torch.ones(share, dtype=torch.bool), torch.arange(share) % classes
    spaces = {
        name: Teacher(torch.randn(share, dim), torch.randn(share, classes), yes)
        for name in ("joint", "a", "b")[:teachers]
    }
    structure = StructuralTransport(top_k=4, gathered=True)
    distillation = Distillation("classification", ["transport", "centroid"], structure, TeacherSelection())
    counted = sent(world)
    terms, _ = distillation(Seen(feature, output), spaces, yes, target, yes)
    (terms["transport"] + terms["centroid"]).backward()
    floats = (1 + teachers) * (dim + classes)
    integers = 3 + teachers  # target, and the flags seen, labelled and valid, which travel as integers
    counts = world * INTEGER
    assert counted["forward"] == batch * (FLOAT * floats + INTEGER * integers) + counts
    assert counted["backward"] == batch * FLOAT * (dim + classes)
