import math

import pytest
import torch

from mtpkdot.losses.distillation import STUDENT, Distillation, Teacher
from mtpkdot.losses.queue import FeatureQueue
from mtpkdot.losses.rivals import Rival, Seen
from mtpkdot.losses.selection import TeacherSelection
from mtpkdot.losses.structure import StructuralTransport
from mtpkdot.losses.task import output_loss, row_losses
from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals import cases

N, DIM, OF_TEACHER = 8, 6, 5
EVERYTHING = torch.ones(N, dtype=torch.bool)
STRUCTURAL = ("transport", "centroid")


def structure(**options):
    return StructuralTransport(3, gather=False, **{"tol": 1e-9, **options})


def distillation(*terms, rule="batch", task="classification", **options):
    selection = TeacherSelection(rule, margin=options.pop("margin", None))
    return Distillation(task, terms, options.pop("structure", structure()), selection, **options)


def live(rows=N, outputs=4, seed=0, dtype=torch.float32):
    """A student, with gradients."""
    feature, output = random(rows, DIM, seed=seed, dtype=dtype), random(rows, outputs, seed=seed + 1, dtype=dtype)
    return Seen(feature.requires_grad_(), output.requires_grad_())


def teacher(seed, rows=N, output=None, valid=None, dtype=torch.float32):
    output = random(rows, 4, seed=seed + 1, dtype=dtype) if output is None else output
    valid = torch.ones(rows, dtype=torch.bool) if valid is None else valid
    return Teacher(random(rows, OF_TEACHER, seed=seed, dtype=dtype), output, valid)


def knowing(*classes, right=6.0):
    """Outputs that are sure of the class of each row."""
    return right * torch.nn.functional.one_hot(torch.tensor(classes), 4).float()


TARGET = torch.arange(N) % 4


def run(module, student, teachers, seen=EVERYTHING, target=TARGET, labelled=EVERYTHING, **more):
    return module(student, teachers, seen, target, labelled, **more)


def gradients(loss, student):
    both = torch.autograd.grad(loss, [student.feature, student.output], allow_unused=True, retain_graph=True)
    return [
        torch.zeros_like(x) if g is None else g for g, x in zip(both, (student.feature, student.output), strict=True)
    ]


