"""What held-out samples say of teachers."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses import evidence
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.evidence import likelier, pool, weigh
from mtpkdot.losses.task import class_probabilities
from tests.loops import over

ROWS, CLASSES = 400, 4
TASKS = ["classification", "ordinal", "regression"]


def truth(task, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if task == "regression":
        return torch.randn(ROWS, 2, generator=generator)
    return torch.randint(CLASSES, (ROWS,), generator=generator)


def model(task, target, skill, seed=1, valid=None):
    """A model whose outputs know the target through noise; with skill 0 they are the noise alone."""
    generator = torch.Generator().manual_seed(seed)
    if task == "regression":
        clean = target
    elif task == "ordinal":
        clean = (target[:, None] > torch.arange(CLASSES - 1)).float() * 2 - 1
    else:
        clean = torch.nn.functional.one_hot(target, CLASSES).float()
    output = skill * clean + torch.randn(clean.shape, generator=generator)
    if task == "regression" and skill:
        output = output / skill
    feature = torch.cat([skill * clean + torch.randn(clean.shape, generator=generator), torch.ones(ROWS, 1)], dim=1)
    return Teacher(feature, output, torch.ones(ROWS, dtype=torch.bool) if valid is None else valid)


def everyone():
    return torch.ones(ROWS, dtype=torch.bool)


@over("task", TASKS)
def test_a_teacher_that_knows_nothing_has_hardly_a_share_and_the_pool_is_trusted(task):
    target = truth(task)
    teachers = {"good": model(task, target, 4.0, 1), "noise": model(task, target, 0.0, 2)}
    evidence = weigh(task, model(task, target, 1.0, 3), teachers, target, everyone())
    assert evidence.shares[0] > 0.9
    assert evidence.shares.sum().item() == pytest.approx(1.0)
    assert evidence.output > 0.99
    assert evidence.structure > 0.99


@pytest.mark.parametrize("task", TASKS)
def test_structure_is_evaluated_on_a_limited_number_of_rows_evenly_over_all(task, monkeypatch):
    target = truth(task)
    own, teachers = model(task, target, 1.0, 3), {"a": model(task, target, 1.3, 1)}
    third = torch.arange(ROWS) % 3 == 0
    expected = weigh(task, own, teachers, target, third)
    everything = weigh(task, own, teachers, target, everyone())
    monkeypatch.setattr(evidence, "_JUDGED", 150)
    found = weigh(task, own, teachers, target, everyone())
    assert found.structure == expected.structure != everything.structure
    assert found.output == everything.output != expected.output


def test_many_held_out_rows_can_be_evaluated(monkeypatch):
    assert evidence._JUDGED**2 * 8 < 1e9  # bytes of the largest matrix
    monkeypatch.setattr(evidence, "_JUDGED", 400)
    rows = 40_000  # of a matrix of all pairs 13 GB
    target = torch.arange(rows) // 100 % CLASSES
    known = torch.nn.functional.one_hot(target, CLASSES).float()
    good = Teacher(known + 0.1, 3 * known, torch.ones(rows, dtype=torch.bool))
    blind = Teacher(torch.ones_like(known), 0 * known, good.valid)
    found = weigh("classification", blind, {"good": good}, target, good.valid)
    assert found.structure > 0.99


@over("task", TASKS)
def test_teachers_worse_than_the_student_are_not_trusted(task):
    target = truth(task)
    teachers = {"noise": model(task, target, 0.0, 1), "weak": model(task, target, 0.5, 2)}
    evidence = weigh(task, model(task, target, 4.0, 3), teachers, target, everyone())
    assert evidence.output < 0.01
    assert evidence.structure < 0.01


@over("task", TASKS)
def test_a_teacher_that_is_the_student_is_trusted_by_half(task):
    target = truth(task)
    same = model(task, target, 1.0)
    evidence = weigh(task, same, {"same": same}, target, everyone())
    assert evidence.output == pytest.approx(0.5, abs=0.02)
    assert evidence.structure == pytest.approx(0.5, abs=0.02)


def test_temperatures_calibrate():
    target = truth("classification")
    honest = model("classification", target, 3.0)
    loud = Teacher(honest.feature, honest.output * 5, honest.valid)
    evidence = weigh("classification", honest, {"honest": honest, "loud": loud}, target, everyone())
    assert (evidence.temperatures[1] / evidence.temperatures[0]).item() == pytest.approx(5, rel=0.1)
    grid = [
        torch.nn.functional.cross_entropy(honest.output / t, target).item()
        for t in (evidence.temperatures[0] * f for f in (0.85, 1.0, 1.18))
    ]
    assert grid[1] == min(grid)


def test_rows_without_a_label_are_not_read():
    target = truth("classification")
    known = torch.arange(ROWS) < 200
    teachers = {"a": model("classification", target, 2.0, 1), "b": model("classification", target, 1.0, 2)}
    own = model("classification", target, 1.0, 3)
    lost = torch.where(known, target, torch.iinfo(torch.int64).min)
    assert weigh("classification", own, teachers, target, known).output == pytest.approx(
        weigh("classification", own, teachers, lost, known).output
    )


@over("task", TASKS)
@over("loud", [0.1, 1.0, 10.0])
def test_the_likelier_answers_are_the_better_ones_however_sure_they_are(task, loud):
    target = truth(task)
    good, bad = model(task, target, 3.0, 1), model(task, target, 1.0, 2)
    scaled = replace(good, output=good.output * (loud if task != "regression" else 1.0))
    assert likelier(task, scaled, bad, target, everyone())
    assert not likelier(task, bad, scaled, target, everyone())
    assert not likelier(task, good, good, target, everyone())


@over("task", TASKS)
def test_nothing_is_likelier_without_evidence_or_where_it_is_not_finite(task):
    target = truth(task)
    good, bad = model(task, target, 3.0, 1), model(task, target, 1.0, 2)
    assert not likelier(task, good, bad, target, ~everyone())
    assert not likelier(task, replace(good, valid=~everyone()), bad, target, everyone())
    assert not likelier(task, replace(good, output=good.output * math.nan), bad, target, everyone())


@over("labelled", [0, 1])
def test_without_evidence_all_count_alike_and_a_warning_says_so(labelled):
    target = truth("classification")
    teachers = {name: model("classification", target, 1.0, seed) for seed, name in enumerate("abc")}
    with pytest.warns(UserWarning, match=f"held-out samples {labelled} are labelled .* all of a, b, c: "):
        evidence = weigh("classification", teachers["a"], teachers, target, torch.arange(ROWS) < labelled)
    assert evidence.shares.tolist() == pytest.approx([1 / 3] * 3)
    assert (evidence.output, evidence.structure) == (0.5, 0.5)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0.1, 5.0), st.floats(0.0, 1.0))
def test_the_pool_is_the_mean_of_calibrated_probabilities(seed, temperature, share):
    target = truth("classification", seed)
    a, b = model("classification", target, 2.0, seed + 1), model("classification", target, 1.0, seed + 2)
    mixed = pool("classification", torch.tensor([temperature, 1.0]), torch.tensor([share, 1 - share]), {"a": a, "b": b})
    expected = share * (a.output / temperature).softmax(1) + (1 - share) * b.output.softmax(1)
    torch.testing.assert_close(mixed.output.softmax(1), expected, atol=1e-5, rtol=1e-4)


def test_the_similarity_in_the_pool_is_the_mean_of_the_teachers():
    target = truth("classification")
    a, b = model("classification", target, 2.0, 1), model("classification", target, 1.0, 2)
    mixed = pool("classification", torch.ones(2), torch.tensor([0.3, 0.7]), {"a": a, "b": b}).feature
    unit = torch.nn.functional.normalize(mixed, dim=1)
    sides = [torch.nn.functional.normalize(t.feature, dim=1) for t in (a, b)]
    torch.testing.assert_close(unit @ unit.T, 0.3 * sides[0] @ sides[0].T + 0.7 * sides[1] @ sides[1].T)


@over("task", TASKS)
def test_a_teacher_that_does_not_see_a_row_has_no_say_in_it(task):
    target = truth(task)
    sees = torch.arange(ROWS) % 2 == 0
    a, b = model(task, target, 2.0, 1), model(task, target, 1.0, 2, sees)
    mixed = pool(task, torch.ones(2), torch.tensor([0.5, 0.5]), {"a": a, "b": b})
    alone = pool(task, torch.ones(1), torch.ones(1), {"a": a})
    torch.testing.assert_close(mixed.output[~sees], alone.output[~sees], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(mixed.output[sees], alone.output[sees])
    assert mixed.valid.all()
    nobody = pool(task, torch.ones(1), torch.ones(1), {"b": b})
    assert nobody.valid.equal(sees)
    assert nobody.output.isfinite().all()


def test_probabilities_of_ordered_classes_are_pooled_by_threshold():
    target = truth("ordinal")
    a, b = model("ordinal", target, 2.0, 1), model("ordinal", target, 1.0, 2)
    mixed = pool("ordinal", torch.ones(2), torch.tensor([0.5, 0.5]), {"a": a, "b": b})
    torch.testing.assert_close(mixed.output.sigmoid(), (a.output.sigmoid() + b.output.sigmoid()) / 2, atol=1e-5, rtol=0)
    assert class_probabilities("ordinal", mixed.output).sum(1).allclose(torch.ones(ROWS))


@over("task", TASKS)
def test_constant_and_sure_outputs_give_no_nan(task):
    target = truth(task)
    constant = Teacher(torch.zeros(ROWS, 3), torch.zeros_like(model(task, target, 1.0).output), everyone())
    sure = Teacher(torch.ones(ROWS, 3), model(task, target, 1.0).output * 1e4, everyone())
    evidence = weigh(task, constant, {"constant": constant, "sure": sure}, target, everyone())
    assert evidence.shares.isfinite().all()
    assert math.isfinite(evidence.output)
    assert math.isfinite(evidence.structure)
