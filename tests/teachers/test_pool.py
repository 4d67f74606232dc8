import pytest
import torch

from mtpkdot.losses.task import Task
from mtpkdot.teachers import GraphTeacher, LinearTeacher, Pool, Rows, Targets
from mtpkdot.teachers.pool import Answers, weigh_members
from tests.teachers.worlds import hidden, parts, two_views

MEMBERS = {"linear": LinearTeacher, "graph": GraphTeacher}
GROUPS = [["face"], ["voice"], ["face", "voice"]]


def answers(output: torch.Tensor) -> Answers:
    return Answers(output, torch.ones(len(output), dtype=torch.bool))


def right(output: torch.Tensor, rows: Rows) -> float:
    return float((output.argmax(dim=1) == rows.target).double().mean())


@pytest.fixture
def held_out() -> Rows:
    return two_views(seed=5)


@pytest.fixture
def knowing(held_out) -> torch.Tensor:
    return 3 * torch.eye(3)[held_out.target] + torch.randn(len(held_out), 3, generator=torch.Generator().manual_seed(0))


def test_a_teacher_that_knows_nothing_gets_nearly_no_share(held_out, knowing):
    noise = torch.randn(len(held_out), 3, generator=torch.Generator().manual_seed(1))
    found = weigh_members("classification", {"knows": answers(knowing), "noise": answers(noise)}, held_out)
    assert found.shares.sum() == pytest.approx(1)
    assert found.shares[0] > 0.95


def test_many_weak_teachers_do_not_drown_a_good_one_with_few_rows(held_out, knowing):
    few = torch.arange(len(held_out)) % 5 == 0
    random = torch.Generator().manual_seed(1)
    weak = {f"weak{i}": answers(torch.randn(int(few.sum()), 3, generator=random)) for i in range(8)}
    found = weigh_members("classification", {"knows": answers(knowing[few]), **weak}, held_out.keep(few))
    assert found.shares[0] > 0.8


def test_copies_of_a_teacher_answer_as_that_teacher(held_out, knowing):
    one = weigh_members("classification", {"a": answers(knowing)}, held_out).combine({"a": answers(knowing)})
    both = {"a": answers(knowing), "b": answers(knowing)}
    two = weigh_members("classification", both, held_out).combine(both)
    assert torch.allclose(one.output.softmax(1), two.output.softmax(1), atol=1e-6)


def test_a_scaled_copy_is_calibrated_first(held_out, knowing):
    both = {"a": answers(knowing), "b": answers(7 * knowing)}
    found = weigh_members("classification", both, held_out)
    assert found.shares.tolist() == pytest.approx([0.5, 0.5], abs=1e-3)


def test_values_of_another_scale_are_calibrated_first():
    random = torch.Generator().manual_seed(0)
    truth = torch.randn(200, 1, generator=random)
    rows = Rows.of({"face": truth}, truth)
    good, bad = truth + 0.3 * torch.randn(200, 1, generator=random), torch.randn(200, 1, generator=random)
    found = weigh_members("regression", {"good": answers(100 * good + 7), "bad": answers(bad)}, rows)
    assert found.shares[0] > 0.95


def test_members_that_do_not_see_a_row_are_left_out_of_it(held_out, knowing):
    both = {"a": answers(knowing), "b": answers(knowing.roll(1, dims=1))}
    found = weigh_members("classification", both, held_out)
    half = torch.arange(len(held_out)) % 2 == 0
    blind = Answers(torch.where(half[:, None], torch.nan, knowing), ~half)
    pooled = found.combine({"a": blind, "b": blind})
    assert pooled.valid.tolist() == (~half).tolist()
    assert pooled.output.isfinite().all()
    alone = found.combine({"a": answers(knowing), "b": blind})
    assert alone.valid.all()
    assert torch.allclose(alone.output[half], (found.final(found.calibrations[0](knowing)))[half])


@pytest.mark.parametrize("labelled", [0, 1])
def test_without_held_out_labels_the_shares_are_equal(held_out, knowing, labelled):
    few = hidden(held_out, 0)
    few.labelled[:labelled] = True
    assert weigh_members("classification", {"a": answers(knowing), "b": answers(-knowing)}, few).shares.tolist() == [
        0.5,
        0.5,
    ]


def test_the_pool_is_better_than_the_weaker_modality_and_as_good_as_the_best():
    rows = two_views(people=24)
    training, held_out = parts(rows, 18)
    training = hidden(training, 4)
    pool = Pool("classification", 3, MEMBERS, GROUPS)
    pool.fit(training, held_out)
    other = two_views(seed=9)
    reached = right(pool.answers(other).output, other)
    members = {name: right(member.output(other), other) for name, member in pool.members.items()}
    assert reached > members["linear.face"] + 0.1
    assert reached > max(members.values()) - 0.02


