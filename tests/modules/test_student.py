import copy
import dataclasses
import subprocess
import sys
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mtpkdot.data import Batch, PlantedData, Split
from mtpkdot.errors import RunError
from mtpkdot.losses.rivals import RIVALS, Hints
from mtpkdot.losses.selection import TeacherSelection
from mtpkdot.losses.structure import StructuralTransport
from mtpkdot.models import FeatureEncoder, Fusion, GatedFusion, Hourglass, masked_mean
from mtpkdot.modules import StudentModule
from mtpkdot.modules.declaration import LINKED
from mtpkdot.modules.teaching import METHODS, controls, pooled
from mtpkdot.modules.teaching.start import Start
from mtpkdot.pipeline.callbacks import StepSeed
from tests.modules.conftest import batches

PARTS = {
    GatedFusion: {name: name for name in ("dim", "feedforward", "dropout")},
    StructuralTransport: {name: name for name in ("top_k", "solver", "reach")},
    TeacherSelection: {"rule": "selection", "temperature": "selection_temperature", "margin": "margin"},
}
FOR_CLASSES = [name for name, rival in RIVALS.items() if "classification" in rival.tasks]


@pytest.fixture
def training_student(checkpoints, pooled_checkpoints, data):
    """A student with its teachers, as it is while training; settings of its parts by their names alone."""

    def make(**changes):
        def part(build, **own):
            return partial(
                build,
                **{
                    name: changes.pop(key, own.get(name))
                    for name, key in PARTS[build].items()
                    if key in changes or name in own
                },
            )

        parts = {
            "fusion": part(GatedFusion, dim=16, feedforward=16),
            "structure": part(StructuralTransport, top_k=8),
            "selection": part(TeacherSelection),
        }
        student = StudentModule(
            task=data.task,
            targets=data.targets,
            modalities=data.modalities,
            prevalent="video",
            encoder=partial(FeatureEncoder, dim=16),
            tnet=partial(Hourglass, hidden=[16]),
            backbone_ckpt=str(checkpoints["backbone.video"]),
            hallucinator_ckpt=str(checkpoints["hallucinator"]),
            **{
                "teacher_ckpt": str(checkpoints["teacher"]),
                "adapted_ckpt": str(checkpoints["adapted"]),
                "pool_ckpt": str(pooled_checkpoints["pool"]),
                **parts,
                **changes,
            },
        )
        student.setup("fit")
        return student.train()

    return make


def test_the_checkpoint_holds_no_weight_of_a_teacher(checkpoints):
    checkpoint = torch.load(checkpoints["student"], weights_only=True)
    parts = {key.split(".")[0] for key in checkpoint["state_dict"]}
    assert parts == {"model"}


@pytest.mark.slow
def test_the_student_predicts_in_a_fresh_process_from_its_checkpoint_alone(checkpoints, tmp_path, batch, load):
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


def test_the_student_reads_the_prevalent_modality_only(load, batch):
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
    for part, trained in ((student.model.tnets, train_tnet), (student.model.backbone.encoder, finetune_encoder)):
        assert part.training == trained
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters()) == trained


@pytest.mark.parametrize("method", ["none", "pkdot", "mtpkdot", *FOR_CLASSES])
def test_the_loss_is_the_weighted_sum_of_the_methods_terms(training_student, batch, method):
    torch.manual_seed(0)
    terms = training_student(method=method, dropout=0.0).losses(batch)
    weights = METHODS[method].weights
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
            return {**found, name: dataclasses.replace(found[name], output=truth)}

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


@pytest.mark.parametrize("term", ["transport", "centroid", "output"])
def test_every_distillation_term_moves_the_student(training_student, batch, term):
    student = training_student(weights={"task": 0.0, "transport": 0.0, "centroid": 0.0, term: 1.0})
    student.losses(batch)["loss"].backward()
    assert sum(p.grad.abs().sum() for p in student.model.fusion.parameters() if p.grad is not None) > 0


@pytest.mark.parametrize("world", [2, 4])
def test_a_training_step_sends_what_the_readme_says(training_student, batch, sent, world):
    student = training_student()
    student._trainer = L.Trainer(logger=False, accelerator="cpu", max_epochs=1)
    counted = sent(world)
    student.training_step(batch, 0).backward()
    rows, dim, classes, teachers = world * len(batch), 16, 4, 3
    assert student.model.head.in_features == dim
    forward = 4 * (1 + teachers) * (dim + classes) + 8 * (3 + teachers) + 4 * classes + 16
    assert counted["forward"] == rows * forward + 3 * 8 * world
    assert counted["backward"] == rows * 4 * (dim + 2 * classes)


