"""Every stage, where targets belong to steps."""

from functools import partial

import pytest
import torch

from mtpkdot.data.batch import Batch
from mtpkdot.losses import task_loss
from mtpkdot.losses.rivals import RIVALS
from mtpkdot.losses.selection import TeacherSelection
from mtpkdot.losses.structure import StructuralTransport
from mtpkdot.modules import AdaptedModule, BackboneModule, HallucinatorModule, StudentModule, TeacherModule
from mtpkdot.modules.teaching import METHODS
from tests.data.fake_clips import DIMS, FakeData

B, T = 8, 3
STUDENTS = {
    **{method: {"method": method} for method in ("none", "pkdot", *RIVALS) if method != "dkd"},
    "sample": {"selection": partial(TeacherSelection, "sample", margin=0.1), "queue": 9, "weights": {"output": 1.0}},
    "soft": {"selection": partial(TeacherSelection, "soft", margin=0.1), "queue": 9, "weighting": "uncertainty"},
}


@pytest.fixture(scope="module")
def data() -> FakeData:
    data = FakeData(n=60, steps=T, steps_have_targets=True, absent=0.3)
    data.setup("fit")
    return data


@pytest.fixture
def batch(data) -> Batch:
    batch = data.dataset.__getitems__(range(B))
    batch.labelled = torch.arange(B * T) % 4 != 0
    return batch


def build(data, folder, students=None):
    """Untrained stages, built on one another, and further students with other settings."""
    made = {}
    common = {
        "task": data.task,
        "targets": data.targets,
        "modalities": data.modalities,
        "prevalent": "video",
        "per_step": data.per_step,
    }

    def add(name, kind, **options):
        torch.manual_seed(len(made))
        module = kind(**common, **options)
        module.setup("fit" if kind is not BackboneModule else "predict")
        made[name] = module.train()
        path = folder / f"{name}.ckpt"
        state = {"state_dict": module.state_dict(), "blueprint": module.blueprint}
        torch.save({**state, "hyper_parameters": common | options, "pytorch-lightning_version": "2.6.6"}, path)
        return str(path)

    backbones = {name: add(name, BackboneModule, modality=name) for name in DIMS}
    teacher = add("teacher", TeacherModule, backbone_ckpts=backbones)
    adapted = add("adapted", AdaptedModule, teacher_ckpt=teacher, bottleneck=4)
    tnets = add("hallucinator", HallucinatorModule, backbone_ckpts=backbones)
    upstream = {"teacher_ckpt": teacher, "adapted_ckpt": adapted, "hallucinator_ckpt": tnets}
    student = {"backbone_ckpt": backbones["video"], "structure": partial(StructuralTransport, top_k=5), **upstream}
    add("student", StudentModule, **student)
    for name, changes in (students or {}).items():
        add(name, StudentModule, **student, **changes)
    return made


@pytest.fixture(scope="module")
def stages(data, tmp_path_factory):
    return build(data, tmp_path_factory.mktemp("stages"), STUDENTS)


