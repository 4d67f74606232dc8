"""Keys of version 0.2 mean the same as the new ones."""

import json

import pytest
import yaml

from mtpkdot.cli.main import main
from mtpkdot.pipeline import renamed
from mtpkdot.pipeline.config import parse, parse_content

OLD = {
    "teacher": {"model": {"dim": 24, "heads": 3, "feedforward": 7, "dropout": 0.25, "lr": 0.5}},
    "hallucinator": {"model": {"hidden": [5, 4], "activation": False}},
    "student": {
        "model": {
            **{"dim": 24, "heads": 3, "feedforward": 7, "dropout": 0.25},
            **{"top_k": 6, "eps": 0.5, "mode": "paired", "kernel": "rbf", "anchors": "all"},
            **{"relative_eps": True, "reach": 0.7, "pairing": 0.3, "solver": "pot", "ot_tol": 1e-4, "ot_max_iter": 9},
            **{"selection": "soft", "selection_temperature": 0.2, "margin": 0.1, "method": "pkdot"},
        }
    },
}
FUSION = {"dim": 24, "heads": 3, "feedforward": 7, "dropout": 0.25}
STRUCTURE = {"top_k": 6, "eps": 0.5, "tol": 1e-4, "max_iter": 9, "solver": "pot", "mode": "paired", "kernel": "rbf"}
STRUCTURE |= {"anchors": "all", "relative_eps": True, "reach": 0.7, "pairing": 0.3}


@pytest.fixture(autouse=True)
def anew():
    """Everything is announced anew."""
    renamed._announced.cache_clear()


def check(config):
    teacher, student = config["teacher"]["model"], config["student"]["model"]
    assert teacher["fusion"]["init_args"] == FUSION
    assert teacher["lr"] == 0.5
    assert student["fusion"]["init_args"] == FUSION
    assert config["hallucinator"]["model"]["tnet"]["init_args"] == {"hidden": [5, 4], "activation": False}
    assert student["structure"]["init_args"].items() >= STRUCTURE.items()
    assert student["selection"]["init_args"].items() >= {"rule": "soft", "temperature": 0.2, "margin": 0.1}.items()
    assert student["method"] == "pkdot"


def test_an_old_file_is_read_and_every_key_is_announced_once(tiny_config, tmp_path, capsys):
    path = tmp_path / "old.yaml"
    content = yaml.safe_load(tiny_config.read_text())
    path.write_text(yaml.safe_dump({**content, **OLD}))
    check(parse("fit", ["--config", str(path)]).config)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines)) == sum(len(section["model"]) for section in OLD.values()) - 2
    assert "student.model.ot_tol is student.model.structure.tol now (UPGRADING.md)" in lines
    assert not [key for key in parse("fit", ["--config", str(path)]).text.splitlines() if "ot_tol" in key]
    assert not capsys.readouterr().err


@pytest.mark.parametrize("joined", [True, False])
def test_an_old_command_line_is_read(tiny_config, joined):
    words = [
        f"--{section}.model.{key}={value if isinstance(value, str) else json.dumps(value)}"
        for section, content in OLD.items()
        for key, value in content["model"].items()
    ]
    words = words if joined else [part for word in words for part in word.split("=", 1)]
    check(parse("fit", ["--config", str(tiny_config), *words]).config)


@pytest.mark.parametrize("joined", [True, False])
def test_an_old_section_on_the_command_line_is_read(tiny_config, joined):
    words = [f"--{name}.model={json.dumps(content['model'])}" for name, content in OLD.items()]
    words = words if joined else [part for word in words for part in word.split("=", 1)]
    check(parse("fit", ["--config", str(tiny_config), *words]).config)


def test_old_options_override_a_config_that_is_given_as_a_mapping(tiny_config):
    config = parse_content("fit", yaml.safe_load(tiny_config.read_text()), ["--student.model.top_k=3"]).config
    assert config["student"]["model"]["structure"]["init_args"]["top_k"] == 3


def test_an_old_key_beside_a_class_by_its_name_alone_keeps_the_class(tiny_config, tmp_path):
    path = tmp_path / "mixed.yaml"
    model = {"fusion": "tests.extending.parts.Beside", "dim": 12}
    path.write_text(yaml.safe_dump({**yaml.safe_load(tiny_config.read_text()), "teacher": {"model": model}}))
    fusion = parse("fit", ["--config", str(path)]).config["teacher"]["model"]["fusion"]
    assert fusion == {"class_path": "tests.extending.parts.Beside", "init_args": {"dim": 12}}


@pytest.mark.parametrize("word", ["model.yaml", "{lr: 1e-3}", "{"])
def test_a_section_without_old_keys_is_passed_on_as_it_is(word):
    words = [f"--student.model={word}", "--student.model", word]
    assert renamed.with_moved_options(words) == words


def test_new_keys_announce_nothing(tiny_config, capsys):
    words = ["--student.model.structure.top_k=3", "--student.model.selection.rule", "soft"]
    config = parse("fit", ["--config", str(tiny_config), *words]).config
    assert config["student"]["model"]["structure"]["init_args"]["top_k"] == 3
    assert config["student"]["model"]["selection"]["init_args"]["rule"] == "soft"
    assert not capsys.readouterr().err


def test_a_run_of_old_keys_trains(tiny_config, tmp_path):
    words = ["--student.model.dim=8", "--student.model.dropout=0.3", "--student.model.selection=sample"]
    assert main(["fit", "--config", str(tiny_config), "--pipeline.root", str(tmp_path), *words]) == 0
    made = yaml.safe_load((tmp_path / "tiny" / "config.yaml").read_text())["student"]["model"]
    assert made["fusion"]["init_args"]["dim"] == 8
    assert made["selection"]["init_args"]["rule"] == "sample"
