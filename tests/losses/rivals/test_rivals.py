"""What all rivals owe."""

import pytest
import torch
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from mtpkdot.losses.rivals import RIVALS, Rival, Seen
from tests.loops import over
from tests.losses.reference import random
from tests.losses.rivals.cases import CASES, GARBAGE, OUTPUTS, batch, labels, of_features, rival, seen

READ_OUTPUTS = {"kd", "dkd", "lupi"}
READ_LABELS = {"dkd", "m2pkd"}
LEARNED = {"fitnets", "pkd", "vid", "crd", "m2pkd"}
BLIND_TO_THE_UNIT = ["pkd", "at", "sp", "rkd", "cc", "nst", "m2pkd"]
ZERO_AT_THE_TEACHER = ["kd", "pkd", "at", "sp", "rkd", "cc", "nst", "dkd", "m2pkd"]
every_case = over("name, task", CASES)
# What reads neither outputs nor labels computes the same for every task, as two of the tests say.
CASES_THAT_DIFFER = [
    case for case in CASES if case[0] in READ_OUTPUTS | READ_LABELS or case[1] == RIVALS[case[0]].tasks[0]
]


def gradients(loss, student, module):
    """Of the student's feature and output and of all that is learned; zeros where nothing leads there."""
    inputs = [student.feature, student.output, *module.parameters()]
    found = torch.autograd.grad(loss, inputs, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


def with_labels_that_concord(task, teacher, target, labelled):
    """A teacher whose answers on labelled rows are near the truth, so that weighting by them weighs something."""
    if task != "regression":
        return teacher
    near = target + 0.1 * random(*target.shape, seed=9)
    return Seen(teacher.feature, torch.where(labelled[:, None], near, teacher.output).to(teacher.output.dtype))


def live_batch(task, **settings):
    student, teacher, target, labelled = batch(task, **settings)
    return student, with_labels_that_concord(task, teacher, target, labelled), target, labelled


def test_rivals_are_known_by_their_names_in_the_literature():
    names = ["kd", "fitnets", "pkd", "at", "sp", "rkd", "cc", "nst", "vid", "crd", "dkd", "lupi", "m2pkd"]
    assert list(RIVALS) == names
    assert len(set(RIVALS.values())) == len(names)
    assert all(issubclass(kind, Rival) for kind in RIVALS.values())


@over("name, task", [(n, t) for n in RIVALS for t in OUTPUTS if (n, t) not in CASES])
def test_a_task_that_a_rival_is_not_defined_for_is_refused(name, task):
    with pytest.raises(ValueError, match=f"is defined for .*, not for {task}"):
        rival(name, task)


def test_two_rivals_are_defined_for_one_task_only():
    assert {name: kind.tasks for name, kind in RIVALS.items() if len(kind.tasks) < 3} == {
        "dkd": ("classification",),
        "m2pkd": ("regression",),
    }


@every_case
def test_the_gradient_reaches_what_the_student_is_compared_by_and_all_learned_parts(name, task):
    module, (student, teacher, target, labelled) = rival(name, task), live_batch(task)
    feature, output, *learned = gradients(module(student, teacher, target, labelled), student, module)
    reached, left = (output, feature) if name in READ_OUTPUTS else (feature, output)
    rows = labelled if name == "dkd" else torch.ones_like(labelled)
    assert (reached[rows].abs().amax(dim=1) > 0).all()
    assert torch.equal(left, torch.zeros_like(left))
    assert bool(learned) == (name in LEARNED)
    assert all(float(g.abs().max()) > 0 for g in learned)


@every_case
def test_no_gradient_reaches_the_teacher(name, task):
    module, (student, teacher, target, labelled) = rival(name, task), live_batch(task)
    watched = Seen(teacher.feature.clone().requires_grad_(), teacher.output.clone().requires_grad_())
    module(student, watched, target, labelled).backward()
    assert watched.feature.grad is None
    assert watched.output.grad is None


# kd computes in float32 whatever it is given, for `output_loss` does; its gradient is held against the formula instead.
@over("name, task", [case for case in CASES if case[0] != "kd"])
def test_the_gradient_equals_finite_differences(name, task):
    module = rival(name, task, 4, 3).double()
    student, teacher, target, labelled = live_batch(task, n=5, student_dim=4, teacher_dim=3, dtype=torch.float64)
    learned = dict(module.named_parameters())

    def loss(feature, output, *values):
        arguments = (Seen(feature, output), teacher, target, labelled)
        return functional_call(module, dict(zip(learned, values, strict=True)), arguments)

    assert torch.autograd.gradcheck(loss, (student.feature, student.output, *learned.values()))


@over("name", ZERO_AT_THE_TEACHER)
def test_a_student_that_equals_the_teacher_costs_nothing(name):
    for task in RIVALS[name].tasks:
        module, (student, _, target, labelled) = rival(name, task, 6, 6), batch(task)
        loss = module(
            student, Seen(student.feature.detach().clone(), student.output.detach().clone()), target, labelled
        )
        assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
        assert all(float(g.abs().max()) < 1e-5 for g in gradients(loss, student, module))
        assert float(module(*live_batch(task, teacher_dim=6)).detach()) > 1e-3


@over("scale", [1e-5, 1e-2, 1e5])
@over("name", BLIND_TO_THE_UNIT)
def test_the_unit_of_the_features_does_not_matter(name, scale):
    module, (student, teacher, target, labelled) = (
        rival(name, "regression", 5, 5),
        live_batch("regression", student_dim=5),
    )
    scaled = module(
        Seen(student.feature * scale, student.output), Seen(teacher.feature / scale, teacher.output), target, labelled
    )
    torch.testing.assert_close(scaled, module(student, teacher, target, labelled), rtol=1e-4, atol=1e-6)


@every_case
def test_the_order_of_the_samples_does_not_matter(name, task):
    module, (student, teacher, target, labelled) = rival(name, task), live_batch(task)
    order = torch.tensor([3, 6, 0, 5, 1, 4, 2])
    shuffled = [Seen(x.feature[order], x.output[order]) for x in (student, teacher)]
    loss = module(student, teacher, target, labelled)
    torch.testing.assert_close(module(*shuffled, target[order], labelled[order]), loss, rtol=1e-5, atol=1e-6)


@every_case
def test_the_pairing_of_teacher_and_student_rows_matters(name, task):
    module, (student, teacher, target, labelled) = rival(name, task), live_batch(task)
    order = torch.tensor([2, 1, 4, 5, 6, 0, 3])
    other = Seen(teacher.feature[order], teacher.output)
    if name in READ_OUTPUTS:
        other = Seen(teacher.feature, teacher.output[order])
    loss, mixed = (float(module(student, x, target, labelled).detach()) for x in (teacher, other))
    assert abs(loss - mixed) > 1e-4 * abs(loss)


@every_case
def test_labels_are_read_by_those_that_are_defined_by_them(name, task):
    module, (student, teacher, target, labelled) = rival(name, task), live_batch(task)
    other = target.clone()
    other[0] = 1 if task != "regression" else 10.0
    loss = module(student, teacher, target, labelled)
    assert torch.equal(module(student, teacher, other, labelled), loss) == (name not in READ_LABELS)
    nobody = torch.zeros_like(labelled)
    unlabelled = module(student, teacher, torch.full_like(target, GARBAGE[task]), nobody)
    assert float(unlabelled.detach()) == (0.0 if name in READ_LABELS else float(loss.detach()))
    if name in READ_LABELS:
        assert all(not g.any() for g in gradients(unlabelled, student, module))


@every_case
def test_targets_of_unlabelled_rows_are_never_read(name, task):
    module, (student, teacher, target, labelled) = rival(name, task), live_batch(task)
    clean = target.clone()
    clean[~labelled] = 0
    loss = module(student, teacher, target, labelled)
    assert torch.equal(loss, module(student, teacher, clean, labelled))
    assert all(g.isfinite().all() for g in gradients(loss, student, module))


@every_case
def test_no_sample_costs_nothing_and_teaches_nothing(name, task):
    module, (student, teacher, target, labelled) = rival(name, task), batch(task, n=0)
    loss = module(student, teacher, target, labelled)
    assert float(loss.detach()) == 0.0
    assert loss.dtype == torch.float32
    assert all(not g.any() for g in gradients(loss, student, module))


SHAPES = {
    "zero": lambda x: torch.zeros_like(x),
    "constant": lambda x: torch.full_like(x, 0.3),
    "equal rows": lambda x: x[:1].expand_as(x).clone(),
    "one zero row": lambda x: x * (torch.arange(len(x)) > 0)[:, None],
    "two equal rows": lambda x: torch.cat([x[:1], x[:-1]]),
    "one live column": lambda x: x * (torch.arange(x.shape[1]) == 0),
    "tiny": lambda x: x * 1e-20,
    "sure": lambda x: x * 1e4,
    "random": lambda x: x.clone(),
}


@over("name, task", CASES_THAT_DIFFER)
@over("n", [1, 2, 3, 5])
def test_degenerate_batches_have_a_finite_loss_and_gradient(name, task, n):
    for dim in (5, 6):
        module, (student, teacher, target, labelled) = rival(name, task, 6, dim), batch(task, n=n, teacher_dim=dim)
        for of_student, bend in SHAPES.items():
            for of_teacher, bend_teacher in SHAPES.items():
                bent = Seen(*(bend(x.detach()).requires_grad_() for x in (student.feature, student.output)))
                taught = Seen(bend_teacher(teacher.feature), bend_teacher(teacher.output))
                loss = module(bent, taught, target, labelled)
                assert loss.shape == ()
                assert loss.isfinite(), (of_student, of_teacher)
                assert all(g.isfinite().all() for g in gradients(loss, bent, module)), (of_student, of_teacher)


@every_case
def test_a_degenerate_student_that_equals_its_teacher_has_a_finite_loss_and_gradient(name, task):
    for bend in SHAPES.values():
        module, (student, _, target, labelled) = rival(name, task, 6, 6), batch(task)
        bent = Seen(*(bend(x.detach()).requires_grad_() for x in (student.feature, student.output)))
        loss = module(bent, Seen(bent.feature.detach(), bent.output.detach()), target, labelled)
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in gradients(loss, bent, module))


