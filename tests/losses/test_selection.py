import math
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses.selection import TeacherSelection, select_teacher
from mtpkdot.losses.task import row_losses, task_loss
from tests.loops import over
from tests.losses.reference import random

property_test = settings(deadline=None, max_examples=60, derandomize=True)
GARBAGE = torch.iinfo(torch.int64).min


def scalars(**losses):
    return {name: torch.tensor(value) for name, value in losses.items()}


def sure(*p):
    """Outputs that give the class 0, which is the true one, the probability p: each row's loss is -ln p."""
    return torch.stack([torch.tensor(p), 1 - torch.tensor(p)], dim=1).log()


def choose(selection, teachers, own=None, valid=None, labelled=None, task="classification", target=None, **more):
    """The shares of a batch that is seen, labelled and of class 0, where nothing else is said."""
    rows = len(next(iter(teachers.values())))
    everything = torch.ones(rows, dtype=torch.bool)
    valid = everything[:, None].expand(rows, len(teachers)) if valid is None else torch.tensor(valid)
    labelled = everything if labelled is None else torch.tensor(labelled)
    target = torch.zeros(rows, dtype=torch.long).where(labelled, GARBAGE) if target is None else target
    own = sure(*[0.5] * rows) if own is None else own
    return selection(task, own, teachers, valid, target, labelled, **more)


# select_teacher


def test_the_teacher_with_the_lowest_loss_is_selected_wherever_it_is_named():
    for names in permutations(["joint", "video", "audio"]):
        losses = {name: scalars(joint=0.5, video=0.2, audio=0.9)[name] for name in names}
        assert select_teacher(losses, fallback="joint") == "video"


def test_a_tie_goes_to_the_teacher_named_first():
    assert select_teacher(scalars(audio=0.3, video=0.3), fallback="video") == "audio"
    assert select_teacher(scalars(video=0.3, audio=0.3), fallback="audio") == "video"


def test_without_any_loss_the_fallback_is_selected():
    assert select_teacher({}, fallback="joint") == "joint"


def test_a_single_teacher_is_selected_and_not_the_fallback():
    assert select_teacher(scalars(audio=5.0), fallback="joint") == "audio"


def test_a_teacher_whose_loss_is_undefined_is_never_the_best():
    assert select_teacher(scalars(video=math.nan, audio=3.0), fallback="joint") == "audio"
    assert select_teacher(scalars(audio=3.0, video=math.nan), fallback="joint") == "audio"


# batch: one teacher for all rows


def test_a_batch_has_the_teacher_with_the_lowest_mean_loss_on_all_rows_that_it_sees():
    # Mean losses -ln 0.4, -ln 0.2 and -ln 0.9^(1/2) 0.1^(1/2) = -ln 0.3.
    teachers = {"joint": sure(0.2, 0.2), "video": sure(0.4, 0.4), "audio": sure(0.9, 0.1)}
    found = choose(TeacherSelection("batch"), teachers)
    assert found.chosen.tolist() == [[0, 1, 0], [0, 1, 0]]
    assert found.trust.tolist() == [1, 1]


def test_teachers_of_a_batch_are_compared_on_the_labelled_rows_that_all_of_them_see():
    # Everywhere but in row 1 the joint teacher is the best; only there can they be compared.
    teachers = {"joint": sure(0.9, 0.3, 0.9), "video": sure(0.1, 0.4, 0.1)}
    valid, labelled = [[True, False], [True, True], [True, True]], [True, True, False]
    found = choose(TeacherSelection("batch"), teachers, valid=valid, labelled=labelled)
    assert found.chosen.tolist() == [[0, 0], [0, 1], [0, 1]]


def test_a_teacher_that_sees_no_labelled_row_does_not_keep_the_others_from_being_compared():
    teachers = {"joint": sure(0.3, 0.3), "video": sure(0.4, 0.4), "audio": sure(0.9, 0.9)}
    for unseen, labelled in (([False, False], [True, True]), ([False, True], [True, False])):
        valid = [[True, True, seen] for seen in unseen]
        found = choose(TeacherSelection("batch", margin=0.0), teachers, sure(0.5, 0.5), valid, labelled)
        assert found.chosen.tolist() == [[0, 1, 0]] * 2
        assert found.trust.tolist() == [0, 0]


@over("rule", ["batch", "sample", "soft"])
@over("margin", [None, 1.0])
def test_without_any_label_the_fallback_is_followed(rule, margin):
    teachers = {"video": sure(0.9, 0.9), "joint": sure(0.1, 0.1)}
    valid = [[True, True], [True, False]]
    found = choose(TeacherSelection(rule, margin=margin), teachers, valid=valid, labelled=[False, False])
    assert found.chosen.tolist() == [[0, 1], [0, 0]]
    assert found.trust.tolist() == [1, 1]