# methods


OPTIONS = [
    *({"method": method} for method in FOR_CLASSES),
    {"method": "pkdot"},
    {"method": "mtpkdot"},
    {"method": "rival", "rival": Hints},
    {"method": "mtpkdot", "weights": {"rival": 1.0}, "rival": Hints, "weighting": "uncertainty", "queue": 30},
]


def test_every_method_starts_from_the_same_weights_and_random_numbers(training_student):
    def start(**options):
        torch.manual_seed(3)
        return training_student(**options).state_dict(), torch.rand(5)

    expected, after = start(method="none")
    assert {key.split(".")[0] for key in expected} == {"model"}
    for options in OPTIONS:
        found, then = start(**options)
        assert expected.keys() <= found.keys()
        assert all(torch.equal(found[key], value) for key, value in expected.items()), options
        assert torch.equal(then, after), options
        own = {key.split(".")[0] for key in found.keys() - expected.keys()}
        assert own <= {"distillation", "term_weights"}


@pytest.mark.parametrize("method", ["pkdot", "mtpkdot", "kd"])
def test_a_method_whose_terms_all_have_no_weight_needs_no_teacher(training_student, batch, method):
    weights = dict.fromkeys(["transport", "centroid", "rival"], 0.0)
    student = training_student(method=method, weights=weights, teacher_ckpt=None, adapted_ckpt=None)
    assert not student.uses_unlabelled
    assert student.modalities == ["video"]
    terms = student.losses(batch)
    assert terms.keys() == {"loss", "loss_task"}


@pytest.mark.parametrize("method", FOR_CLASSES)
def test_every_rival_moves_the_student_and_learns_its_own_parts(training_student, batch, method):
    student = training_student(method=method, weights={"task": 0.0})
    student._trainer = L.Trainer(logger=False, accelerator="cpu", max_epochs=1)
    optimizer = student.configure_optimizers()
    parts = dict(student.distillation.rival.named_parameters())
    before = {name: p.detach().clone() for name, p in parts.items()}
    terms = student.losses(batch)
    assert terms.keys() == {"loss", "loss_rival", "teacher_joint"}
    terms["loss"].backward()
    assert sum(p.grad.abs().sum() for p in student.model.fusion.parameters() if p.grad is not None) > 0
    assert all(p.grad is None for p in student.frozen.parameters())
    optimizer.step()
    assert all(not torch.equal(parts[name], value) for name, value in before.items() if parts[name].grad.any())
    assert all(p.grad is not None for p in parts.values())
    assert bool(parts) == (method in ("fitnets", "vid", "crd"))


def test_a_user_defined_rival_is_built_to_the_sizes_of_both_features(training_student, batch):
    made = []

    def build(task, student_dim, teacher_dim):
        made.append((task, student_dim, teacher_dim))
        return Hints(task, student_dim, teacher_dim)

    student = training_student(method="rival", rival=build, dim=8, feedforward=8)
    assert made[-1] == ("classification", 8, 16)
    assert float(student.losses(batch)["loss_rival"].detach()) > 0


