"""The configs that travel with the package stand in for those of a checkout."""

import pytest
import yaml

from mtpkdot import shipped
from mtpkdot.cli.main import main
from mtpkdot.errors import ConfigError


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory without configs."""
    monkeypatch.chdir(tmp_path)
    shipped._print_once.cache_clear()
    return tmp_path


def test_a_shipped_config_is_found_by_its_name():
    assert yaml.safe_load(shipped.config("planted.yaml").read_text())["data"]["class_path"] == "PlantedData"
    assert shipped.config("slurm/fit.sbatch").read_text().startswith("#!/bin/bash")
    with pytest.raises(ConfigError, match=r"no configs/plantd.yaml. Did you mean planted.yaml\?"):
        shipped.config("plantd.yaml")


@pytest.mark.parametrize("words", [["--config", "configs/planted.yaml"], ["--config=configs/planted.yaml"]])
def test_a_config_that_is_not_in_this_folder_is_the_shipped_one(words, elsewhere, capsys):
    assert main(["fit", *words, "--print_config"]) == 0
    printed = capsys.readouterr()
    assert yaml.safe_load(printed.out)["data"]["class_path"] == "mtpkdot.PlantedData"
    path = shipped.config("planted.yaml")
    assert printed.err == f"configs/planted.yaml is not in this folder; taking the one that mtpkdot ships: {path}\n"
    assert main(["data", "check", *words]) == 0


def test_a_config_of_this_folder_comes_first(elsewhere, capsys):
    (elsewhere / "configs").mkdir()
    (elsewhere / "configs" / "planted.yaml").write_text("data: {class_path: PlantedData, init_args: {subjects: 33}}\n")
    assert main(["fit", "--config", "configs/planted.yaml", "--print_config"]) == 0
    printed = capsys.readouterr()
    assert yaml.safe_load(printed.out)["data"]["init_args"]["subjects"] == 33
    assert printed.err == ""


def test_a_shipped_ablation_finds_its_config(elsewhere, complaint, capsys):
    ablation = "configs/ablations/planted.yaml"
    code = main(["crossval", "--ablation", ablation, "--methods", "kdd"])
    said = capsys.readouterr().err.splitlines()
    assert code == 2
    assert said[0].startswith(f"{ablation} is not in this folder; taking")
    assert said[1].startswith("configs/planted_few_labels.yaml is not in this folder; taking")
    assert "student.model.method is 'kdd', which is no method. Did you mean kd?" in said[2]
    assert len(said) == 3
    # Nor does an ablation's folder of the user's own hide the configs beside it.
    (elsewhere / "configs").mkdir()
    (elsewhere / "configs" / "planted_few_labels.yaml").write_text("{")
    told = complaint(["crossval", "--ablation", ablation, "--methods", "none"])
    assert "configs/planted_few_labels.yaml is not valid YAML" in told


def test_a_config_that_is_not_shipped_is_reported_by_its_name(elsewhere, complaint):
    assert "configs/mine.yaml does not exist. `mtpkdot init" in complaint(["fit", "--config", "configs/mine.yaml"])
    assert "plantd.yaml does not exist. Did you mean planted?" in complaint(["fit", "--config=plantd.yaml"])
    assert "ablations/mine.yaml does not exist" in complaint(["crossval", "--ablation", "configs/ablations/mine.yaml"])