def test_the_fallback_is_the_users():
    teachers = {"video": sure(0.5), "joint": sure(0.5)}
    for rule in ("batch", "sample", "soft"):
        found = choose(TeacherSelection(rule, fallback="video"), teachers, labelled=[False])
        assert found.chosen.tolist() == [[1, 0]]


@over("rule", ["batch", "sample", "soft"])
def test_the_only_teacher_teaches_all_that_it_sees(rule):
    valid = [[True], [False], [True]]
    found = choose(TeacherSelection(rule), {"joint": sure(0.5, 0.5, 0.01)}, valid=valid)
    assert found.chosen.tolist() == [[1], [0], [1]]
    assert found.trust.tolist() == [1, 1, 1]


# sample: a teacher for each row


def test_each_row_has_the_teacher_with_the_lowest_loss_on_it():
    teachers = {"joint": sure(0.2, 0.6, 0.5), "video": sure(0.4, 0.5, 0.5), "audio": sure(0.3, 0.1, 0.7)}
    found = choose(TeacherSelection("sample"), teachers)
    assert found.chosen.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_a_row_is_never_taught_by_a_teacher_that_does_not_see_it():
    teachers = {"joint": sure(0.2, 0.2, 0.2), "video": sure(0.4, 0.4, 0.4), "audio": sure(0.9, 0.9, 0.9)}
    valid = [[True, True, True], [True, True, False], [False, False, False]]
    assert choose(TeacherSelection("sample"), teachers, valid=valid).chosen.tolist() == [
        [0, 0, 1],
        [0, 1, 0],
        [0, 0, 0],
    ]
    # A softmax at 1: p over their sum.
    soft = choose(TeacherSelection("soft", 1.0), teachers, valid=valid).chosen
    torch.testing.assert_close(soft, torch.tensor([[2 / 15, 4 / 15, 9 / 15], [1 / 3, 2 / 3, 0], [0, 0, 0]]))


def test_a_row_without_label_has_the_fallback_where_that_sees_it():
    teachers = {"joint": sure(0.2, 0.2, 0.2), "video": sure(0.9, 0.9, 0.9)}
    valid, labelled = [[True, True], [True, True], [False, True]], [True, False, False]
    found = choose(TeacherSelection("sample"), teachers, valid=valid, labelled=labelled)
    assert found.chosen.tolist() == [[0, 1], [1, 0], [0, 0]]


# soft: shares of all teachers


@over("temperature", [0.5, 1.0, 2.0])
def test_soft_shares_are_the_softmax_of_the_negative_losses(temperature):
    p = torch.tensor([[0.2, 0.4, 0.9], [0.7, 0.1, 0.1]])
    teachers = {name: sure(*column) for name, column in zip("abc", p.T.tolist(), strict=True)}
    powers = p ** (1 / temperature)  # exp(ln p / T)
    found = choose(TeacherSelection("soft", temperature, fallback="a"), teachers)
    torch.testing.assert_close(found.chosen, powers / powers.sum(dim=1, keepdim=True))
    assert found.trust.tolist() == [1, 1]


def test_rows_without_label_have_the_mean_shares_of_the_others_among_those_that_see_them():
    teachers = {"joint": sure(0.1, 0.3, 0.5, 0.5), "video": sure(0.3, 0.1, 0.5, 0.5), "audio": sure(0.6, 0.2, 0.5, 0.5)}
    valid = [[True] * 3, [True] * 3, [True] * 3, [True, False, True]]
    labelled = [True, True, False, False]
    found = choose(TeacherSelection("soft", 1.0), teachers, valid=valid, labelled=labelled).chosen
    first, second = torch.tensor([0.1, 0.3, 0.6]), torch.tensor([3.0, 1.0, 2.0]) / 6
    mean = (first + second) / 2  # 0.3, 0.2333, 0.4667
    expected = torch.stack([first, second, mean, torch.tensor([0.3, 0, 7 / 15]) / (0.3 + 7 / 15)])
    torch.testing.assert_close(found, expected)