def test_a_rival_that_is_not_defined_for_the_task_is_refused_before_anything_is_trained(training_student):
    with pytest.raises(ValueError, match="regression, not for classification"):
        training_student(method="m2pkd")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "rival"}, "method rival has no rival"),
        ({"method": "pkdot", "weights": {"rival": 1.0}}, "method pkdot has no rival"),
        ({"queue": -1}, "queue"),
        ({"weights": {"trnasport": 1.0}}, "trnasport.*choose from task, transport"),
        ({"method": "none", "weights": {"rival": 1.0}}, "method none"),
        ({"weighting": "uncertainty", "weights": {"output": -1.0}}, "negative"),
        ({"solver": "pot", "reach": 1.0}, "reach needs the native solver"),
        ({"selection": "soft", "selection_temperature": 0.0}, "temperature"),
        ({"ramp": 0.0}, "ramp"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_loaded(training_student, options, words):
    with pytest.raises(ValueError, match=words):
        training_student(**options, teacher_ckpt=None)


# what is logged


def test_shares_trust_and_learned_weights_are_logged(training_student, batch):
    student = training_student(selection="soft", margin=0.2, weighting="uncertainty")
    terms = {name: float(value.detach()) for name, value in student.losses(batch).items()}
    shares = [terms[f"teacher_{name}"] for name in ("video", "signal", "joint")]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0
    assert 0 <= terms["trust"] <= 1
    assert {name: terms[f"weight_{name}"] for name in METHODS["mtpkdot"].weights} == pytest.approx(
        METHODS["mtpkdot"].weights
    )


def test_the_shares_are_of_the_rows_that_the_teachers_know_best(training_student, batch):
    student = training_student(selection="sample", dropout=0.0)
    found = student.frozen["teachers"].spaces(batch)
    known = batch.labelled
    losses = [
        torch.nn.functional.cross_entropy(x.output[known], batch.target[known], reduction="none")
        for x in found.values()
    ]
    best = torch.stack(losses, dim=1).argmin(dim=1)
    terms = student.losses(batch)
    for index, name in enumerate(found):
        rows = int((best == index).sum()) + (int((~known).sum()) if name == "joint" else 0)
        assert float(terms[f"teacher_{name}"]) == pytest.approx(rows / len(batch))


# training


LEARNING = {
    "method": "mtpkdot",
    "weights": {"rival": 1.0, "output": 0.5},
    "rival": Hints,
    "weighting": "uncertainty",
    "selection": "soft",
    "margin": 1.0,
    "queue": 40,
}
_QUEUE = "distillation.queue."


@pytest.fixture
def few():
    """Data of which a tenth of the training samples has a label."""
    people = {"subjects": 50, "samples_per_subject": 4, "split": Split("kfold", folds=5), "labelled_subjects": 3}
    data = PlantedData(steps=2, batch_size=32, **people)
    data.setup("fit")
    return data


@pytest.fixture
def fit(training_student, data, tmp_path):
    """Train a student; its state at the end, and the folder of its checkpoints."""

    def run(name, epochs=3, resume=None, on=data, **options):
        torch.manual_seed(0)
        folder = tmp_path / name
        student = training_student(**LEARNING | options)
        kept = ModelCheckpoint(folder, "{epoch}", monitor="train/loss", save_top_k=-1)
        weights = ModelCheckpoint(folder, "weights", save_weights_only=True)
        trainer = L.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            limit_train_batches=2,
            limit_val_batches=1,
            logger=False,
            callbacks=[StepSeed(0), weights, kept],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(student, datamodule=copy.copy(on), ckpt_path=resume, weights_only=False)
        return student, folder

    return run


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_training_with_a_queue_ends_in_the_same_bits(fit):
    straight, folder = fit("straight")
    middle = torch.load(folder / "epoch=1.ckpt", weights_only=False)
    assert int(middle["state_dict"][f"{_QUEUE}filled"]) == 40
    assert float(middle["state_dict"][f"{_QUEUE}features_0"].abs().min()) > 0
    resumed, _ = fit("resumed", resume=folder / "epoch=1.ckpt")
    expected, found = straight.state_dict(), resumed.state_dict()
    assert found.keys() == expected.keys()
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
    assert len([key for key in expected if key.startswith(_QUEUE)]) == 5

    # A queue that had been forgotten would have been noticed.
    middle["state_dict"] |= {k: torch.zeros_like(v) for k, v in middle["state_dict"].items() if k.startswith(_QUEUE)}
    torch.save(middle, folder / "forgotten.ckpt")
    forgotten, _ = fit("forgotten", resume=folder / "forgotten.ckpt")
    assert not torch.equal(forgotten.state_dict()["model.head.weight"], expected["model.head.weight"])


def test_the_checkpoint_holds_no_features_of_training_samples_and_loads_without_them(fit, batch):
    student, folder = fit("one", epochs=1)
    whole = torch.load(folder / "epoch=0.ckpt", weights_only=False)
    weights = torch.load(folder / "weights.ckpt", weights_only=False)
    assert "optimizer_states" in whole
    assert "optimizer_states" not in weights
    queue = {key for key in whole["state_dict"] if key.startswith(_QUEUE)}
    assert queue == {f"{_QUEUE}{name}" for name in ("filled", *(f"features_{i}" for i in range(4)))}
    assert whole["state_dict"].keys() - weights["state_dict"].keys() == queue
    expected = student.eval().outputs(batch)["video"]
    for path in (folder / "weights.ckpt", folder / "epoch=0.ckpt"):
        loaded = StudentModule.load_from_checkpoint(path, weights_only=False).eval()
        assert torch.equal(loaded.outputs(batch)["video"], expected)
        filled = int(loaded.distillation.queue.filled)
        assert filled == (0 if path.stem == "weights" else 40)


def test_the_learned_weights_and_the_rivals_parts_are_trained(fit):
    student, folder = fit("two", epochs=2)
    learned = student.term_weights.log_variances.detach()
    assert len(learned) == len(METHODS["mtpkdot"].weights) + 2
    assert float((learned - learned.new_tensor(0.5).log()).abs().min()) > 1e-4
    before, after = torch.load(folder / "epoch=0.ckpt", weights_only=False)["state_dict"], student.state_dict()
    parts = [key for key in after if key.startswith(("distillation.rival.", "term_weights."))]
    assert len(parts) == 3
    assert not any(torch.equal(before[key], after[key]) for key in parts)
    names = {name for name, p in student.named_parameters() if p.requires_grad}
    assert {"term_weights.log_variances", "distillation.rival.regressor.weight"} <= names


def test_validation_and_prediction_leave_the_queue_as_it_is(fit, batch):
    student, _ = fit("one", epochs=1, queue=60)
    before = {name: x.clone() for name, x in student.distillation.queue.past().items()}
    student.eval().losses(batch)
    student.train().outputs(batch)
    after = student.distillation.queue.past()
    assert all(torch.equal(after[name], x) for name, x in before.items())
    student.losses(batch)
    assert not torch.equal(student.distillation.queue.past()["joint"], before["joint"])


@pytest.mark.parametrize("hallucination", ["tnet", "zeros", "none"])
def test_the_replacement_of_the_privileged_feature_is_a_setting(training_student, batch, hallucination):
    student = training_student(hallucination=hallucination, method="none").eval()
    before = student.forward(batch.inputs["video"], batch.masks["video"])[1]
    with torch.no_grad():
        for parameter in student.model.tnets.parameters():
            parameter.normal_()
    after = student.forward(batch.inputs["video"], batch.masks["video"])[1]
    assert torch.equal(before, after) == (hallucination != "tnet")
    assert student.model.fusion.modalities == (["video"] if hallucination == "none" else ["video", "signal"])


def test_the_teachers_of_a_student_are_a_choice(training_student, batch):
    shares = {}
    for teachers in (None, ["joint"], ["signal", "video"]):
        found = training_student(teachers=teachers).losses(batch)
        shares[str(teachers)] = {key for key in found if key.startswith("teacher_")}
    assert shares == {
        "None": {"teacher_video", "teacher_signal", "teacher_joint"},
        "['joint']": {"teacher_joint"},
        "['signal', 'video']": {"teacher_video", "teacher_signal"},
    }


@pytest.mark.parametrize(("method", "teachers"), [("mtpkdot", []), ("mtpkdot", ["audio"]), ("pkdot", ["joint"])])
def test_a_choice_of_teachers_that_cannot_be_made_is_an_error(training_student, method, teachers):
    with pytest.raises(ValueError, match=r"student\.model\.teachers|choice of teachers"):
        training_student(method=method, teachers=teachers)


def prepared(student, data):
    """As a Trainer would call it."""
    teachers = student.frozen["teachers"]
    teachers.look_at(batches(data, "train"))
    if teachers.is_weighed:
        parts = batches(data, "validation"), batches(data, "train")
        student.teaching.use(teachers.weigh_against(student._as_teacher, *parts, learned=True))
    return student


@pytest.mark.parametrize("method", ["mtpkdot_plus", "selftraining", "labelprop"])
def test_methods_that_look_at_the_data_teach_samples_without_labels(training_student, batch, data, method):
    student = prepared(training_student(method=method), data)
    batch.labelled[:] = False
    found = student.losses(batch)
    assert found["loss_task"] == 0
    assert found["loss_output"] > 0
    found["loss"].backward()
    assert student.model.head.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in student.frozen.parameters())


