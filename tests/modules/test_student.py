import subprocess
import sys

import lightning as L
import pytest
import torch

from mtpkdot.data import Batch
from mtpkdot.modules import StudentModule
from mtpkdot.modules.student import WEIGHTS, needs_teachers


@pytest.fixture
def training_student(checkpoints, data, load):
    """A student with its teachers, as it is while training."""

    def make(**changes):
        student = StudentModule(
            task=data.task,
            targets=data.targets,
            modalities=data.modalities,
            prevalent="video",
            encoder=lambda shape: load("backbone.video").backbone.encoder,
            backbone_ckpt=str(checkpoints["backbone.video"]),
            hallucinator_ckpt=str(checkpoints["hallucinator"]),
            teacher_ckpt=str(checkpoints["teacher"]),
            adapted_ckpt=str(checkpoints["adapted"]),
            **{"dim": 16, "feedforward": 16, "top_k": 8, **changes},
        )
        student.setup("fit")
        return student.train()

    return make


def test_the_checkpoint_holds_no_weight_of_a_teacher(checkpoints):
    checkpoint = torch.load(checkpoints["student"], weights_only=True)
    parts = {key.split(".")[0] for key in checkpoint["state_dict"]}
    assert parts == {"backbone", "tnets", "fusion", "head"}


def test_it_predicts_in_a_fresh_process_from_its_checkpoint_alone(checkpoints, tmp_path, batch, load):
    alone = tmp_path / "student.ckpt"
    alone.write_bytes(checkpoints["student"].read_bytes())
    torch.save((batch.inputs["video"], batch.masks["video"]), tmp_path / "video.pt")
    program = (
        "import sys, torch; from mtpkdot.modules import StudentModule;"
        "student = StudentModule.load_from_checkpoint(sys.argv[1]).eval();"
        "torch.save(student(*torch.load(sys.argv[2]))[1].detach(), sys.argv[3])"
    )
    files = [str(alone), str(tmp_path / "video.pt"), str(tmp_path / "out.pt")]
    subprocess.run([sys.executable, "-c", program, *files], check=True, cwd=tmp_path)
    expected = load("student").eval()(batch.inputs["video"], batch.masks["video"])[1]
    torch.testing.assert_close(torch.load(tmp_path / "out.pt"), expected)


def test_it_reads_the_prevalent_modality_only(load, batch):
    student = load("student").eval()
    before = student.outputs(batch)["video"]
    changed = Batch(batch.index, {**batch.inputs}, {**batch.masks}, batch.target, batch.labelled)
    changed.inputs["signal"] = torch.randn_like(batch.inputs["signal"])
    torch.testing.assert_close(student.outputs(changed)["video"], before)


def test_teachers_are_frozen_in_eval_mode_and_in_no_optimiser(training_student, batch):
    student = training_student()
    teachers = student.frozen["teachers"]
    assert not any(module.training for module in teachers.modules())
    before = [p.detach().clone() for p in teachers.parameters()]
    student._trainer = L.Trainer(logger=False, accelerator="cpu", max_epochs=1)
    optimizer = student.configure_optimizers()
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not optimised & {id(p) for p in teachers.parameters()}
    student.losses(batch)["loss"].backward()
    optimizer.step()
    assert all(p.grad is None for p in teachers.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, teachers.parameters(), strict=True))


@pytest.mark.parametrize(("train_tnet", "finetune_encoder"), [(False, False), (True, False), (False, True)])
def test_tnet_and_backbone_move_only_when_asked(training_student, batch, train_tnet, finetune_encoder):
    student = training_student(train_tnet=train_tnet, finetune_encoder=finetune_encoder)
    student.losses(batch)["loss"].backward()
    for part, trained in ((student.tnets, train_tnet), (student.backbone.encoder, finetune_encoder)):
        assert part.training == trained
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters()) == trained


@pytest.mark.parametrize("method", ["none", "pkdot", "mtpkdot"])
def test_the_loss_is_the_weighted_sum_of_the_methods_terms(training_student, batch, method):
    torch.manual_seed(0)
    terms = training_student(method=method, dropout=0.0).losses(batch)
    weights = WEIGHTS[method]
    assert {f"loss_{name}" for name in weights} == {name for name in terms if name.startswith("loss_")}
    total = sum(weight * terms[f"loss_{name}"] for name, weight in weights.items())
    torch.testing.assert_close(terms["loss"], total)


def test_the_structure_has_a_gradient_without_any_label(training_student, batch):
    batch.labelled[:] = False
    batch.target[:] = -1
    terms = training_student().losses(batch)
    assert terms["loss_task"] == 0
    assert terms["teacher_joint"] == 1
    terms["loss"].backward()
    assert torch.isfinite(terms["loss"])


def test_the_teacher_with_the_lowest_loss_on_the_labels_is_chosen(training_student, batch):
    student = training_student()
    adapted = student.frozen["teachers"]
    truth = torch.nn.functional.one_hot(batch.target.clamp_min(0), 4).float() * 20
    original = adapted.spaces

    def one_knows(name):
        def spaces(given):
            found = original(given)
            found[name].output = truth
            return found

        return spaces

    for name in ("video", "signal", "joint"):
        adapted.spaces = one_knows(name)
        assert student.losses(batch)[f"teacher_{name}"] == 1


def test_a_batch_without_the_prevalent_modality_is_finite(training_student, batch):
    batch.masks["video"][:] = False
    student = training_student(finetune_encoder=True, train_tnet=True)
    terms = student.losses(batch)
    terms["loss"].backward()
    assert all(torch.isfinite(value) for value in terms.values())
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)


def test_methods_without_a_structural_weight_need_no_teacher():
    assert not needs_teachers("none", None)
    assert not needs_teachers("none", {"transport": 1.0})
    assert needs_teachers("pkdot", None)
    assert not needs_teachers("pkdot", {"transport": 0.0})
    assert needs_teachers("pkdot", {"transport": 0.0, "output": 1.0})


@pytest.mark.parametrize("term", ["transport", "centroid", "output"])
def test_every_distillation_term_moves_the_student(training_student, batch, term):
    student = training_student(weights={"task": 0.0, "transport": 0.0, "centroid": 0.0, term: 1.0})
    student.losses(batch)["loss"].backward()
    assert sum(p.grad.abs().sum() for p in student.fusion.parameters() if p.grad is not None) > 0
