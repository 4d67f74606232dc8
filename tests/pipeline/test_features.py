"""Features of frozen encoders: read once per view, equal to what the encoders give, and never those of others."""

import copy
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from mtpkdot.cli.main import main
from mtpkdot.losses import StructuralTransport
from mtpkdot.models import GatedFusion, Hourglass
from mtpkdot.models.encoder import Encoder, FeatureEncoder, Steps
from mtpkdot.modules import BackboneModule, StudentModule, TeacherModule
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.features import FeatureCache, encode
from mtpkdot.pipeline.identity import data_keys, encoder_keys
from tests.data.fake_clips import DIMS, FakeData, reads
from tests.pipeline.processes import run
from tests.plugs import gated, hourglass, transport

CPU = torch.device("cpu")


class Strided(Encoder):
    """Reads every `hop`-th number: a setting without weights. `keep` false makes one step of all."""

    def __init__(self, steps: Steps, dim: int = 6, hop: int = 1, keep: bool = True):
        super().__init__(steps, dim)
        self.hop, self.keep, self.linear = hop, keep, nn.Linear(steps.shape[0], dim)

    def forward(self, x, mask):
        kept = torch.zeros_like(x)
        kept[..., :: self.hop] = x[..., :: self.hop]
        x = self.linear(torch.where(mask.unsqueeze(2), kept, 0.0))
        return (x, mask) if self.keep else (x.mean(dim=1, keepdim=True), mask.any(dim=1, keepdim=True))


class Project:
    """An experiment on fake clips, its folder of runs, and the log of its reads."""

    def __init__(self, folder: Path, epochs: int = 4, **data):
        self.root, self.log = folder / "runs", folder / "reads.txt"
        encoder = {"class_path": "FeatureEncoder", "init_args": {"dim": 6, "dropout": 0.1}}
        fusion = {"model": gated(dim=8, feedforward=8), "fit": {"max_epochs": min(epochs, 2)}}
        config = {
            "data": {
                "class_path": "tests.data.fake_clips.FakeData",
                "init_args": {"log": str(self.log), "batch_size": 16, **data},
            },
            "trainer": {"accelerator": "cpu"},
            "backbone": {name: {"model": {"encoder": encoder}, "fit": {"max_epochs": min(epochs, 2)}} for name in DIMS},
            "teacher": fusion,
            "adapted": {"model": {"bottleneck": 4}, "fit": {"max_epochs": min(epochs, 2)}},
            "hallucinator": {"model": hourglass(hidden=[8]), "fit": {"max_epochs": min(epochs, 2)}},
            "student": {"model": {**fusion["model"], **transport(top_k=5)}, "fit": {"max_epochs": epochs}},
            "pipeline": {"root": str(self.root), "name": "fake", "features": "float32"},
        }
        self.config = folder / "fake.yaml"
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))

    def arguments(self, *overrides):
        return ["--config", str(self.config), *overrides]

    def __call__(self, verb, *overrides, name="fake"):
        reads(self.log)
        run = [str(self.root / name)] if verb != "fit" else self.arguments("--pipeline.name", name, *overrides)
        assert main([verb, *run]) == 0
        return reads(self.log)

    def checkpoint(self, stage, name="fake"):
        entry = json.loads((self.root / name / "run.json").read_text())["stages"][stage]
        return self.root / "stages" / stage / entry["hash"] / "model.ckpt"

    def weights(self, name="fake"):
        return {
            f"{stage}/{key}": value
            for stage in json.loads((self.root / name / "run.json").read_text())["stages"]
            for key, value in torch.load(self.checkpoint(stage, name), weights_only=True)["state_dict"].items()
        }

    def results(self, name="fake"):
        rows = json.loads((self.root / name / "results.json").read_text())
        return {tuple(row[k] for k in ("stage", "modality", "split", "metric", "target")): row["value"] for row in rows}

    def predictions(self, name="fake"):
        return pd.read_parquet(self.root / name / "predictions.parquet")

    def data(self):
        experiment = parse("fit", self.arguments())
        experiment.data.setup("fit")
        return experiment.data


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with two views, and what was read: while backbones were trained, and afterwards."""
    project = Project(tmp_path_factory.mktemp("features"), views=2, absent=0.2)
    before = project("fit", "--pipeline.stages", "[backbone]")
    after = project("fit")
    return SimpleNamespace(project=project, before=before, after=after)


@pytest.fixture(scope="module")
def parts(trained):
    data = trained.project.data()
    return {part: set(data.positions(part).tolist()) for part in ("train", "validation", "test")}


# How often is read


def test_the_test_part_is_read_once_for_the_cache_and_two_samples_of_it_to_try_the_encoder(trained, parts):
    for pairs in trained.before.values():
        read = [pair for pair in pairs if pair[0] in parts["test"]]
        assert set(read) == {(p, 0) for p in parts["test"]}
        assert len(read) == len(parts["test"]) + 2


def test_backbones_are_trained_on_a_new_augmentation_in_every_epoch(trained, parts):
    for pairs in trained.before.values():
        assert {(p, epoch) for p in parts["train"] for epoch in (1, 2)} <= set(pairs)


def test_after_the_backbones_every_other_view_is_read_once_and_nothing_else(trained, parts):
    for pairs in trained.after.values():
        assert sorted(pairs) == [(p, 1) for p in sorted(parts["train"])]


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_a_second_run_reads_nothing(verb, trained):
    results = trained.project.results()
    assert not any(trained.project(verb).values())
    assert trained.project.results() == results


def test_a_stage_that_is_trained_anew_reads_nothing(trained):
    kept = list((trained.project.root / "features").glob("*/[!.]*"))
    assert len(kept) == len(DIMS) * 2
    other = ["--student.model.lr", "0.002", "--pipeline.stages", "[student]"]
    assert not any(trained.project("fit", *other, name="other").values())
    assert list((trained.project.root / "features").glob("*/[!.]*")) == kept


# What is read


def backbone_of(project, modality):
    return BackboneModule.load_from_checkpoint(project.checkpoint(f"backbone.{modality}")).backbone.eval()


def attach(project, module, data, precision="float32"):
    """Attach what a fit would read, from a cache of the test's own."""
    cache = FeatureCache(project.root.with_name(f"features-{precision}"), precision, {}, {})
    cache.attach(module, data, True, CPU)