def assert_same(found, expected, student, **tolerance):
    torch.testing.assert_close(found, expected, **tolerance)
    for ours, theirs in zip(gradients(found, student), gradients(expected, student), strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


# the papers'


@over("rule", ["batch", "sample", "soft"])
@over("mode", ["rows", "paired"])
def test_one_teacher_gives_the_structural_loss_of_the_batch(rule, mode):
    student, joint, loss = live(), teacher(5), structure(mode=mode)
    module = distillation(*STRUCTURAL, "output", rule=rule, structure=loss, temperature=3.0)
    terms, record = run(module, student, {"joint": joint})
    expected = loss(student.feature, joint.feature)
    assert terms.keys() == {"transport", "centroid", "output"}
    assert_same(terms["transport"], expected.transport, student)
    assert_same(terms["centroid"], expected.centroid, student)
    assert_same(terms["output"], output_loss("classification", student.output, joint.output, EVERYTHING, 3.0), student)
    assert float(terms["transport"].detach()) > 0.01
    assert float(record["teacher_joint"]) == 1
    assert float(record["ot_iterations"]) == expected.iterations
    assert float(record["ot_marginal_error"]) == float(expected.marginal_error)
    assert "trust" not in record


def test_the_chosen_teacher_of_a_batch_is_the_only_one_compared():
    student, video = live(), teacher(7, output=knowing(*TARGET.tolist()))
    teachers = {"video": video, "audio": teacher(9), "joint": teacher(5)}
    terms, record = run(distillation(*STRUCTURAL), student, teachers)
    assert_same(terms["transport"], structure()(student.feature, video.feature).transport, student)
    assert {name: float(record[f"teacher_{name}"]) for name in teachers} == {"video": 1, "audio": 0, "joint": 0}


@over("asked", [("transport",), ("centroid",), ("output",), ("transport", "output"), ()])
def test_only_the_terms_that_are_asked_for_are_there(asked):
    terms, record = run(distillation(*asked), live(), {"joint": teacher(5)})
    assert terms.keys() == set(asked)
    assert ("ot_iterations" in record) == bool({*asked} & {*STRUCTURAL})


# several teachers of one batch


@over("odd", [4, 3, 5])
def test_terms_of_several_teachers_are_weighted_by_their_numbers_of_rows(odd):
    student, mine = live(), torch.arange(N) < odd
    wrong = (TARGET + 1) % 4
    video = teacher(5, output=knowing(*TARGET.where(mine, wrong).tolist()))
    joint = teacher(7, output=knowing(*TARGET.where(~mine, wrong).tolist()))
    module = distillation(*STRUCTURAL, "output", rule="sample")
    terms, record = run(module, student, {"video": video, "joint": joint})
    assert float(record["teacher_video"]) == odd / N
    assert float(record["teacher_joint"]) == 1 - odd / N
    of_video = structure()(student.feature[mine], video.feature[mine])
    of_joint = structure()(student.feature[~mine], joint.feature[~mine])
    for term in STRUCTURAL:
        expected = (odd * getattr(of_video, term) + (N - odd) * getattr(of_joint, term)) / N
        assert_same(terms[term], expected, student)
    outputs = [output_loss("classification", student.output, t.output, r) for t, r in ((video, mine), (joint, ~mine))]
    assert_same(terms["output"], (odd * outputs[0] + (N - odd) * outputs[1]) / N, student)
    errors = of_video.marginal_error, of_joint.marginal_error
    assert float(record["ot_marginal_error"]) == float(max(errors))
    assert float(record["ot_iterations"]) == max(of_video.iterations, of_joint.iterations)


@over("mode", ["rows", "paired"])
def test_soft_shares_weigh_the_rows_of_every_teacher(mode):
    student, loss = live(), structure(mode=mode)
    teachers = {"video": teacher(5), "joint": teacher(7)}
    terms, record = run(distillation(*STRUCTURAL, "output", rule="soft", structure=loss), student, teachers)
    losses = [row_losses("classification", t.output, TARGET, EVERYTHING) for t in teachers.values()]
    shares = (-torch.stack(losses, dim=1) / 0.5).softmax(dim=1)
    assert shares.std() > 0.1
    expected = dict.fromkeys((*STRUCTURAL, "output"), 0.0)
    for index, (name, one) in enumerate(teachers.items()):
        weights = shares[:, index]
        torch.testing.assert_close(record[f"teacher_{name}"], weights.mean())
        solved = loss(student.feature, one.feature, weights)
        for term in STRUCTURAL:
            expected[term] = expected[term] + weights.mean() * getattr(solved, term)
        for row in range(N):
            here = torch.arange(N) == row
            expected["output"] = expected["output"] + weights[row] / N * output_loss(
                "classification", student.output, one.output, here
            )
    for term, value in expected.items():
        assert_same(terms[term], value, student, rtol=1e-4, atol=1e-6)


@over("rule", ["batch", "sample", "soft"])
def test_teachers_that_are_the_same_teach_as_one(rule):
    student, joint = live(), teacher(5)
    alone, _ = run(distillation(*STRUCTURAL, "output", rule=rule), student, {"joint": joint})
    terms, _ = run(distillation(*STRUCTURAL, "output", rule=rule), student, {"video": joint, "joint": joint})
    for term, value in terms.items():
        assert_same(value, alone[term], student, rtol=1e-4, atol=1e-6)


# rows that are not seen


@over("rule", ["batch", "sample", "soft"])
@over("blind", ["student", "teacher"])
def test_rows_that_student_or_teacher_do_not_see_do_not_count_whatever_they_hold(rule, blind):
    seen = torch.arange(N) % 3 != 1
    student, joint = Seen(live().feature, knowing(*TARGET.tolist(), right=-1).requires_grad_()), teacher(5)
    expected, _ = run(
        distillation(*STRUCTURAL, "output", rule=rule, margin=1.0),
        Seen(student.feature[seen], student.output[seen]),
        {"joint": Teacher(joint.feature[seen], joint.output[seen], seen[seen])},
        EVERYTHING[seen],
        TARGET[seen],
        EVERYTHING[seen],
    )
    if blind == "teacher":
        holes = [x.masked_fill(~seen[:, None], math.nan) for x in (joint.feature, joint.output)]
        joint = Teacher(*holes, seen)
    found, _ = run(
        distillation(*STRUCTURAL, "output", rule=rule, margin=1.0),
        student,
        {"joint": joint},
        seen if blind == "student" else EVERYTHING,
    )
    for term, value in found.items():
        assert_same(value, expected[term], student)
        assert all(float(g[~seen].abs().sum()) == 0 for g in gradients(value, student))
        assert float(value.detach()) > 0


@over("rule", ["batch", "sample", "soft"])
@over("margin", [None, 0.0, 0.5])
@over("labelled", [True, False])
def test_all_terms_are_zero_with_zero_gradient_if_no_teacher_sees_anything(rule, margin, labelled):
    student, nobody = live(), torch.zeros(N, dtype=torch.bool)
    teachers = {}
    for name, seed in (("video", 5), ("joint", 7)):
        unseen = torch.full((N, OF_TEACHER), math.nan), torch.full((N, 4), math.nan)
        teachers[name] = Teacher(*unseen, nobody) if seed == 5 else teacher(seed, valid=nobody)
    module = distillation(
        *STRUCTURAL, "output", "rival", rule=rule, margin=margin, rival=cases.rival("fitnets", "classification")
    )
    terms, record = run(module, student, teachers, labelled=EVERYTHING & labelled)
    assert terms.keys() == {*STRUCTURAL, "output", "rival"}
    for value in terms.values():
        assert float(value.detach()) == 0
        value.backward(retain_graph=True)
    assert torch.equal(student.feature.grad, torch.zeros(N, DIM))
    assert torch.equal(student.output.grad, torch.zeros(N, 4))
    assert all(float(value) == 0 for value in record.values())


@over("rule", ["batch", "sample", "soft"])
def test_a_single_row_that_is_seen_has_no_structure_and_a_finite_gradient(rule):
    student = live()
    terms, _ = run(distillation(*STRUCTURAL, "output", rule=rule), student, {"joint": teacher(5)}, torch.arange(N) == 2)
    assert float(terms["transport"].detach()) == float(terms["centroid"].detach()) == 0
    assert float(terms["output"].detach()) > 0
    for value in terms.values():
        assert all(g.isfinite().all() for g in gradients(value, student))


@over("rule", ["batch", "sample", "soft"])
def test_a_batch_without_labels_is_taught_by_the_joint_teacher(rule):
    student, joint = live(), teacher(7)
    nothing = torch.full((N,), -1), ~EVERYTHING
    module = distillation("transport", rule=rule)
    terms, record = run(module, student, {"video": teacher(5), "joint": joint}, EVERYTHING, *nothing)
    assert_same(terms["transport"], structure()(student.feature, joint.feature).transport, student)
    assert float(record["teacher_joint"]) == 1


# the guard


@over("rule", ["batch", "sample", "soft"])
@over("margin", [0.0, 0.5])
def test_a_student_that_knows_more_than_its_teachers_is_left_alone(rule, margin):
    student = Seen(live().feature, knowing(*TARGET.tolist()).requires_grad_())
    module = distillation(
        *STRUCTURAL, "output", "rival", rule=rule, margin=margin, rival=cases.rival("fitnets", "classification")
    )
    terms, record = run(module, student, {"video": teacher(5), "joint": teacher(7)})
    for value in terms.values():
        assert float(value.detach()) == 0
        assert all(float(g.abs().sum()) == 0 for g in gradients(value, student))
    assert float(record["trust"]) == 0
    assert sum(float(record[f"teacher_{name}"]) for name in ("video", "joint")) == pytest.approx(1)


def test_half_the_margin_gives_half_of_the_terms():
    # Every row: the student's loss is -ln 0.4, the teacher's -ln 0.8.
    def of(p):
        return ((torch.nn.functional.one_hot(TARGET, 4) * (p - (1 - p) / 3)) + (1 - p) / 3).log()

    student, joint = Seen(live().feature, of(0.4).requires_grad_()), teacher(5, output=of(0.8))
    whole, _ = run(distillation(*STRUCTURAL, "output"), student, {"joint": joint})
    for rule in ("batch", "sample", "soft"):
        module = distillation(*STRUCTURAL, "output", rule=rule, margin=2 * math.log(2))
        half, record = run(module, student, {"joint": joint})
        assert float(record["trust"]) == pytest.approx(0.5, abs=1e-6)
        for term in whole:
            assert_same(half[term], 0.5 * whole[term], student, rtol=1e-4, atol=1e-6)


def test_the_guard_takes_out_the_rows_on_which_the_student_knows_more():
    rows = torch.arange(N) < 5
    output = knowing(*TARGET.tolist()) * torch.where(rows, -1.0, 1.0)[:, None]
    student, joint = (
        Seen(live().feature, output.requires_grad_()),
        teacher(5, output=knowing(*TARGET.tolist(), right=3)),
    )
    terms, record = run(distillation(*STRUCTURAL, rule="sample", margin=0.0), student, {"joint": joint})
    expected = structure()(student.feature[rows], joint.feature[rows])
    assert_same(terms["transport"], 5 / N * expected.transport, student)
    assert_same(terms["centroid"], 5 / N * expected.centroid, student)
    assert float(record["trust"]) == 5 / N
    assert float(record["teacher_joint"]) == 1


# ordered classes and values


@over("rule", ["batch", "sample", "soft"])
@over("task", ["ordinal", "regression"])
def test_ordered_classes_and_values_are_distilled_as_well(rule, task):
    outputs = cases.OUTPUTS[task]
    target, labelled = cases.labels(task, N)
    scale = torch.tensor([2.0, 0.5]) if task == "regression" else 1.0
    student, joint = live(outputs=outputs), teacher(5, output=random(N, outputs, seed=6))
    module = distillation(*STRUCTURAL, "output", rule=rule, task=task)
    terms, _ = run(module, student, {"joint": joint}, EVERYTHING, target, labelled, scale=scale)
    assert_same(terms["output"], output_loss(task, student.output, joint.output, EVERYTHING, 2.0, scale), student)
    assert_same(terms["transport"], structure()(student.feature, joint.feature).transport, student)


# the queue


def queued(size=5, names=("joint",)):
    return FeatureQueue(size, {STUDENT: DIM} | dict.fromkeys(names, OF_TEACHER))


def test_the_queue_takes_in_the_batches_of_training_alone():
    queue = queued(12)
    module = distillation("transport", queue=queue)
    student, joint = live(), teacher(5)
    module.eval()
    run(module, student, {"joint": joint})
    assert len(queue.past()[STUDENT]) == 0
    module.train()
    run(module, student, {"joint": joint})
    assert torch.equal(queue.past()[STUDENT], student.feature)
    assert torch.equal(queue.past()["joint"], joint.feature)
    second = live(seed=20)
    run(module, second, {"joint": teacher(25)})
    assert torch.equal(queue.past()[STUDENT], torch.cat([student.feature, second.feature])[-12:])
    assert not any(x.requires_grad for x in queue.past().values())


def test_the_queue_holds_the_rows_that_the_student_and_all_teachers_see():
    queue, student = queued(20, ("video", "joint")), live()
    video, joint = teacher(5, valid=torch.arange(N) != 3), teacher(7, valid=torch.arange(N) != 5)
    module = distillation("transport", queue=queue).train()
    run(module, student, {"video": video, "joint": joint}, seen=torch.arange(N) != 0)
    for name, feature in ((STUDENT, student.feature), ("video", video.feature), ("joint", joint.feature)):
        assert torch.equal(queue.past()[name], feature[[1, 2, 4, 6, 7]])


@over("rule", ["batch", "sample", "soft"])
def test_the_structure_of_a_batch_sees_the_past_and_not_itself_twice(rule):
    queue, student, joint = queued(5), live(), teacher(5)
    module = distillation(*STRUCTURAL, rule=rule, queue=queue).train()
    first, _ = run(module, live(seed=20), {"joint": teacher(25)})
    assert float(first["transport"].detach()) > 0
    past = live(seed=20).feature[-5:], teacher(25).feature[-5:]
    terms, _ = run(module, student, {"joint": joint})
    expected = structure()(student.feature, joint.feature, None, past)
    assert_same(terms["transport"], expected.transport, student)
    assert_same(terms["centroid"], expected.centroid, student)
    without = structure()(student.feature, joint.feature).transport
    assert float((terms["transport"] - without).detach().abs()) > 1e-3


def test_every_teacher_is_compared_with_its_own_past():
    names = ("video", "joint")
    queue, student = queued(5, names), live()
    module = distillation("transport", rule="soft", queue=queue).train()
    old = {"video": teacher(25), "joint": teacher(27)}
    run(module, live(seed=20), old)
    new = {"video": teacher(5), "joint": teacher(7)}
    terms, _ = run(module, student, new)
    losses = [row_losses("classification", t.output, TARGET, EVERYTHING) for t in new.values()]
    shares = (-torch.stack(losses, dim=1) / 0.5).softmax(dim=1)
    expected = 0.0
    for index, name in enumerate(names):
        past = live(seed=20).feature[-5:], old[name].feature[-5:]
        weights = shares[:, index]
        expected = expected + weights.mean() * structure()(student.feature, new[name].feature, weights, past).transport
    assert_same(terms["transport"], expected, student, rtol=1e-4, atol=1e-6)


# who learns


def test_teachers_get_no_gradient():
    student, features, outputs = live(), random(N, OF_TEACHER, seed=5).requires_grad_(), live(seed=6).output
    for rule in ("batch", "sample", "soft"):
        rival = cases.rival("kd", "classification")
        module = distillation(*STRUCTURAL, "output", "rival", rule=rule, rival=rival)
        terms, _ = run(module, student, {"joint": Teacher(features, outputs, EVERYTHING)})
        torch.stack(list(terms.values())).sum().backward()
    assert features.grad is None
    assert outputs.grad is None
    assert student.feature.grad.abs().sum() > 0
    assert student.output.grad.abs().sum() > 0


@over("name, task", cases.CASES)
def test_every_rival_is_asked_about_the_rows_that_both_see(name, task):
    outputs, seen = cases.OUTPUTS[task], torch.arange(N) != 6
    target, labelled = cases.labels(task, N)
    student, joint = live(outputs=outputs), teacher(5, output=random(N, outputs, seed=6))
    rival = cases.rival(name, task, DIM, OF_TEACHER)
    module = distillation("rival", task=task, rival=rival)
    terms, record = run(module, student, {"joint": joint}, seen, target, labelled)
    assert terms.keys() == {"rival"}
    assert record.keys() == {"teacher_joint"}
    expected = rival(
        Seen(student.feature[seen], student.output[seen]),
        Seen(joint.feature[seen], joint.output[seen]),
        target[seen],
        labelled[seen],
    )
    assert_same(terms["rival"], expected, student)
    found = gradients(terms["rival"], student)
    assert all(g.isfinite().all() for g in found)
    assert sum(float(g[seen].abs().sum()) for g in found) > 0 or name == "m2pkd"
    assert all(float(g[~seen].abs().sum()) == 0 for g in found)
    terms["rival"].backward()
    assert all(p.grad is not None for p in rival.parameters())
    assert [*module.parameters()] == [*rival.parameters()]


def test_a_rival_and_the_structure_may_teach_together():
    class Pull(Rival):
        """To the teacher's first entry."""

        def forward(self, student, teacher, target, labelled):
            return (student.feature[:, 0] - teacher.feature[:, 0]).square().mean()

    student, joint = live(), teacher(5)
    module = distillation("transport", "rival", rival=Pull("classification", DIM, OF_TEACHER))
    terms, _ = run(module, student, {"joint": joint})
    assert_same(terms["rival"], (student.feature[:, 0] - joint.feature[:, 0]).square().mean(), student)
    assert_same(terms["transport"], structure()(student.feature, joint.feature).transport, student)


# precision


def test_double_precision_is_kept_and_half_is_not():
    student, joint = live(dtype=torch.float64), teacher(5, dtype=torch.float64)
    terms, _ = run(distillation(*STRUCTURAL, "output", rule="soft"), student, {"joint": joint})
    assert {value.dtype for value in terms.values()} == {torch.float64}
    low = Seen(student.feature.bfloat16(), student.output.bfloat16())
    taught = Teacher(joint.feature.bfloat16(), joint.output.bfloat16(), EVERYTHING)
    terms, _ = run(distillation(*STRUCTURAL, "output", rule="soft"), low, {"joint": taught})
    assert {value.dtype for value in terms.values()} == {torch.float32}
