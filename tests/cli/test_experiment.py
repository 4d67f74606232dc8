"""Whole runs through the real entry point."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mtpkdot.cli.main import main
from tests.conftest import TINY

MODELS = [
    ("backbone", "video"),
    ("backbone", "signal"),
    ("teacher", "video+signal"),
    ("adapted", "video"),
    ("adapted", "signal"),
    ("student", "video"),
]


def call(verb, config, root, *overrides):
    return [*verb.split(), "--config", str(config), "--pipeline.root", str(root), *overrides]


def rows_of(run: Path):
    return json.loads((run / "results.json").read_text())


def test_fit_writes_a_row_for_every_model_part_and_metric(trained_root):
    rows = rows_of(trained_root / "tiny")
    assert set(rows[0]) == {"stage", "modality", "split", "metric", "target", "value", "n"}
    found = {(r["stage"], r["modality"], r["split"], r["metric"]) for r in rows}
    wanted = {(*m, s, metric) for m in MODELS for s in ("validation", "test") for metric in ("accuracy", "macro_f1")}
    assert found == wanted
    assert len(rows) == len(wanted)
    assert all(0 <= r["value"] <= 1 and r["n"] == 24 and r["target"] == "state" for r in rows)


def test_the_predictions_reproduce_the_rows(trained_root):
    table = pd.read_parquet(trained_root / "tiny" / "predictions.parquet")
    classes = [f"p_state{c}" for c in range(4)]
    columns = ["id", "subject", "split", "stage", "target", "truth", "prediction", *classes]
    assert table.columns.tolist() == columns
    assert not table.duplicated(["id", "stage", "target"]).any()
    assert table[classes].sum(axis=1).sub(1).abs().max() < 1e-5
    names = {"backbone": "backbone.{}", "adapted": "adapted.{}", "teacher": "teacher", "student": "student"}
    for row in rows_of(trained_root / "tiny"):
        if row["metric"] == "accuracy":
            stage = names[row["stage"]].format(row["modality"])
            part = table[(table["stage"] == stage) & (table["split"] == row["split"])]
            assert (part["truth"] == part["prediction"]).mean() == pytest.approx(row["value"])
            assert len(part) == row["n"]


def test_the_table_shows_lower_bound_teacher_and_student(trained_root):
    text = (trained_root / "tiny" / "results.md").read_text()
    assert "Protocol: clean" in text
    assert "lower bound" in text
    assert "teacher (video+signal)" in text


def test_a_second_fit_trains_nothing_and_finds_the_same(tiny_config, trained_root, capsys):
    before = rows_of(trained_root / "tiny")
    stages = {path: path.stat().st_mtime_ns for path in (trained_root / "stages").rglob("model.ckpt")}
    assert main(call("fit", tiny_config, trained_root, "--pipeline.name", "again")) == 0
    assert capsys.readouterr().out.count("taken from") == 6
    assert rows_of(trained_root / "again") == before
    assert {path: path.stat().st_mtime_ns for path in (trained_root / "stages").rglob("model.ckpt")} == stages


def test_a_fit_prints_device_parameters_log_and_the_next_step(tiny_config, tmp_path, capsys):
    assert main([*call("stage backbone.signal", tiny_config, tmp_path), "--trainer.precision", "bf16-mixed"]) == 0
    printed = capsys.readouterr().out.splitlines()
    # Processors without bfloat16 have a line of their own.
    lines = [line for line in printed if "is emulated on this device" not in line]
    assert re.fullmatch(rf"device: cpu, \d+ threads?; precision: bf16-mixed; folder: {tmp_path}/tiny", lines[1])
    title, (checkpoint,) = "[1/1] backbone.signal", tmp_path.glob("stages/*/*/model.ckpt")
    size = sum(weights.numel() for weights in torch.load(checkpoint, weights_only=True)["state_dict"].values())
    told = re.fullmatch(rf"{re.escape(title)}: ([\d,]+) parameters, ([\d,]+) trained; log (\S+)", lines[2])
    assert told[1] == told[2]
    assert int(told[1].replace(",", "")) <= size  # which has statistics as well
    assert told[3].endswith("/logs/version_0/metrics.csv")
    assert lines[3].startswith(f"{title}: 2 epochs in ")
    assert lines[3].endswith(f"; kept with its log in {checkpoint.parent}")
    assert lines[-1] == f"Next: `mtpkdot report {tmp_path}/tiny --out reports/tiny` (tables and figures on one page)"


def test_a_stage_folder_holds_stock_config_checkpoint_and_record(trained_root):
    run = json.loads((trained_root / "tiny" / "run.json").read_text())
    for stage, entry in run["stages"].items():
        folder = trained_root / "stages" / stage / entry["hash"]
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert set(config) >= {"seed_everything", "trainer", "model", "data"}
        assert ".partial" not in (folder / "config.yaml").read_text()
        record = json.loads((folder / "stage.json").read_text())
        assert record["hash"] == entry["hash"]
        assert record["keys"] == entry["keys"]
        assert not list(folder.glob("last*.ckpt"))
    assert not [path for path in (trained_root / "stages").rglob("*") if path.name.startswith(".")]


def test_only_what_changed_is_trained_again(tiny_config, trained_root, tmp_path, capsys):
    shutil.copytree(trained_root / "stages", tmp_path / "stages")
    overrides = ["--pipeline.name", "other", "--student.model.lr", "0.01", "--student.model.method", "pkdot"]
    assert main(call("fit", tiny_config, tmp_path, *overrides)) == 0
    printed = capsys.readouterr().out
    assert printed.count("taken from") == 5
    assert "[6/6] student: 2 epochs" in printed


def test_a_named_run_of_another_configuration_stops_and_names_the_key(tiny_config, trained_root, tmp_path, complaint):
    shutil.copytree(trained_root, tmp_path / "runs")
    before = rows_of(tmp_path / "runs" / "tiny")
    line = complaint(call("fit", tiny_config, tmp_path / "runs", "--backbone.signal.model.lr", "0.5"))
    assert "backbone.signal.model.lr was 0.001 and is 0.5" in line
    assert "--pipeline.name" in line
    assert "--pipeline.resume false" in line
    assert "--pipeline.stages" in line
    assert rows_of(tmp_path / "runs" / "tiny") == before


def test_a_new_start_keeps_the_earlier_run_aside(tiny_config, trained_root, tmp_path):
    shutil.copytree(trained_root, tmp_path / "runs")
    before = rows_of(tmp_path / "runs" / "tiny")
    changed = ["--student.model.method", "none", "--pipeline.resume", "false"]
    assert main(call("fit", tiny_config, tmp_path / "runs", *changed)) == 0
    (aside,) = (tmp_path / "runs").glob("tiny.before-*")
    assert rows_of(aside) == before


def test_an_unnamed_run_is_named_after_its_configuration(tiny_config, trained_root, tmp_path):
    shutil.copytree(trained_root / "stages", tmp_path / "stages")
    assert main(call("fit", tiny_config, tmp_path, "--pipeline.name", "null")) == 0
    (run,) = tmp_path.glob("tiny-*")
    assert (run / "results.json").is_file()


def test_validate_and_test_evaluate_a_moved_run_again(trained_root, tmp_path, capsys):
    shutil.copytree(trained_root, tmp_path / "moved")
    run = tmp_path / "moved" / "tiny"
    before, table = rows_of(run), pd.read_parquet(run / "predictions.parquet")
    for verb, part in (("validate", "validation"), ("test", "test")):
        assert main([verb, str(run)]) == 0
        assert part in capsys.readouterr().out
    assert rows_of(run) == before
    again = pd.read_parquet(run / "predictions.parquet")
    key = ["stage", "split", "id"]
    pd.testing.assert_frame_equal(again.sort_values(key, ignore_index=True), table.sort_values(key, ignore_index=True))


def test_one_stage_is_trained_from_its_forerunners(tiny_config, trained_root, tmp_path, complaint, capsys):
    line = complaint(call("stage teacher", tiny_config, tmp_path))
    assert "backbone.video has not been trained" in line
    assert main(call("stage backbone", tiny_config, tmp_path)) == 0
    assert main(call("stage teacher", tiny_config, tmp_path)) == 0
    assert "[1/1] teacher" in capsys.readouterr().out
    assert {r["stage"] for r in rows_of(tmp_path / "tiny")} == {"backbone", "teacher"}


def test_a_stage_called_alone_leaves_the_rows_of_the_others(tiny_config, trained_root, tmp_path):
    shutil.copytree(trained_root, tmp_path / "runs")
    before, table = rows_of(tmp_path / "runs" / "tiny"), pd.read_parquet(tmp_path / "runs/tiny/predictions.parquet")
    assert main(call("stage backbone", tiny_config, tmp_path / "runs")) == 0
    key = ["split", "stage", "modality", "metric"]
    assert sorted(rows_of(tmp_path / "runs" / "tiny"), key=lambda r: [r[k] for k in key]) == sorted(
        before, key=lambda r: [r[k] for k in key]
    )
    assert len(pd.read_parquet(tmp_path / "runs/tiny/predictions.parquet")) == len(table)


def test_a_run_whose_data_have_changed_is_not_evaluated_again(trained_root, tmp_path, complaint):
    shutil.copytree(trained_root, tmp_path / "runs")
    config = tmp_path / "runs" / "tiny" / "config.yaml"
    config.write_text(config.read_text().replace("generator_seed: 0", "generator_seed: 1"))
    assert "data.init_args.generator_seed was 0 and is 1" in complaint(["test", str(tmp_path / "runs" / "tiny")])


def test_the_hallucinator_alone_is_trained_without_a_table(tiny_config, trained_root, tmp_path):
    shutil.copytree(trained_root / "stages", tmp_path / "stages")
    assert main(call("stage hallucinator", tiny_config, tmp_path)) == 0


def test_a_given_teacher_takes_the_place_of_the_stage(tiny_config, trained_root, tmp_path, complaint, capsys):
    (teacher,) = (trained_root / "stages" / "teacher").glob("*/model.ckpt")
    stages = ["--pipeline.stages", "[backbone, hallucinator, student]", "--student.model.method", "pkdot"]
    assert "names nowhere.ckpt" in complaint(
        call("fit", tiny_config, tmp_path, *stages, "--student.model.teacher_ckpt", "nowhere.ckpt")
    )
    assert main(call("fit", tiny_config, tmp_path, *stages, "--student.model.teacher_ckpt", str(teacher))) == 0
    assert not (tmp_path / "stages" / "teacher").exists()


def test_print_config_shows_every_key_and_trains_nothing(tiny_config, tmp_path, capsys):
    assert main(call("fit", tiny_config, tmp_path, "--backbone.video.model.lr", "0.25", "--print_config")) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["backbone"]["video"]["model"]["lr"] == 0.25
    assert shown["student"]["model"]["structure"]["init_args"]["eps"] == 0.01
    assert shown["data"]["init_args"]["nuisance"] == 1.0
    assert not list(tmp_path.iterdir())


def test_another_file_than_a_checkpoint_is_refused(tiny_config, trained_root, tmp_path, complaint):
    (backbone,) = (trained_root / "stages" / "backbone.video").glob("*/model.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    stages = ["--pipeline.stages", "[backbone, hallucinator, student]", "--student.model.method", "pkdot"]
    for path in (backbone, tmp_path / "text.ckpt"):
        given = ["--student.model.teacher_ckpt", str(path), "--pipeline.name", path.stem]
        line = complaint(call("fit", tiny_config, tmp_path / "runs", *stages, *given))
        assert "not a checkpoint of TeacherModule" in line


def test_regression_does_not_depend_on_the_unit_of_its_targets(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 6))
    h = x[:, 0] + 0.3 * random.normal(size=200)
    ids = [f"c{i}" for i in range(200)]
    split = ["train"] * 120 + ["validation"] * 40 + ["test"] * 40
    pd.DataFrame({"id": ids, "split": split, "h": h, "g": 100 + 15 * h}).to_csv(tmp_path / "m.csv", index=False)
    for name in ("a", "b"):
        pd.DataFrame(x).assign(id=ids).to_csv(tmp_path / f"{name}.csv", index=False)
    values = {}
    for target in ("h", "g"):
        files = f"{{a: {tmp_path}/a.csv, b: {tmp_path}/b.csv}}"
        data = ["--data", "FeatureData", "--data.manifest", str(tmp_path / "m.csv"), "--data.features", files]
        data += [
            "--data.target",
            target,
            "--data.prevalent",
            "a",
            "--data.task",
            "regression",
            "--data.subject",
            "null",
        ]
        data += ["--pipeline.root", str(tmp_path / target), "--pipeline.name", "r", "--pipeline.stages", "[backbone]"]
        data += ["--backbone.a.fit.max_epochs", "25", "--backbone.a.model.lr", "0.01"]
        assert main(["fit", *data, "--backbone.b.fit.max_epochs", "1"]) == 0
        values[target] = [row["value"] for row in rows_of(tmp_path / target / "r") if row["modality"] == "a"]
    assert values["g"] == pytest.approx(values["h"], abs=1e-3)
    assert min(values["h"]) > 0.5


@pytest.fixture
def pain_levels(tmp_path):
    """A config of own data with five ordered classes; the signal shows them plainly."""
    random = np.random.default_rng(0)
    n = 240
    pain = random.normal(size=n)
    level = np.digitize(pain, [-0.8, -0.2, 0.4, 1.0])
    ids = [f"c{i}" for i in range(n)]
    table = pd.DataFrame({"id": ids, "subject": np.arange(n) // 12, "level": level}).astype({"level": object})
    table.loc[random.random(n) < 0.2, "level"] = None
    table.to_csv(tmp_path / "manifest.csv", index=False)
    for name, noise in (("video", 0.7), ("signal", 0.2)):
        values = pain[:, None] * random.normal(size=6) + noise * random.normal(size=(n, 6))
        pd.DataFrame(values).assign(id=ids).to_csv(tmp_path / f"{name}.csv", index=False)
    config = {key: value for key, value in TINY.items() if key not in ("data", "pipeline")} | {
        "data": {
            "class_path": "FeatureData",
            "init_args": {
                "manifest": str(tmp_path / "manifest.csv"),
                "features": {name: str(tmp_path / f"{name}.csv") for name in ("video", "signal")},
                "target": "level",
                "task": "ordinal",
                "prevalent": "video",
                "batch_size": 32,
                "split": {"scheme": "kfold", "folds": 5},
            },
        },
        "pipeline": {"name": "levels"},
    }
    path = tmp_path / "levels.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def test_ordered_classes_are_learnt_and_scored_by_their_distance(pain_levels, tmp_path):
    overrides = ["--student.fit.monitor", "val/mae", "--student.fit.max_epochs", "4", "--student.model.lr", "0.01"]
    overrides += ["--backbone.signal.fit.max_epochs", "6", "--backbone.signal.model.lr", "0.03"]
    overrides += ["--student.model.weights", "{output: 1.0}"]
    assert main(call("fit", pain_levels, tmp_path / "runs", *overrides)) == 0
    run = tmp_path / "runs" / "levels"
    rows = rows_of(run)
    found = {(r["stage"], r["modality"], r["split"], r["metric"]) for r in rows}
    assert found == {(*m, s, v) for m in MODELS for s in ("validation", "test") for v in ("qwk", "accuracy", "mae")}
    value = {(r["stage"], r["modality"], r["split"], r["metric"]): r["value"] for r in rows}
    assert value["backbone", "signal", "test", "qwk"] > 0.7
    assert value["backbone", "signal", "test", "mae"] < 0.7

    table = pd.read_parquet(run / "predictions.parquet")
    classes = [f"p_{level}" for level in range(5)]
    assert table[classes].sum(axis=1).sub(1).abs().max() < 1e-5
    part = table[(table["stage"] == "student") & (table["split"] == "test") & table["truth"].notna()]
    off = part["truth"].astype(int) - part["prediction"].astype(int)
    assert off.abs().mean() == pytest.approx(value["student", "video", "test", "mae"])

    # The epoch of the lowest error is kept, not that of the highest.
    (logs,) = (tmp_path / "runs" / "stages" / "student").rglob("metrics.csv")
    errors = pd.read_csv(logs)["val/mae"].dropna()
    assert errors.nunique() > 1
    assert value["student", "video", "validation", "mae"] == pytest.approx(errors.min(), abs=1e-4)


def test_ordered_classes_without_numbers_are_one_line(pain_levels, tmp_path, complaint):
    path = tmp_path / "manifest.csv"
    path.write_text(path.read_text().replace(",4\n", ",worst\n"))
    line = complaint(call("fit", pain_levels, tmp_path / "runs"), 1)
    assert "manifest.csv, line" in line
    assert "'worst' is not a number" in line


@pytest.mark.parametrize("verb", ["stage", "validate", "test"])
def test_every_verb_has_a_help(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert f"usage: mtpkdot {verb}" in capsys.readouterr().out


def test_the_printed_config_runs_to_the_same_hashes(tiny_config, trained_root, tmp_path, capsys):
    assert main(call("fit", tiny_config, trained_root, "--print_config")) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert main(call("fit", tmp_path / "printed.yaml", trained_root)) == 0
    assert capsys.readouterr().out.count("taken from") == 6


def test_regression_reports_ccc_per_target_and_their_mean(tiny_config, tmp_path):
    assert main(call("fit", tiny_config, tmp_path, "--data.init_args.task", "regression")) == 0
    rows = rows_of(tmp_path / "tiny")
    assert {r["metric"] for r in rows} == {"ccc"}
    assert {r["target"] for r in rows} == {"valence", "arousal", "mean"}
    table = pd.read_parquet(tmp_path / "tiny" / "predictions.parquet")
    assert table["truth"].dtype.kind == "f"
    assert table.groupby("target").size().nunique() == 1


def test_the_released_protocol_runs_and_is_named_in_the_results(tiny_config, tmp_path):
    assert main(call("fit", tiny_config, tmp_path, "--protocol", "released", "--data.init_args.batch_size", "16")) == 0
    assert "Protocol: released" in (tmp_path / "tiny" / "results.md").read_text()
    # The last partial batch is dropped: 16 of 24 samples.
    assert {r["n"] for r in rows_of(tmp_path / "tiny")} == {16}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["--backbone.vidoe.model.lr", "1"], ["vidoe", "video, signal"]),
        (["--student.modle.lr", "1"], ["student.modle.lr"]),
        (["--student.fit.max_epoch", "1"], ["max_epoch"]),
        (["--student.fit.max_epochs", "many"], ["student.fit.max_epochs"]),
        (["--student.model.method", "magic"], ["student.model.method"]),
        (["--pipeline.stages", "[studnet]"], ["studnet", "backbone.video"]),
        (["--student.model.structure.top_k", "32"], ["top_k", "32"]),
        (["--data.init_args.prevalent", "audio"], ["audio", "video, signal"]),
        (["--data.init_args.split.folds", "11"], ["11", "10 subjects"]),
        (["--data.class_path", "NoSuchData"], ["NoSuchData"]),
        (["--trainer.devices", "33"], ["32 samples", "33 devices"]),
        (["--trainer.devices", "2", "--protocol.batch_attention", "true"], ["batch_attention", "devices 1"]),
        (["--trainer.devices", "2", "--trainer.strategy", "ddp_spawn"], ["ddp_spawn", "strategy ddp"]),
        (["--protocol", "dirty"], ["protocol"]),
        (["--student.fit.monitor", "val/nothing"], ["val/nothing"]),
        (["--teacher.model.fusion.dim", "17"], ["teacher", "17"]),
        (["--student.model.structure.eps", "0"], ["student", "eps"]),
        (["--student.model.lr", "-1"], ["student", "lr"]),
        (["--student.model.fusion.dropout", "2"], ["student", "dropout"]),
        (["--student.model.method", "none", "--student.model.weights", "{output: 1.0}"], ["method none"]),
        (["--student.model.weights", "{task: 0, transport: 0, centroid: 0}"], ["weights"]),
        (["--seed_everything", "-1"], ["seed_everything"]),
        (["--data.init_args.classes", "1"], ["classes"]),
        (["--data.init_args.task", "ordinal"], ["PlantedData", "without an order", "ordinal"]),
        (["--student.fit.monitor", "val/mae"], ["val/mae", "val/accuracy"]),
        (["--trainer.limit_val_batches", "0"], ["limit_val_batches"]),
        (["--teacher.model.backbone_ckpts", "{vidoe: x.ckpt}"], ["vidoe"]),
        (["--backbone.video.fit.max_epochs", "0"], ["max_epochs"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(overrides, words, tiny_config, tmp_path, complaint):
    line = complaint(call("fit", tiny_config, tmp_path, *overrides))
    assert all(word in line for word in words), line
    assert not list(tmp_path.rglob("model.ckpt"))


def test_a_folder_that_is_not_a_run_cannot_be_evaluated(tmp_path, complaint):
    assert "is not a run" in complaint(["test", str(tmp_path)])


def test_a_config_that_is_not_yaml_is_one_line(tmp_path, complaint):
    (tmp_path / "bad.yaml").write_text("data: [unclosed\n  student: {")
    line = complaint(call("fit", tmp_path / "bad.yaml", tmp_path))
    assert f"{tmp_path / 'bad.yaml'} is not valid YAML" in line
    assert "line 2" in line


@pytest.mark.parametrize("written", [["--config", "{}"], ["--config={}"], ["--student.fit", "{}"]], ids=" ".join)
def test_a_file_that_is_not_text_is_one_line(written, tiny_config, tmp_path, complaint):
    (tmp_path / "bad.yaml").write_bytes("max_epochs: 2  # caf\u00e9\n".encode("latin-1"))
    line = complaint([*call("fit", tiny_config, tmp_path), *(word.format(tmp_path / "bad.yaml") for word in written)])
    assert "bad.yaml is not text in UTF-8" in line