def test_terms_count_as_far_as_the_teachers_are_trusted(training_student, batch, data):
    student = prepared(training_student(method="mtpkdot_plus").eval(), data)
    teachers = student.frozen["teachers"]
    teachers.trust = {"output": 1.0, "transport": 1.0}
    whole = student.losses(batch)
    teachers.trust = {"output": 0.25, "transport": 0.0}
    part = student.losses(batch)
    torch.testing.assert_close(part["loss_output"], 0.25 * whole["loss_output"])
    assert part["loss_transport"] == 0
    assert {"share_joint", "trust_output", "trust_structure"} <= set(part)


POOLED = {"method": "mtpkdot_plus", "weights": None, "rival": None, "weighting": "fixed", "queue": 0}
POOLED |= {"selection": "batch", "margin": None}
NETWORKS = POOLED | {"method": "mtpkdot_plus_2"}


def test_teachers_are_weighed_after_the_warm_up_against_the_student_at_that_time(fit):
    warm, folder = fit("warm", epochs=3, warmup=0.6, **POOLED)
    kept = [torch.load(folder / f"epoch={epoch}.ckpt", weights_only=False) for epoch in range(3)]
    assert ["evidence" in checkpoint for checkpoint in kept] == [False, False, True]
    assert "evidence" not in torch.load(folder / "weights.ckpt", weights_only=False)
    assert warm.teaching.logged
    # Until then nothing but the labels counts.
    alone, other = fit("alone", epochs=3, warmup=0.6, **POOLED | {"weights": {"output": 50.0}})
    for epoch, same in enumerate([True, True, False]):
        state = torch.load(other / f"epoch={epoch}.ckpt", weights_only=False)["state_dict"]
        assert torch.equal(state["model.head.weight"], kept[epoch]["state_dict"]["model.head.weight"]) == same
    assert alone.teaching.logged == warm.teaching.logged


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize(("method", "output"), [("mtpkdot_plus", 1.0), ("selftraining", 0.0), ("selftraining", 1.0)])
def test_a_resumed_training_is_taught_by_the_evidence_that_it_had(fit, monkeypatch, method, output):
    # The resumed training would find the contrary.
    gains, better = iter([2 * output - 1, 1 - 2 * output]), iter([output == 0, output == 1])
    monkeypatch.setattr(pooled, "mean_error", lambda *_: (next(gains), 1e-6))
    monkeypatch.setattr(controls, "likelier", lambda *_, **__: next(better))
    straight, folder = fit("straight", warmup=0.3, **POOLED | {"method": method})
    resumed, _ = fit("resumed", resume=folder / "epoch=1.ckpt", warmup=0.3, **POOLED | {"method": method})
    expected = straight.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in resumed.state_dict().items())
    assert resumed.teaching.logged == straight.teaching.logged
    told = {"mtpkdot_plus": "trust_output", "selftraining": "share_backbone"}
    assert resumed.teaching.logged[told[method]] == output


