"""The hash covers what decides a result, and nothing else."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import yaml

from mtpkdot.cli.main import main
from mtpkdot.modules.teaching import METHODS
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.identity import data_keys
from mtpkdot.pipeline.jobs import make_jobs, wanted_stages
from mtpkdot.pipeline.runner import Run
from tests.data.media_helpers import TEST_LIST, copied, put
from tests.pipeline.processes import run
from tests.plugs import gated, hourglass


@pytest.fixture
def hashes(tiny_config):
    def of(*overrides):
        experiment = parse("fit", ["--config", str(tiny_config), *overrides])
        _, stages = wanted_stages(experiment)
        return {name: job.stored.hash for name, job in make_jobs(experiment, stages).items()}

    return of


ALL = {"backbone.video", "backbone.signal", "teacher", "adapted", "hallucinator", "student"}


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        (["--pipeline.root", "elsewhere", "--pipeline.name", "x", "--data.init_args.num_workers", "3"], set()),
        (["--trainer.accelerator", "auto", "--trainer.log_every_n_steps", "7"], set()),
        (["--student.model.lr", "0.5"], {"student"}),
        (["--student.fit.max_epochs", "9"], {"student"}),
        (["--hallucinator.model.discrepancy", "mmd"], {"hallucinator", "student"}),
        (["--adapted.model.bottleneck", "3"], {"adapted", "student"}),
        (["--teacher.model.fusion.dim", "8"], {"teacher", "adapted", "student"}),
        (["--backbone.signal.model.lr", "0.5"], ALL - {"backbone.video"}),
        (["--student.model.method", "none"], {"student"}),
        (["--seed_everything", "1"], ALL),
        (["--trainer.precision", "bf16-mixed"], ALL),
        (["--trainer.limit_train_batches", "1"], ALL),
        (["--data.init_args.batch_size", "16"], ALL),
        (["--data.init_args.split.fold", "1"], ALL),
        (["--data.init_args.generator_seed", "1"], ALL),
        (["--protocol", "released"], ALL),
        (["--protocol.batch_attention", "true"], {"teacher", "adapted", "student"}),
        (["--protocol.shared_backbone", "true"], ALL),
    ],
)
def test_an_override_changes_the_hash_of_the_stages_it_reaches(overrides, changed, hashes):
    before, after = hashes(), hashes(*overrides)
    assert {name for name in before if before[name] != after[name]} == changed


@pytest.mark.parametrize(("method", "changed"), [("kd", {"student"}), ("mtpkdot", set())])
def test_a_method_that_has_been_revised_is_trained_again(hashes, monkeypatch, method, changed):
    before = hashes(f"--student.model.method={method}")
    monkeypatch.setitem(METHODS, "kd", replace(METHODS["kd"], revision=1))
    after = hashes(f"--student.model.method={method}")
    assert {name for name in before if before[name] != after[name]} == changed


def test_the_hash_follows_the_contents_of_files_and_not_their_place(tiny_config, tmp_path, hashes):
    def write(folder, last):
        folder.mkdir()
        ids = [f"s{i}" for i in range(12)]
        frame = pd.DataFrame(
            {"id": ids, "subject": ids, "split": ["train", "val", "test"] * 4, "y": [0, 0, 0, 1, 1, 1] * 2}
        )
        frame.to_csv(folder / "manifest.csv", index=False)
        for name in ("video", "signal"):
            pd.DataFrame({"id": ids, "x": [*range(11), last]}).to_csv(folder / f"{name}.csv", index=False)
        config = (
            f"class_path: FeatureData\ninit_args:\n  manifest: {folder}/manifest.csv\n  target: y\n  prevalent: video\n"
            f"  features: {{video: {folder}/video.csv, signal: {folder}/signal.csv}}\n"
        )
        (folder / "data.yaml").write_text(config)
        return ["--data", str(folder / "data.yaml")]

    one, same, other = write(tmp_path / "a", 1), write(tmp_path / "b", 1), write(tmp_path / "c", 2)
    assert hashes(*one) == hashes(*same)
    assert not set(hashes(*one).values()) & set(hashes(*other).values())


def test_building_the_stages_leaves_the_settings_of_the_data_plain(biovid_twin, tmp_path):
    config = tmp_path / "own.yaml"
    config.write_text(
        f"data:\n  class_path: BioVid\n  init_args:\n    root: {biovid_twin}\n    store: {tmp_path / 'store'}\n"
        "    prepare_workers: 1\n    pictures: {size: 32}\n    signals: {skin: {columns: [gsr], lowpass: 5}}\n"
        "    split: {scheme: kfold, folds: 2, validation: 0.4}\ntrainer: {accelerator: cpu, precision: 32-true}\n"
        "student: {model: {method: none}}\npipeline: {stages: [backbone.skin]}\n"
    )
    experiment = parse("fit", ["--config", str(config)])
    before = json.dumps(data_keys(experiment))
    made = Run(experiment)
    hashes = {name: job.stored.hash for name, job in made.jobs.items()}
    made._check_modules()
    assert json.dumps(data_keys(experiment)) == json.dumps(made.features.keys) == before
    jobs = make_jobs(experiment, wanted_stages(experiment)[1])
    assert {name: job.stored.hash for name, job in jobs.items()} == hashes
    arguments = experiment.config["data"]["init_args"]["signals"]
    data_keys(experiment)["data.init_args.signals.skin.columns"].append("emg")
    assert arguments["skin"]["columns"] == ["gsr"]


def shrunk(path, class_path, encoders, data, **sections):
    """A config of small encoders, every stage trained for one epoch."""
    config = {
        "data": {"class_path": class_path, "init_args": {"prepare_workers": 1, "batch_size": 4, **data}},
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "backbone": {
            name: {"model": {"encoder": {"class_path": kind, "init_args": arguments}}, "fit": {"max_epochs": 1}}
            for name, (kind, arguments) in encoders.items()
        },
        "pipeline": {"root": str(path / "runs"), "name": "small", "features": "float32"},
        **{name: {"fit": {"max_epochs": 1}, **section} for name, section in sections.items()},
    }
    (path / "small.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return str(path / "small.yaml")


FRAMES = ("FrameEncoder", {"model": "mobilenetv3_small_050", "dim": 8, "temporal_layers": 0})


def test_features_of_nested_settings_are_found_again_by_every_later_command(biovid_twin, tmp_path):
    config = shrunk(
        tmp_path,
        "BioVid",
        {"video": FRAMES, "gsr": ("SignalEncoder", {"channels": [4], "stride": 4, "dim": 8})},
        {
            "root": str(biovid_twin),
            "store": str(tmp_path / "store"),
            "signals": {"gsr": {"columns": ["gsr"], "lowpass": 5.0}},
            "pictures": {"size": 32},
            "frames": 2,
            "split": {"scheme": "kfold", "folds": 2, "validation": 0.4},
        },
        teacher={"model": gated(dim=8, feedforward=8)},
    )
    features = tmp_path / "runs" / "features"
    assert main(["fit", "--config", config, "--pipeline.stages", "[backbone, teacher]"]) == 0
    made = sorted(features.glob("*/[!.]*"))
    assert {path.parent.name for path in made} == {"video", "gsr"}
    for path in made:
        keys = json.loads((path / "record.json").read_text())["keys"]
        assert keys["data"]["data.init_args.signals.gsr.lowpass"] == 5.0
    before = {path: path.stat().st_mtime_ns for path in made}
    shutil.rmtree(tmp_path / "runs" / "stages" / "teacher")
    for argv in (["fit", "--config", config, "--pipeline.stages", "[backbone, teacher]"], ["test"], ["validate"]):
        assert main([*argv, *([str(tmp_path / "runs" / "small")] if len(argv) == 1 else [])]) == 0
        assert {path: path.stat().st_mtime_ns for path in features.glob("*/[!.]*")} == before


def test_a_submission_follows_the_test_list_and_names_what_is_missing(affwild2_twin, tmp_path, capsys):
    root = copied(affwild2_twin, tmp_path / "raw")
    listed = (root / TEST_LIST).read_text().split()[0]
    rows = [f"{listed}/{number:05d}.jpg" for number in (9, 3, 20)]
    put(root / TEST_LIST, "\n".join(["nowhere/00001.jpg", *rows]) + "\n")
    config = shrunk(
        tmp_path,
        "AffWild2",
        {"video": FRAMES, "audio": ("LogMelEncoder", {"model": "mobilenetv3_small_050"})},
        {"root": str(root), "on_error": "skip", "pictures": {"size": 32}, "frames": 2, "clips": 4, "frame_step": 4},
        hallucinator={"model": hourglass(hidden=[8])},
        student={"model": {"method": "none", **gated(dim=8, feedforward=8)}},
    )
    assert main(["fit", "--config", config, "--pipeline.stages", "[backbone, hallucinator, student]"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "nowhere" in line]
    assert "Missing in it, since they cannot be read: nowhere" in told
    table = pd.read_csv(tmp_path / "runs" / "small" / "submission.csv")
    assert table["image_location"].tolist() == rows
    # The same by three processes, where the data have moved and the features are gone.
    moved = root.rename(tmp_path / "moved")
    shutil.rmtree(tmp_path / "runs" / "features")
    (tmp_path / "runs" / "small" / "submission.csv").unlink()
    run(3, ["test", str(tmp_path / "runs" / "small"), "--data.root", str(moved)], log=tmp_path / "log")
    again = pd.read_csv(tmp_path / "runs" / "small" / "submission.csv")
    pd.testing.assert_frame_equal(again, table, rtol=0, atol=1e-6)


def test_a_stage_inherits_nothing_from_an_own_stage_without_that_argument(tiny_config):
    extra = json.dumps({"mixture": {"class_path": "tests.extending.own_stage.Mixture"}})
    words = [f"--pipeline.extra_stages={extra}", "--student.model.hallucinator_ckpt=mixture"]
    experiment = parse("fit", ["--config", str(tiny_config), *words])
    job = make_jobs(experiment, wanted_stages(experiment)[1])["student"]
    assert job.stage.upstream["hallucinator_ckpt"] == "mixture"
    assert "tnet" not in job.sections["model"]