def student_in_training(project, **changes):
    """A student with its teachers, as the pipeline builds it."""
    checkpoint = torch.load(project.checkpoint("student"), weights_only=False)
    given = {**checkpoint["hyper_parameters"], **changes}
    given = {key: value for key, value in given.items() if not key.startswith("_")}
    student = StudentModule(
        **{
            **given,
            "encoder": lambda steps: FeatureEncoder(steps, dim=6, dropout=0.1),
            "structure": partial(StructuralTransport, top_k=5),
            "fusion": partial(GatedFusion, dim=8, feedforward=8),
            "tnet": partial(Hourglass, hidden=[8]),
            "selection": None,
            "optimizer": None,
            "backbone_ckpt": str(project.checkpoint("backbone.video")),
            "hallucinator_ckpt": str(project.checkpoint("hallucinator")),
            "teacher_ckpt": str(project.checkpoint("teacher")),
            "adapted_ckpt": str(project.checkpoint("adapted")),
        }
    )
    student.setup("fit")
    return student.train()


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("bfloat16", 0.02)])
def test_view_v_of_the_cache_is_what_the_encoder_makes_of_view_v(precision, tolerance, trained):
    project, data = trained.project, trained.project.data()
    attach(project, student_in_training(project), data, precision)
    pairs = [(int(p), v) for v in (0, 1) for p in data.positions("train")]
    batch = data.dataset.__getitems__(pairs)
    assert not batch.inputs
    for name in DIMS:
        clips = data.samples.features[name]
        x = torch.from_numpy(np.stack([clips.view(*pair) for pair in pairs]))
        with torch.no_grad():
            expected, mask = backbone_of(project, name).features(x, batch.masks[name])
        features, steps = batch.encoded[name]
        assert torch.equal(steps, mask)
        assert (features - expected).abs().max() <= tolerance * expected.abs().max()
        assert (features - expected).abs().max() > 0 or precision == "float32"
        first, second = features.flatten(1).split(len(pairs) // 2)
        here = mask.any(dim=1)[: len(first)]
        assert ((first - second).abs().amax(dim=1)[here] > 0.01).all()


def test_encoding_leaves_the_backbone_as_it_is(trained):
    project, data = trained.project, trained.project.data()
    for training in (True, False):
        backbone = backbone_of(project, "video").train(training)
        before = {key: value.clone() for key, value in backbone.state_dict().items()}
        list(encode(backbone, data, "video", np.arange(20), 0, CPU, torch.float32, ""))
        assert all(module.training == training for module in backbone.modules())
        assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_blocks_cover_the_asked_positions_in_any_order(trained):
    project, data = trained.project, trained.project.data()
    asked = np.random.default_rng(0).permutation(50)[:40]
    blocks = list(encode(backbone_of(project, "video"), data, "video", asked, 1, CPU, torch.float32, ""))
    assert np.concatenate([block[0] for block in blocks]).tolist() == asked.tolist()
    assert [len(block[1]) for block in blocks] == [16, 16, 8]


# What a stage sees does not depend on where features come from


def test_results_are_those_without_a_cache(trained):
    project = trained.project
    project("fit", "--pipeline.features", "off", name="off")
    assert project.checkpoint("teacher", "off") != project.checkpoint("teacher")
    for name in DIMS:  # backbones are trained on raw steps: what concerns features does not reach them
        assert project.checkpoint(f"backbone.{name}", "off") == project.checkpoint(f"backbone.{name}")
    ours, theirs = project.weights(), project.weights("off")
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        # Less than one step of Adam, which turns rounding of a vanishing gradient into a difference.
        torch.testing.assert_close(value, theirs[key], rtol=1e-3, atol=2e-4, msg=key)
    without = project.results("off")
    assert project.results() == pytest.approx(without, abs=1e-4)


def training_pairs(data, epoch):
    sampler = data.train_dataloader().batch_sampler.sampler
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("precision", ["float32", "off"])
def test_views_are_those_of_the_data_section_with_and_without_a_cache(precision, trained):
    project, data = trained.project, trained.project.data()
    student = student_in_training(project)
    attach(project, student, data, precision)
    pairs = training_pairs(data, 3)
    assert {view for _, view in pairs} == {0, 1}
    assert training_pairs(data, 3) == pairs != training_pairs(data, 4)
    data.views = 1
    attach(project, student, data, precision)
    assert all(isinstance(position, int) for position in training_pairs(data, 3))


def test_a_stage_without_a_frozen_encoder_sees_a_new_view_in_every_epoch(trained):
    project, data = trained.project, trained.project.data()
    attach(project, student_in_training(project, method="none", weights=None, finetune_encoder=True), data)
    assert {view for _, view in training_pairs(data, 4)} == {5}


def test_an_interrupted_run_sees_the_same_views_and_ends_in_the_same_weights(trained, tmp_path, monkeypatch, capsys):
    project, again = trained.project, tmp_path / "runs"
    student = project.checkpoint("student").parent.relative_to(project.root)
    shutil.copytree(project.root, again)
    shutil.rmtree(again / student)

    def stop(module):
        if module.current_epoch == 2:
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(StudentModule, "on_train_epoch_start", stop)
        with pytest.raises(ZeroDivisionError):
            main(["fit", *project.arguments("--pipeline.root", str(again))])
    assert (again / "stages" / "student" / f".{student.name}.partial" / "last.ckpt").is_file()
    assert not any(project("fit", "--pipeline.root", str(again)).values())
    assert "resumed" in capsys.readouterr().out
    straight, resumed = (torch.load(r / student / "model.ckpt", weights_only=True) for r in (project.root, again))
    for key, value in straight["state_dict"].items():
        assert torch.equal(resumed["state_dict"][key], value), key


# A visual encoder that goes on training


def test_raw_frames_and_features_of_a_fine_tuned_student_come_from_the_same_view(trained):
    project, data = trained.project, trained.project.data()
    student = student_in_training(project, finetune_encoder=True)
    attach(project, student, data)
    loader = data.train_dataloader()
    backbone, views = backbone_of(project, "video"), []
    for batch in loader:
        assert set(batch.inputs) == {"video"}
        assert set(batch.encoded) == set(DIMS)
        with torch.no_grad():
            expected, _ = backbone.features(batch.inputs["video"], batch.masks["video"])
        torch.testing.assert_close(batch.encoded["video"][0], expected, rtol=1e-5, atol=1e-6)
        plain = [data.samples.features["video"].view(int(p), 0) for p in batch.index]
        views += [np.array_equal(x.numpy(), y) for x, y in zip(batch.inputs["video"], plain, strict=True)]
    assert 0 < sum(views) < len(views)


def test_a_fine_tuned_student_is_trained_on_raw_frames_and_evaluated_with_its_new_weights(trained, parts):
    project = trained.project
    tune = ["--student.model.finetune_encoder", "true", "--student.model.lr", "0.01"]
    read = project("fit", *tune, name="tuned")
    assert read["signal"] == []  # the teachers' features come from the cache
    everything = sorted((p, 0) for p in range(60))
    assert sorted(read["video"][-60:]) == everything  # of the new weights, for the evaluation
    in_training = read["video"][:-60]
    assert {p for p, _ in in_training} == parts["train"] | parts["validation"]
    assert sum(p in parts["train"] for p, _ in in_training) == 4 * len(parts["train"])
    tuned = StudentModule.load_from_checkpoint(project.checkpoint("student", "tuned")).eval()
    before, after = backbone_of(project, "video").encoder.state_dict(), tuned.model.backbone.encoder.state_dict()
    assert all(not torch.equal(before[key], after[key]) for key in before if key.endswith("weight"))
    data = project.data()
    index = np.array(sorted(parts["test"]))
    raw = torch.from_numpy(np.stack([data.samples.features["video"].view(p, 0) for p in index]))
    with torch.no_grad():
        expected = tuned(raw, torch.from_numpy(data.samples.masks["video"][index]))[1]
    table = project.predictions("tuned").query("stage == 'student' and split == 'test' and target == 'arousal'")
    assert table["id"].tolist() == data.samples.ids[index].tolist()
    np.testing.assert_allclose(table["prediction"], expected[:, 1], rtol=1e-4, atol=1e-5)
    assert not any(project("test", name="tuned").values())


def test_fine_tuned_teachers_are_not_served_the_features_of_their_backbones(trained):
    project = trained.project
    tune = ["--teacher.model.finetune_encoders", "true", "--pipeline.stages", "[teacher]"]
    read = project("fit", *tune, name="tuned_teacher")
    data = project.data()
    index = data.positions("test")
    table = project.predictions("tuned_teacher").query("stage == 'teacher' and split == 'test' and target == 'valence'")
    module = TeacherModule.load_from_checkpoint(project.checkpoint("teacher", "tuned_teacher")).eval()
    data.attach(None, {})
    with torch.no_grad():
        expected = module.outputs(data.dataset.__getitems__(index.tolist()))["video+signal"]
    np.testing.assert_allclose(table["prediction"], expected[:, 0], rtol=1e-4, atol=1e-5)
    assert read["signal"]


# Keys


def add(parameter):
    with torch.no_grad():
        parameter.view(-1)[0] += 1e-3


@pytest.fixture(scope="module")
def key(trained, tmp_path_factory):
    """Folder of the video features of an untrained backbone, under changed settings, data section or backbone."""
    experiment, root = parse("fit", trained.project.arguments()), tmp_path_factory.mktemp("keys")

    def of(settings=None, change=None, encoder=FeatureEncoder, section=None, **arguments):
        config = copy.deepcopy(experiment.config)
        config["data"]["init_args"] |= arguments
        config |= settings or {}
        section = section or {"class_path": encoder.__name__}
        data = FakeData(**{k: v for k, v in arguments.items() if k != "split"})
        data.setup("fit")
        torch.manual_seed(0)
        linked = {"task": data.task, "targets": data.targets, "modalities": data.modalities, "prevalent": "video"}
        module = BackboneModule("video", encoder, **linked)
        if change is not None:
            change(module.backbone)
        keys = data_keys(replace(experiment, config=config, data=data))
        FeatureCache(root, "float32", keys, {"video": section}).attach(module, data, False, CPU)
        return next(iter(data.dataset._encoded.values())).folders[0]

    return of


def test_only_what_decides_the_features_changes_their_key(key):
    same = [
        key(),
        key({"seed_everything": 1, "protocol": "released"}),
        key(batch_size=7),
        key(views=3),
        key(num_workers=0),
        key(split={"fold": 1}),
        key(log=""),
        key(change=lambda backbone: add(backbone.head.weight)),
        key(change=lambda backbone: backbone.eval().requires_grad_(False)),
        key(change=lambda backbone: backbone.double()),
    ]
    assert len(set(same)) == 1
    others = [
        key(change=lambda backbone: add(next(backbone.encoder.parameters()))),
        key(change=lambda backbone: backbone.normalise.fit(torch.zeros(4), torch.ones(4))),
        key(version="2"),  # contents of the files
        key(noise=2.0),  # how they are read
        key(section={"class_path": "FeatureEncoder", "init_args": {"dropout": 0.3}}),
        key(encoder=Strided),
        key(encoder=lambda steps: Strided(steps, hop=2), section={"class_path": "Strided"}),
    ]
    assert len({same[0], *others}) == len(others) + 1


OWN = ["--backbone.video.model.encoder", "tests.pipeline.test_features.Strided"]


def test_the_users_own_code_counts(trained):
    experiment = parse("fit", trained.project.arguments(*OWN))
    assert "tests/data/fake_clips.py" in data_keys(experiment)["code"]
    own = {name: "tests/pipeline/test_features.py" in keys["code"] for name, keys in encoder_keys(experiment).items()}
    assert own == {name: name == "video" for name in own}


# Damage, precision, steps


def test_a_torn_cache_is_computed_again_and_the_results_stay_the_same(trained, capsys):
    project = trained.project
    results, predictions = project.results(), project.predictions()
    features = sorted((project.root / "features").glob("*/[!.]*/features.npy"))
    for path in features:
        data = bytearray(path.read_bytes())
        data[-1] ^= 64
        path.write_bytes(data)
    read = project("test")
    assert "is damaged and was computed again" in capsys.readouterr().out
    assert all(sorted(pairs) == [(p, 0) for p in range(60)] for pairs in read.values())
    assert project.results() == results
    pd.testing.assert_frame_equal(
        project.predictions().sort_values([*predictions][:5], ignore_index=True),
        predictions.sort_values([*predictions][:5], ignore_index=True),
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_features_can_be_computed_whatever_the_precision_of_the_trainer(dtype, trained):
    data, backbone = trained.project.data(), backbone_of(trained.project, "video")
    where = np.arange(20)
    ((_, expected, _), *_) = encode(backbone, data, "video", where, 0, CPU, torch.float32, "")
    ((_, features, _), *_) = encode(backbone.to(dtype), data, "video", where, 0, CPU, torch.float32, "")
    np.testing.assert_allclose(features, expected, atol=1e-6 if dtype == torch.float64 else 0.05)
    assert all(p.dtype == dtype for p in backbone.encoder.parameters())


def test_an_encoder_that_changes_the_steps_is_refused_before_training(tmp_path, complaint):
    project = Project(tmp_path, steps_have_targets=True)
    line = complaint(["fit", *project.arguments(*OWN, "--backbone.video.model.encoder.keep", "false")])
    assert "backbone.video" in line
    assert "Strided turns 3 steps into 1" in line
    assert not project.root.exists()


@pytest.mark.parametrize(("per_step", "rows"), [(False, 16), (True, 48)])
def test_anchors_are_counted_in_rows(per_step, rows, tmp_path, complaint):
    project = Project(tmp_path, steps_have_targets=per_step)
    line = complaint(["fit", *project.arguments("--student.model.structure.top_k", str(rows))])
    assert f"a batch has {rows} rows" in line


def test_with_one_step_targets_of_steps_are_targets_of_samples(tmp_path):
    found = []
    for name, per_step in (("samples", False), ("steps", True)):
        (tmp_path / name).mkdir()
        project = Project(tmp_path / name, epochs=1, steps=1, steps_have_targets=per_step, absent=0.25)
        project("fit", "--pipeline.stages", "[backbone, teacher]")
        found.append((project.weights(), project.results(), project.predictions()))
    (weights, results, table), (step_weights, step_results, step_table) = found
    assert weights.keys() == step_weights.keys()
    assert [key for key in weights if not torch.equal(weights[key], step_weights[key])] == []
    assert results == step_results
    assert (table["id"] + "/0").tolist() == step_table["id"].tolist()
    pd.testing.assert_frame_equal(table.drop(columns="id"), step_table.drop(columns="id"))


def test_rows_are_evaluated_where_steps_have_targets(tmp_path):
    project = Project(tmp_path, steps_have_targets=True, absent=0.2)
    project("fit", "--pipeline.stages", "[backbone.video]")
    data = project.data()
    rows = json.loads((project.root / "fake" / "results.json").read_text())
    for row in rows:
        assert row["n"] == 3 * len(data.positions(row["split"]))
    table = project.predictions().query("split == 'test' and target == 'valence'")
    assert table["id"].tolist() == [f"{data.samples.ids[p]}/{t}" for p in data.positions("test") for t in range(3)]
    truth, prediction = table["truth"].to_numpy(), table["prediction"].to_numpy()
    ccc = 2 * np.cov(truth, prediction, bias=True)[0, 1]
    ccc /= truth.var() + prediction.var() + (truth.mean() - prediction.mean()) ** 2
    assert project.results()["backbone", "video", "test", "ccc", "valence"] == pytest.approx(ccc, abs=1e-5)


# Shares of several processes


@pytest.fixture(scope="module")
def six_batches(tmp_path_factory) -> Project:
    """An experiment of five batches and a part of one, whose backbones are trained."""
    project = Project(tmp_path_factory.mktemp("shares"), epochs=1, views=2, absent=0.2, batch_size=11)
    project("fit", "--pipeline.stages", "[backbone]")
    shutil.rmtree(project.root / "features", ignore_errors=True)
    return project


def features_of_teacher(
    project: Project, world: int, folder: Path
) -> tuple[dict[str, bytes], dict[str, list[tuple[int, int]]]]:
    """Train a teacher in so many processes; returns the files of the features, and what was read."""
    root = folder / "runs"
    shutil.copytree(project.root / "stages", root / "stages")
    reads(project.log)
    stages = ["--pipeline.stages", "[teacher]", "--pipeline.root", str(root)]
    run(world, ["fit", *project.arguments(*stages)], log=folder / "log")
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.glob("features/**/*") if path.is_file()}
    return files, reads(project.log)


@pytest.mark.parametrize("world", [2, 3])
def test_files_are_the_same_to_the_bit_and_everything_is_read_once(world, six_batches, tmp_path):
    alone, once = features_of_teacher(six_batches, 1, tmp_path / "one")
    shared, shares = features_of_teacher(six_batches, world, tmp_path / "many")
    assert len([name for name in alone if name.endswith("features.npy")]) == 4
    assert shared == alone
    for modality, pairs in once.items():
        assert sorted(shares[modality]) == sorted(pairs)
        assert len(set(pairs)) == len(pairs)


def test_more_processes_than_batches_do_no_harm(six_batches, tmp_path):
    root = tmp_path / "runs"
    # One batch has all: the second process has nothing to do.
    options = ["--data.init_args.batch_size", "60", "--pipeline.stages", "[backbone,teacher]"]
    line = ["fit", *six_batches.arguments(*options, "--pipeline.root", str(root))]
    run(2, line, log=tmp_path / "log")
    shared = {path: path.read_bytes() for path in root.glob("features/*/*/*")}
    shutil.rmtree(root / "features")
    shutil.rmtree(root / "stages" / "teacher")
    run(1, line, log=tmp_path / "log")
    assert {path: path.read_bytes() for path in root.glob("features/*/*/*")} == shared != {}