def test_a_student_is_taught_by_what_it_answered_after_its_warm_up(fit, monkeypatch, data):
    monkeypatch.setattr(controls, "likelier", lambda *_, **__: True)
    own = POOLED | {"method": "selftraining"}
    warm, folder = fit("warm", epochs=3, warmup=0.6, **own)
    kept = [torch.load(folder / f"epoch={epoch}.ckpt", weights_only=False) for epoch in range(3)]
    assert ["evidence" in checkpoint for checkpoint in kept] == [False, False, True]
    assert "evidence" not in torch.load(folder / "weights.ckpt", weights_only=False)
    then = StudentModule.load_from_checkpoint(folder / "epoch=1.ckpt", weights_only=False).eval()
    scales = []
    for part in batches(data, "train"):
        table, output = warm.frozen["teachers"].table[part.index], then.see(part)[1].detach()
        scales.append(float((table * output).sum() / output.square().sum()))  # calibrated and sharpened
        torch.testing.assert_close(table, scales[-1] * output)
    assert scales == pytest.approx([scales[0]] * len(scales), rel=1e-4)
    # Until then nothing but the labels counts.
    _, other = fit("alone", epochs=3, warmup=0.6, **own | {"weights": {"output": 50.0}})
    for epoch, same in enumerate([True, True, False]):
        state = torch.load(other / f"epoch={epoch}.ckpt", weights_only=False)["state_dict"]
        assert torch.equal(state["model.head.weight"], kept[epoch]["state_dict"]["model.head.weight"]) == same


