import json
import shutil

import pytest
import yaml

from mtpkdot.cli.main import main
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.loading import load
from mtpkdot.pipeline.method import resolve_method
from mtpkdot.pipeline.planning import Plan


@pytest.mark.parametrize(("labelled", "method"), [("0.7", "mtpkdot_plus"), ("1.0", "none")])
def test_auto_is_chosen_by_the_labels_of_the_training_part(tiny_config, labelled, method):
    arguments = ["--config", str(tiny_config), f"--data.labelled={labelled}"]
    experiment = parse("fit", [*arguments, "--student.model.method=auto"])
    assert f"auto is {method}: " in resolve_method(experiment)
    named = parse("fit", [*arguments, f"--student.model.method={method}"])
    assert resolve_method(named) == ""
    assert experiment.config == named.config
    assert yaml.safe_load(experiment.text) == yaml.safe_load(named.text)


def test_a_run_prints_and_records_the_method_of_auto_and_equals_a_run_of_that_method(
    trained_root, tiny_config, tmp_path, capsys
):
    root = tmp_path / "runs"
    shutil.copytree(trained_root / "stages", root / "stages")
    arguments = ["fit", "--config", str(tiny_config), "--pipeline.root", str(root), "--pipeline.name", "auto"]
    assert main([*arguments, "--student.model.method", "auto"]) == 0
    run, sentence = root / "auto", "student.model.method auto is mtpkdot_plus: "
    assert sentence in capsys.readouterr().out
    assert sentence in (run / "results.md").read_text()
    assert yaml.safe_load((run / "config.yaml").read_text())["student"]["model"]["method"] == "mtpkdot_plus"
    before = json.loads((run / "results.json").read_text())
    assert main([*arguments, "--student.model.method", "mtpkdot_plus"]) == 0
    assert "student: taken from" in capsys.readouterr().out
    assert main(["test", str(run)]) == 0
    assert json.loads((run / "results.json").read_text()) == before


def test_a_study_of_a_config_with_auto_can_be_planned(tiny_config, tmp_path):
    config = yaml.safe_load(tiny_config.read_text())
    config["student"]["model"]["method"] = "auto"
    (path := tmp_path / "auto.yaml").write_text(yaml.safe_dump(config))
    study = Plan(path, None, ["none", "auto"], "2", 1, [], [], None, [f"--pipeline.root={tmp_path}"]).study()
    assert list(study.variants) == ["none", "auto"]


FEW = ["--data.labelled_subjects", "3", "--data.labelled", "1.0"]


def test_the_oracle_is_none_where_no_label_is_hidden(tiny_config):
    experiment = parse("fit", ["--config", str(tiny_config), "--student.model.method=oracle"])
    assert "method oracle is none: data.labelled_subjects hides no label" in resolve_method(experiment)
    named = parse("fit", ["--config", str(tiny_config), "--student.model.method=none"])
    assert experiment.config == named.config


def test_nobody_is_handed_a_bound_without_being_told(tiny_config, tmp_path, capsys):
    arguments = ["fit", "--config", str(tiny_config), "--pipeline.root", str(tmp_path), "--pipeline.name", "r"]
    assert main([*arguments, *FEW, "--student.model.method", "oracle"]) == 0
    said = "student.model.method oracle sees the hidden labels of 36 training recordings: it is a bound"
    assert capsys.readouterr().out.count(said) == 2  # before the training, and under its table
    run = tmp_path / "r"
    assert said in (run / "results.md").read_text()
    assert "student has seen hidden labels, a bound" in (run / "results.md").read_text()
    rows = json.loads((run / "results.json").read_text())
    assert ["hidden labels" in row.get("note", "") for row in rows] == [row["stage"] == "student" for row in rows]
    assert main(["report", str(run), "--out", str(tmp_path / "report")]) == 0
    assert "has seen hidden labels" in (tmp_path / "report" / "report.md").read_text()
    with pytest.warns(UserWarning, match="has seen hidden labels"):
        load(run)