@property_test
@given(st.integers(0, 10_000))
def test_a_cold_softmax_is_the_choice_per_sample_and_a_hot_one_treats_all_alike(seed):
    teachers = {name: 3 * random(6, 4, seed=3 * seed + i) for i, name in enumerate(("joint", "a", "b"))}
    labels = {"target": torch.arange(6) % 4, "own": random(6, 4, seed=1)}
    cold = choose(TeacherSelection("soft", 1e-6), teachers, **labels).chosen
    torch.testing.assert_close(cold, choose(TeacherSelection("sample"), teachers, **labels).chosen, atol=1e-3, rtol=0)
    hot = choose(TeacherSelection("soft", 1e6), teachers, **labels).chosen
    torch.testing.assert_close(hot, torch.full((6, 3), 1 / 3), atol=1e-3, rtol=0)


# what a loss is, by task


def test_ordered_classes_are_compared_by_the_mean_cross_entropy_of_their_thresholds():
    # Level 1 of 3 passes the first threshold and not the second: losses -ln 0.5 and -ln (0.9 0.2)^(1/2).
    even, split = torch.zeros(1, 2), torch.tensor([[0.9, 0.8]]).logit()
    target = torch.tensor([1])
    more = {"task": "ordinal", "target": target, "own": even}
    soft = choose(TeacherSelection("soft", 1.0), {"joint": even, "video": split}, **more).chosen
    shares = torch.tensor([[0.5, math.sqrt(0.18)]])
    torch.testing.assert_close(soft, shares / shares.sum())
    for rule in ("batch", "sample"):
        assert choose(TeacherSelection(rule), {"joint": even, "video": split}, **more).chosen.tolist() == [[1, 0]]
        found = choose(TeacherSelection(rule), {"joint": even, "video": split.abs() * even.new([1, -1])}, **more)
        assert found.chosen.tolist() == [[0, 1]]


def test_values_of_a_row_are_compared_by_their_squared_error_in_the_unit_of_each_target():
    target = torch.zeros(2, 2)
    teachers = {"joint": torch.tensor([[2.0, 0.0], [0.0, 0.0]]), "video": torch.tensor([[0.0, 30.0], [1.0, 0.0]])}
    more = {"task": "regression", "target": target, "own": target}
    unscaled = choose(TeacherSelection("sample"), teachers, **more)
    assert unscaled.chosen.tolist() == [[1, 0], [1, 0]]
    scaled = choose(TeacherSelection("sample"), teachers, **more, scale=torch.tensor([1.0, 30.0]))
    assert scaled.chosen.tolist() == [[0, 1], [1, 0]]
    # Losses of row 0: 4 / 2 and 1 / 2; of row 1: 0 and 1 / 2.
    soft = choose(TeacherSelection("soft", 0.5), teachers, **more, scale=torch.tensor([1.0, 30.0])).chosen
    torch.testing.assert_close(soft[:, 0], torch.tensor([1 / (1 + math.exp(3)), 1 / (1 + math.exp(-1))]))


def test_values_of_a_batch_are_compared_by_their_concordance_and_not_by_their_error():
    target = torch.tensor([[0.0], [1.0], [2.0]])
    # Squared errors 2/3 and 1; CCC 0, and 2 * 2/3 / (2/3 + 2/3 + 1) = 4/7.
    teachers = {"flat": torch.ones(3, 1), "shifted": target + 1}
    more = {"task": "regression", "target": target, "own": torch.zeros(3, 1)}
    found = choose(TeacherSelection("batch", fallback="flat"), teachers, **more)
    assert found.chosen.tolist() == [[0, 1]] * 3
    half = TeacherSelection("batch", margin=8 / 7, fallback="flat")  # the student's CCC is 0: it gains 4/7
    torch.testing.assert_close(choose(half, teachers, **more).trust, torch.full((3,), 0.5))


@over("garbage", [math.nan, math.inf, 1e30])
@over("rule", ["batch", "sample", "soft"])
def test_targets_and_outputs_of_rows_without_label_are_not_read(rule, garbage):
    selection, labelled = TeacherSelection(rule, margin=0.1), [True, True, False, True]
    target, own = random(4, 2, seed=0), random(4, 2, seed=1)
    teachers = {"joint": random(4, 2, seed=2), "video": random(4, 2, seed=3)}
    clean = choose(selection, teachers, own=own, labelled=labelled, task="regression", target=target)
    for values in (target, own, *teachers.values()):
        values[2] = garbage
    dirty = choose(selection, teachers, own=own, labelled=labelled, task="regression", target=target)
    assert torch.equal(clean.chosen, dirty.chosen)
    assert torch.equal(clean.trust, dirty.trust)
    assert 0 < clean.trust.mean() < 1 or rule == "batch"


# the guard