@pytest.mark.parametrize("options", [{"warmup": 0.0}, {"epochs": 1}, {"weights": {"task": 0.0}}])
def test_nobody_is_taught_by_a_student_that_has_learned_nothing(fit, monkeypatch, options):
    monkeypatch.setattr(controls, "likelier", lambda *_, **__: True)
    student, _ = fit("untrained", **POOLED | {"method": "selftraining"} | options)
    assert student.teaching.logged == {"share_backbone": 1.0, "share_student": 0.0}


@pytest.mark.parametrize("method", ["mtpkdot_plus", "selftraining", "labelprop"])
def test_a_method_that_looks_at_its_data_refuses_to_train_without_them(training_student, batch, method):
    student = training_student(**POOLED | {"method": method})
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match=f"{method} looks at its data"):
        trainer.fit(student, [batch], [batch])


@pytest.mark.parametrize("method", ["selftraining", "labelprop"])
def test_every_training_sample_is_taught_where_evaluations_drop_the_last_batch(fit, monkeypatch, method):
    monkeypatch.setattr(controls, "likelier", lambda *_, **__: True)
    short = PlantedData(
        subjects=10,
        samples_per_subject=12,
        steps=2,
        batch_size=25,
        labelled=0.7,
        split=Split("kfold", folds=5),
        drop_last=True,
    )
    short.setup("fit")
    rows = torch.from_numpy(short.positions("train"))
    assert len(rows) % 25
    student, _ = fit("short", on=short, **POOLED | {"method": method})
    assert student.frozen["teachers"].table[rows].abs().sum(dim=1).min() > 0


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize(
    ("weights", "expected"), [(None, 116 / 12), ({"transport": 0.0}, 116 / 12), ({"output": 3.0}, 3.0)]
)
def test_answers_weigh_more_where_few_have_labels_unless_their_weight_is_given(fit, few, weights, expected):
    student, folder = fit("few", on=few, warmup=0.3, **NETWORKS | {"weights": weights})
    assert student.term_weights.weights["output"] == pytest.approx(expected)
    if weights is None:
        assert student.trainer.callback_metrics["train/weight_output"] == pytest.approx(expected)
    resumed, _ = fit("resumed", on=few, resume=folder / "epoch=1.ckpt", warmup=0.3, **NETWORKS | {"weights": weights})
    assert all(torch.equal(value, student.state_dict()[key]) for key, value in resumed.state_dict().items())


def test_a_pool_of_other_data_is_refused_before_the_training(fit, few):
    with pytest.raises(RunError, match="has answered 120 rows, and the data have 200"):
        fit("other", on=few, **POOLED)


def test_with_all_labels_nothing_is_left_to_teach(fit):
    whole = PlantedData(subjects=10, samples_per_subject=12, steps=2, batch_size=32, split=Split("kfold", folds=5))
    whole.setup("fit")
    assert whole.samples.labelled.all()
    plus, _ = fit("plus", on=whole, **POOLED)
    none, _ = fit("none", on=whole, **POOLED | {"method": "none"})
    expected = none.state_dict()
    assert all(torch.equal(plus.state_dict()[key], value) for key, value in expected.items())


@pytest.mark.parametrize("finetune_encoder", [False, True])
def test_a_student_that_is_worse_than_its_start_answers_as_its_start(fit, load, batch, monkeypatch, finetune_encoder):
    beyond = {"val/accuracy": torch.tensor(2.0), "val/macro_f1": torch.tensor(2.0)}
    monkeypatch.setattr(Start, "evaluate", lambda self, *_: vars(self).update(scores=beyond))
    student, folder = fit("worse", epochs=1, **POOLED | {"finetune_encoder": finetune_encoder})
    assert student.teaching.start.is_better
    start = load("backbone.video").eval().outputs(batch)["video"]
    loaded = StudentModule.load_from_checkpoint(folder / "weights.ckpt", weights_only=False).eval()
    torch.testing.assert_close(loaded.outputs(batch)["video"], start)
    seen = batch.inputs["video"], batch.masks["video"]
    for found, expected in zip(loaded(*seen), load("backbone.video").backbone.eval()(*seen), strict=True):
        torch.testing.assert_close(found, expected)
    assert not torch.allclose(student.eval().outputs(batch)["video"], start)
    # What a resumed training goes on from is the student all the same.
    resumed = torch.load(folder / "epoch=0.ckpt", weights_only=False)
    assert "by_backbone" not in resumed["blueprint"]
    assert all(torch.equal(resumed["state_dict"][key], value) for key, value in student.state_dict().items())