@over("name", ["sp", "rkd", "crd"])
def test_a_single_sample_has_no_relation_to_others(name):
    module = rival(name)
    loss = module(*of_features(random(1, 6, seed=0), random(1, 5, seed=1)))
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)


@over("dtype", [torch.float16, torch.bfloat16])
@every_case
def test_models_in_half_precision_are_compared_in_single_precision(name, task, dtype):
    module, (student, teacher, target, labelled) = rival(name, task), live_batch(task)
    halved = [Seen(x.feature.detach().to(dtype), x.output.detach().to(dtype)) for x in (student, teacher)]
    widened = [Seen(x.feature.float(), x.output.float()) for x in halved]
    expected = module(*widened, target, labelled)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = module(*halved, target, labelled)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


@every_case
def test_a_rival_kept_in_half_precision_compares_in_single_precision(name, task):
    module, (student, teacher, target, labelled) = rival(name, task).to(torch.bfloat16), live_batch(task)
    loss = module(student, teacher, target, labelled)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, rival(name, task)(student, teacher, target, labelled), rtol=0.1, atol=0.05)


@every_case
def test_double_precision_is_kept(name, task):
    single = rival(name, task)(*live_batch(task))
    double = rival(name, task)(*live_batch(task, dtype=torch.float64))
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-5)