def trusts(rule, margin, teacher, own, **more):
    return choose(TeacherSelection(rule, margin=margin), {"joint": sure(*teacher)}, own=sure(*own), **more).trust


@over("rule", ["sample", "soft"])
def test_the_trust_in_a_row_grows_linearly_from_no_gain_to_the_margin(rule):
    # Gains ln 4, ln 2, 0 and -ln 2.
    gain = ([0.8, 0.8, 0.8, 0.4], [0.2, 0.4, 0.8, 0.8])
    torch.testing.assert_close(trusts(rule, 2 * math.log(2), *gain), torch.tensor([1.0, 0.5, 0.0, 0.0]))
    torch.testing.assert_close(trusts(rule, 4 * math.log(2), *gain), torch.tensor([0.5, 0.25, 0.0, 0.0]))
    assert trusts(rule, 0.0, *gain).tolist() == [1, 1, 0, 0]
    assert trusts(rule, None, *gain).tolist() == [1, 1, 1, 1]


@over("own, gain", [(0.2, 2), (0.4, 1), (0.8, 0), (0.9, -1)])
def test_the_trust_in_a_batch_is_that_of_its_mean_loss(own, gain):
    # The teacher's mean loss is -ln 0.8 over rows of 0.64 and 1.
    for margin, expected in ((2.0, min(max(gain / 2, 0.0), 1.0)), (0.0, float(gain > 0)), (None, 1.0)):
        unit = None if margin is None else margin * math.log(2)
        found = trusts("batch", unit, [0.64, 0.999999], [own, own])
        torch.testing.assert_close(found, torch.full((2,), expected), atol=1e-5, rtol=1e-5)


def test_the_guard_compares_the_teacher_that_was_chosen():
    teachers = {"joint": sure(0.1, 0.1), "video": sure(0.8, 0.8)}
    for rule in ("batch", "sample"):
        found = choose(TeacherSelection(rule, margin=2 * math.log(2)), teachers, own=sure(0.4, 0.4))
        torch.testing.assert_close(found.trust, torch.full((2,), 0.5))


def test_the_guard_compares_soft_shares_by_their_mean_loss():
    # Shares 1/4 and 3/4 of losses -ln 0.2 and -ln 0.6, against -ln 0.1.
    teachers = {"joint": sure(0.2), "video": sure(0.6)}
    gain = -math.log(0.1) + 0.25 * math.log(0.2) + 0.75 * math.log(0.6)
    found = choose(TeacherSelection("soft", 1.0, margin=2.0), teachers, own=sure(0.1))
    torch.testing.assert_close(found.trust, torch.tensor([gain / 2]))


@over("rule", ["sample", "soft"])
def test_rows_without_label_are_trusted_as_the_mean_of_the_others(rule):
    labelled = [True, True, False, True]
    valid = [[True], [True], [True], [False]]
    found = trusts(rule, 2 * math.log(2), [0.8] * 4, [0.2, 0.4, 0.9, 0.9], labelled=labelled, valid=valid)
    torch.testing.assert_close(found[:3], torch.tensor([1.0, 0.5, 0.75]))


@over("rule", ["sample", "soft"])
def test_a_row_that_no_teacher_sees_does_not_decide_how_others_are_trusted(rule):
    valid, labelled = [[True], [False], [True]], [True, True, False]
    found = trusts(rule, 0.0, [0.8, 0.8, 0.8], [0.2, 0.9, 0.5], labelled=labelled, valid=valid)
    assert found[[0, 2]].tolist() == [1, 1]


# losses that are not finite


@over("broken", [math.nan, math.inf])
@over("rule", ["batch", "sample", "soft"])
def test_a_teacher_whose_outputs_are_not_finite_is_not_followed(rule, broken):
    for name in ("joint", "video"):
        teachers = {"joint": sure(0.2, 0.2), "video": sure(0.3, 0.3)}
        teachers[name] = torch.full((2, 2), broken)
        found = choose(TeacherSelection(rule), teachers).chosen
        assert found.tolist() == [[float(name != "joint"), float(name != "video")]] * 2


@over("rule", ["batch", "sample", "soft"])
def test_a_student_whose_outputs_are_not_finite_gives_no_undefined_trust(rule):
    found = choose(TeacherSelection(rule, margin=0.5), {"joint": sure(0.5)}, own=torch.full((1, 2), math.nan))
    assert found.trust.tolist() == [0]


@over("rule", ["batch", "sample", "soft"])
def test_where_all_teachers_are_broken_the_guard_follows_none(rule):
    teachers = {"joint": torch.full((1, 2), math.nan), "video": torch.full((1, 2), math.nan)}
    found = choose(TeacherSelection(rule, margin=0.5), teachers)
    assert found.chosen.tolist() == [[1, 0]]
    assert rule != "batch" or found.trust.tolist() == [0]