def test_the_start_is_evaluated_as_by_its_own_stage(fit, load, data):
    student, _ = fit("start", epochs=1, **POOLED)
    part = data.dataset.__getitems__(data.positions("validation", labelled_only=True).tolist())
    right = load("backbone.video").eval().outputs(part)["video"].argmax(1) == part.target
    assert float(student.teaching.start.scores["val/accuracy"]) == pytest.approx(float(right.float().mean()), abs=1e-6)


@pytest.mark.parametrize("monitor", ["val/accuracy", "val/macro_f1", "train/loss"])
def test_the_start_is_compared_by_what_selects_the_epoch(fit, monitor):
    student, _ = fit("one", epochs=1, **POOLED)
    student.trainer.checkpoint_callback.monitor = monitor
    student.teaching.start.scores = {"val/accuracy": torch.tensor(0.5), "val/macro_f1": torch.tensor(0.5)}
    chosen = monitor if monitor.startswith("val") else "val/accuracy"
    for gain in (0.1, -0.1):
        means = dict.fromkeys(student.teaching.start.scores, torch.tensor(0.5 - gain)) | {
            chosen: torch.tensor(0.5 + gain)
        }
        assert student.selecting(means) is means
        assert student.teaching.start.is_better == (gain < 0)


@pytest.mark.parametrize("options", [{"margin": 0.5}, {"weighting": "uncertainty"}])
def test_settings_that_would_undo_the_trust_are_refused(training_student, options):
    with pytest.raises(ValueError, match="mtpkdot_plus trusts by evidence"):
        training_student(method="mtpkdot_plus", **options)


def test_a_rival_that_is_not_taught_has_a_gradient_of_zero(training_student, batch):
    student = training_student(method="fitnets")
    for mask in (batch.masks["signal"], batch.masks["video"]):
        mask[:] = False
    student.losses(batch)["loss"].backward()
    parts = list(student.distillation.rival.parameters())
    assert parts
    assert all((p.grad == 0).all() for p in parts)


class Joined(Fusion):
    """All pooled features beside each other, so that the size follows from those of the modalities."""

    def __init__(self, dims, per_step=False):
        super().__init__(dims, per_step, sum(dims.values()))

    def forward(self, features, masks):
        pooled = torch.cat([masked_mean(features[name], masks[name]) for name in self.modalities], dim=1)
        present = torch.stack([masks[name].any(dim=1) for name in self.modalities], dim=1).float()
        return pooled, present / present.sum(dim=1, keepdim=True).clamp_min(1)


@pytest.mark.parametrize(("hallucination", "size"), [("tnet", 12 + 7), ("none", 12)])
def test_the_size_of_a_students_feature_is_that_of_its_own_fusion(data, hallucination, size):
    linked = {name: getattr(data, name) for name in LINKED}
    parts = {"encoder": partial(FeatureEncoder, dim=12), "fusion": Joined, "hallucination": hallucination}
    student = StudentModule(**linked, **parts, method="pkdot")
    student.build({"tnets": {"signal": 7}, "spaces": {"joint": 5}})
    feature, output = student(torch.zeros(2, 3, 32), torch.ones(2, 3, dtype=torch.bool))
    assert (feature.shape, output.shape) == ((2, size), (2, student.num_outputs))


class Bent(Hourglass):
    """Weights of the same names and sizes, and another result."""

    def forward(self, feature):
        return super().forward(feature).tanh()


@pytest.mark.parametrize(("tnet", "fits"), [(Hourglass, True), (Bent, False)])
def test_t_nets_of_the_same_weights_and_another_result_are_refused(checkpoints, data, tnet, fits):
    linked = {name: getattr(data, name) for name in LINKED}
    names = {"backbone_ckpt": "backbone.video", "hallucinator_ckpt": "hallucinator"}
    paths = {argument: str(checkpoints[name]) for argument, name in names.items()}
    encoder = partial(FeatureEncoder, dim=16)
    student = StudentModule(**linked, **paths, encoder=encoder, tnet=partial(tnet, hidden=[16]), method="none")
    if fits:
        student.setup("fit")
        return
    with pytest.raises(RunError, match=r"has other T-Nets than hallucinator\.model\.tnet"):
        student.setup("fit")
