import pytest
import torch
import torch.distributed as dist

from mtpkdot.losses.distillation import Distillation, Teacher
from mtpkdot.losses.gather import gather_rows, own_rows, row_counts
from mtpkdot.losses.rivals import Seen
from mtpkdot.losses.selection import TeacherSelection
from mtpkdot.losses.structure import StructuralTransport
from tests.loops import over
from tests.losses.processes import DTYPES, LAYOUTS, ROWS, cases_of, kinds, outcome, replicated, start
from tests.losses.reference import random

ALL = slice(0, ROWS)
TOLERANCE = {"float64": 1e-8, "float32": 1e-5}
# `output_loss`, of which this rival is made, is computed in float32 whatever it is given.
SINGLE = "rival-kd-"
every_layout = over("world, number", [(world, n) for world in LAYOUTS for n in (0, 1)])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What every process of every group found."""
    folder = tmp_path_factory.mktemp("processes")
    start(str(folder))
    return {
        (world, number): [torch.load(folder / f"{world}-{number}-{r}.pt", weights_only=False) for r in range(world)]
        for world, layouts in LAYOUTS.items()
        for number in range(len(layouts))
    }


def assert_equal(found, gradients, expected, tolerance):
    for one in found:
        assert one.value.dtype == expected.value.dtype
        assert abs(float(one.value - expected.value)) <= tolerance * max(abs(float(expected.value)), 1e-3)
    largest = max(float(gradient.abs().max()) for gradient in expected.gradients)
    assert largest > 0
    worst = max(float((g - e).abs().max()) for g, e in zip(gradients, expected.gradients, strict=True))
    assert worst <= tolerance * largest


# Many processes


@pytest.mark.slow
@over("world, number, case", [(w, number, case) for w in LAYOUTS for number in (0, 1) for case in cases_of(number)])
def test_gathered_losses_and_their_mean_gradients_are_those_of_one_process(runs, world, number, case):
    for name in DTYPES[number]:
        found = [result[case, name] for result in runs[world, number]]
        means = [torch.stack(parts).mean(dim=0) for parts in zip(*(one.gradients for one in found), strict=True)]
        tolerance = TOLERANCE["float32" if case.startswith(SINGLE) else name]
        assert_equal(found, means, outcome(case, ALL, getattr(torch, name)), tolerance)


@pytest.mark.slow
@every_layout
@over("mode", ["rows", "fused"])
def test_replicas_have_the_gradient_of_one_process(runs, world, number, mode):
    for name in DTYPES[number]:
        expected = replicated(mode, ALL, getattr(torch, name))
        for result in runs[world, number]:
            found = result[f"replicated {mode}", name]
            assert_equal([found], found.gradients, expected, TOLERANCE[name])


@pytest.mark.slow
@every_layout
@over("mode", ["rows", "paired"])
def test_all_processes_have_the_same_random_anchors(runs, world, number, mode):
    first, *others = (found[f"random {mode}"] for found in runs[world, number])
    for other in others:
        assert float(other.value) == pytest.approx(float(first.value), rel=1e-12)
    assert float(first.value) > 0


@pytest.mark.slow
@every_layout
def test_tensors_of_every_type_come_back_whole_in_the_order_of_the_processes(runs, world, number):
    for found in runs[world, number]:
        for name, whole in kinds(ALL).items():
            gathered = found["kinds"][name]
            assert gathered.dtype == whole.dtype, name
            assert torch.equal(gathered, whole), name


# One process


def test_without_other_processes_the_tensors_are_what_they_were():
    tensors = random(3, 2, seed=1).requires_grad_(), torch.tensor([True, False, True]), torch.arange(3)
    assert not dist.is_initialized()
    assert all(x is y for x, y in zip(gather_rows(*tensors), tensors, strict=True))


def test_a_group_of_one_process_changes_nothing(tmp_path):
    student, teacher = random(6, 3, seed=1), random(6, 4, seed=2)
    losses = [
        StructuralTransport(top_k=2, anchors=anchors, gather=g) for anchors in ("least", "random") for g in (1, 0)
    ]

    def values():
        torch.manual_seed(0)
        return [float(loss(student, teacher).transport) for loss in losses]

    expected = values()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        assert gather_rows(student)[0] is student
        assert values() == expected
    finally:
        dist.destroy_process_group()


def test_alone_all_rows_are_its_own():
    rows = torch.arange(6.0)
    assert row_counts(rows) == [6]
    assert torch.equal(own_rows(*gather_rows(rows), row_counts(rows)), rows)


# What a step sends is what the formula of docs/scaling.md says


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
    counts = world * 8
    assert counted["forward"] == batch * (4 * floats + 8 * integers) + counts
    assert counted["backward"] == batch * 4 * (dim + classes)