# all rules


OUTPUTS = {"classification": 3, "ordinal": 2, "regression": 2}


@property_test
@given(
    st.sampled_from(["batch", "sample", "soft"]),
    st.sampled_from(list(OUTPUTS)),
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from([None, 0.0, 0.3]),
    st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    st.integers(0, 10_000),
)
def test_shares_are_a_distribution_over_the_teachers_that_see_a_row(rule, task, rows, count, margin, missing, seed):
    draw = torch.Generator().manual_seed(seed)
    names = ["joint", *"abc"][:count]
    teachers = {name: 3 * random(rows, OUTPUTS[task], seed=seed + i) for i, name in enumerate(names)}
    own = random(rows, OUTPUTS[task], seed=seed + 10).requires_grad_()
    valid = torch.rand(rows, count, generator=draw) >= missing
    valid[:, 0] = valid.any(dim=1)  # the joint teacher sees what any sees
    labelled = torch.rand(rows, generator=draw) >= missing
    target = random(rows, 2, seed=seed + 11) if task == "regression" else torch.arange(rows) % 3
    selection = TeacherSelection(rule, 0.3, margin)
    found = selection(task, own, teachers, valid, target, labelled)
    assert found.chosen.shape == (rows, count)
    assert not found.chosen.requires_grad
    assert not found.trust.requires_grad
    assert float(found.chosen[~valid].abs().sum()) == 0
    assert float(found.chosen.min()) >= 0
    total = found.chosen.sum(dim=1)
    torch.testing.assert_close(total, total.round())
    taught = valid[:, found.chosen.sum(dim=0).argmax()] if rule == "batch" else valid.any(dim=1)
    assert torch.equal(total.round() == 1, taught)
    assert 0 <= float(found.trust.min()) <= float(found.trust.max()) <= 1
    if rule != "soft":
        assert set(found.chosen.unique().tolist()) <= {0.0, 1.0}

    order = torch.randperm(rows, generator=draw)
    moved = {name: x[order] for name, x in teachers.items()}
    again = selection(task, own[order], moved, valid[order], target[order], labelled[order])
    torch.testing.assert_close(again.chosen, found.chosen[order])
    torch.testing.assert_close(again.trust, found.trust[order], atol=1e-5, rtol=1e-4)


@property_test
@given(st.sampled_from(list(OUTPUTS)), st.integers(2, 9), st.integers(0, 10_000))
def test_no_rule_follows_a_worse_teacher_than_chance_would(task, rows, seed):
    teachers = {name: random(rows, OUTPUTS[task], seed=seed + i) for i, name in enumerate(("joint", "a", "b"))}
    target = random(rows, 2, seed=seed + 11) if task == "regression" else torch.arange(rows) % 3
    everything = torch.ones(rows, dtype=torch.bool)
    each = torch.stack([row_losses(task, x, target, everything) for x in teachers.values()], dim=1)
    whole = torch.stack([task_loss(task, x, target, everything) for x in teachers.values()])
    costs = {}
    for rule in ("batch", "sample", "soft"):
        chosen = TeacherSelection(rule)(
            task, next(iter(teachers.values())), teachers, everything[:, None].expand(rows, 3), target, everything
        ).chosen
        costs[rule] = (chosen * each).sum(dim=1)
        if rule == "batch":
            assert float((chosen[0] * whole).sum()) == float(whole.min())
    assert torch.equal(costs["sample"], each.min(dim=1).values)
    assert (costs["soft"] <= each.mean(dim=1) + 1e-5).all()
    assert (costs["soft"] >= costs["sample"] - 1e-5).all()


def test_double_precision_is_kept():
    teachers = {"joint": sure(0.2).double(), "video": sure(0.4).double()}
    found = choose(TeacherSelection("soft", 1.0, margin=1.0), teachers, own=sure(0.1).double())
    assert found.chosen.dtype == found.trust.dtype == torch.float64
    torch.testing.assert_close(found.chosen, torch.tensor([[1 / 3, 2 / 3]], dtype=torch.float64), atol=1e-7, rtol=1e-7)


@over("setting", [{"temperature": 0.0}, {"temperature": -1.0}, {"margin": -0.1}])
def test_a_setting_out_of_range_is_refused(setting):
    with pytest.raises(ValueError, match="temperature of the selection"):
        TeacherSelection("soft", **setting)