def test_a_second_round_passes_knowledge_to_the_weaker_modality():
    rows = two_views(people=60)
    training, held_out = parts(rows, 50)
    pool = Pool("classification", 3, {"linear": LinearTeacher}, GROUPS)
    pool.fit(hidden(training, 2), held_out)
    other = two_views(seed=9, people=40)
    first, second = (right(pool.members[name].output(other), other) for name in ("linear.face", "linear.face.2"))
    assert second > first + 0.02


def test_members_that_cannot_learn_from_answers_have_one_round():
    training, held_out = parts(two_views(), 8)
    pool = Pool("classification", 3, MEMBERS, [["face"]], rounds=3)
    pool.fit(training, held_out)
    assert list(pool.members) == ["linear.face", "graph.face", "linear.face.2", "linear.face.3"]


def test_networks_are_members_by_their_answers():
    training, held_out = parts(two_views(), 8)
    knows = {name: answers(9 * torch.eye(3)[part.target]) for name, part in (("t", training), ("h", held_out))}
    pool = Pool("classification", 3, {"linear": LinearTeacher}, [["face"]])
    pool.fit(hidden(training, 2), held_out, {"net": knows["t"]}, {"net": knows["h"]})
    assert right(pool.answers(training, {"net": knows["t"]}).output, training) == 1


def test_labels_of_hidden_rows_do_not_reach_the_pool():
    training, held_out = parts(two_views(), 8)
    some = hidden(training, 3)
    other = Rows(some.values, some.present, torch.where(some.labelled, some.target, 0), some.labelled, some.people)
    outputs = []
    for rows in (some, other):
        pool = Pool("classification", 3, MEMBERS, GROUPS)
        pool.fit(rows, held_out)
        outputs.append(pool.answers(training).output)
    assert torch.equal(*outputs)


@pytest.mark.parametrize("task", ["classification", "ordinal", "regression"])
def test_a_restored_pool_gives_the_same_answers(task: Task):
    rows = two_views()
    if task == "regression":
        rows = Rows.of(rows.values, rows.target[:, None].float(), people=rows.people)
    training, held_out = parts(rows, 8)
    size = {"classification": 3, "ordinal": 2, "regression": 1}[task]
    pool, other = (Pool(task, size, MEMBERS, GROUPS) for _ in range(2))
    pool.fit(hidden(training, 4), held_out)
    other.restore(pool.state())
    assert torch.equal(pool.answers(rows).output, other.answers(rows).output)
    assert torch.equal(pool.sharpened(pool.answers(rows)).output, other.sharpened(other.answers(rows)).output)


def test_a_pool_that_is_not_fitted_says_so(held_out):
    with pytest.raises(RuntimeError, match="not been fitted"):
        Pool("classification", 3, MEMBERS, GROUPS).answers(held_out)


def test_values_to_learn_from_have_the_mean_and_spread_of_the_labels():
    random = torch.Generator().manual_seed(0)
    truth = 2 * torch.randn(400, 1, generator=random) + 5
    x = truth + 4 * torch.randn(400, 1, generator=random)  # predictions shrink towards the mean
    rows = Rows.of({"face": x}, truth, labelled=torch.arange(400) < 200)
    held_out = Rows.of({"face": x[200:]}, truth[200:])
    pool = Pool("regression", 1, {"linear": LinearTeacher}, [["face"]])
    pool.fit(rows, held_out)
    answered = pool.answers(rows)
    taught = pool.sharpened(answered).output[200:]
    assert answered.output.std() < 0.6 * truth.std()
    assert taught.std().item() == pytest.approx(truth[:200].std().item(), rel=0.01)
    assert taught.mean().item() == pytest.approx(truth[:200].mean().item(), abs=0.01)


def test_targets_keep_labels_and_take_answers_elsewhere():
    rows = hidden(two_views(), 1)
    targets = Targets.of_labels("classification", rows, 3)
    valid = rows.people < 5
    taught = targets.with_answers("classification", torch.zeros(len(rows), 3), valid)
    assert torch.equal(taught.columns[rows.labelled], targets.columns[rows.labelled])
    assert torch.allclose(taught.columns[valid & ~rows.labelled], torch.full((), 1 / 3, dtype=torch.float64))
    assert taught.weight.tolist() == valid.double().tolist()