class Waits(TorchDispatchMode):
    """Counts what would make the host wait for a GPU: values asked for, and shapes that depend on values."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aten = torch.ops.aten
        masked = func is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
        values = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal)
        self.count += masked or func.overloadpacket in values
        return func(*args, **(kwargs or {}))


@every_case
def test_the_host_waits_for_no_value_but_where_rows_are_selected(name, task):
    module, (student, teacher, target, labelled) = rival(name, task), live_batch(task)
    with Waits() as waits:
        module(student, teacher, target, labelled).backward()
    # kd's `output_loss` asks which rows are valid; m2pkd measures the labelled rows.
    assert bool(waits.count) == (name in ("kd", "m2pkd"))


@over("name", sorted(LEARNED))
def test_an_optimiser_that_is_given_the_rival_lowers_its_loss(name):
    module, (student, teacher, target, labelled) = rival(name), live_batch("regression")
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    losses = []
    for _ in range(50):
        loss = module(student, teacher, target, labelled)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_the_labels_of_these_tests_leave_a_row_unlabelled():
    for task in OUTPUTS:
        target, labelled = labels(task, 4)
        assert labelled.tolist() == [True, False, True, True]
        assert seen(4, 2, 3, 0).output.shape == (4, 3)
        assert len(target) == 4