def test_with_one_step_every_stage_learns_the_same_as_from_samples(tmp_path):
    found = []
    for per_step in (False, True):
        data = FakeData(steps=1, steps_have_targets=per_step, absent=0.3)
        data.setup("fit")
        (tmp_path / str(per_step)).mkdir()
        for module in build(data, tmp_path / str(per_step)).values():
            torch.manual_seed(0)
            terms = module.losses(data.dataset.__getitems__(range(20)))
            terms["loss"].backward()
            found.append([*terms.values(), *(p.grad for p in module.parameters() if p.grad is not None)])
    samples, steps = found[: len(found) // 2], found[len(found) // 2 :]
    assert len(steps) == 6
    for ours, theirs in zip(samples, steps, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def ours(batch: Batch, **changes) -> Batch:
    """A copy that may be changed."""
    inputs = {name: x.clone() for name, x in batch.inputs.items()}
    masks = {name: x.clone() for name, x in batch.masks.items()}
    labelled = changes.get("labelled", batch.labelled)
    return Batch(batch.index, inputs, masks, batch.target.clone(), labelled, {}, True)


PREDICTING = ["video", "signal", "teacher", "adapted", "student"]


@pytest.mark.parametrize("name", PREDICTING)
def test_every_step_has_an_output_whatever_masked_steps_hold(name, stages, batch):
    module = stages[name].eval()
    before = module.outputs(batch)
    changed = ours(batch)
    for modality, mask in changed.masks.items():
        changed.inputs[modality][~mask] = torch.nan
    for head, output in module.outputs(changed).items():
        assert output.shape == (B * T, 2)
        assert torch.isfinite(output).all()
        torch.testing.assert_close(output, before[head])


@pytest.mark.parametrize("name", [*PREDICTING, "hallucinator", *STUDENTS])
def test_losses_and_gradients_are_finite(name, stages, batch):
    module = stages[name].train()
    module.zero_grad()
    terms = module.losses(batch)
    terms["loss"].backward()
    assert all(torch.isfinite(value) for value in terms.values())
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_every_method_has_the_parts_of_a_student_and_its_own_terms(stages, batch):
    expected = stages["none"].state_dict()
    for name, options in STUDENTS.items():
        student = stages[name].train()
        assert expected.keys() <= student.state_dict().keys()
        terms = {term for term in student.losses(batch) if term.startswith("loss_")}
        weights = METHODS[options.get("method", "mtpkdot")].weights | options.get("weights", {})
        assert terms == {f"loss_{term}" for term in weights}


@pytest.mark.parametrize("name", ["sample", "soft"])
def test_the_queue_holds_rows_of_steps_that_all_teachers_see(name, stages, batch):
    student = stages[name].train()
    rows = int(torch.stack([batch.masks[m].flatten() for m in DIMS]).all(dim=0).sum())
    assert 0 < rows < B * T
    student.distillation.queue.filled.zero_()
    student.losses(batch)
    assert int(student.distillation.queue.filled) == min(rows, 9)


@pytest.mark.parametrize("name", ["video", "teacher"])
def test_the_task_loss_is_that_of_labelled_rows_the_stage_sees(name, stages, batch):
    module = stages[name].eval()
    seen = [batch.masks[m].flatten() for m in (DIMS if name == "teacher" else ["video"])]
    rows = torch.stack(seen).any(dim=0) & batch.labelled
    assert 0 < rows.sum() < batch.labelled.sum() or name == "teacher"
    (output,) = module.outputs(batch).values()
    expected = task_loss("regression", output[rows], batch.target[rows], torch.ones(int(rows.sum()), dtype=torch.bool))
    torch.testing.assert_close(module.losses(batch)["loss"], expected)


def test_the_student_is_distilled_on_the_rows_that_it_and_its_teacher_see(stages, batch):
    student, found = stages["student"].eval(), []
    hook = student.structure.register_forward_hook(lambda _, inputs, __: found.append(inputs))
    student.losses(batch)
    hook.remove()
    (both,) = found
    video, signal = (batch.masks[name].flatten() for name in DIMS)
    assert len(both[0]) == len(both[1])
    assert len(both[0]) in {int(video.sum()), int((video & signal).sum())}
    assert len(both[0]) < B * T


def test_validation_metrics_are_of_labelled_rows(stages, batch):
    module = stages["video"].eval()
    logged = {}
    module.log_dict = lambda values, **_: logged.update(values)
    module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    output, target = module.outputs(batch)["video"].detach()[batch.labelled], batch.target[batch.labelled]
    covariance = ((output - output.mean(dim=0)) * (target - target.mean(dim=0))).mean(dim=0)
    spread = output.var(dim=0, unbiased=False) + target.var(dim=0, unbiased=False)
    ccc = 2 * covariance / (spread + (output.mean(dim=0) - target.mean(dim=0)) ** 2)
    torch.testing.assert_close(logged["val/ccc"], ccc.mean(), rtol=1e-4, atol=1e-5)
