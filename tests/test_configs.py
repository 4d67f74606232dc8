"""Every shipped config runs through the real entry point: shrunk in epochs, and those of raw media in size too."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from mtpkdot.cli.main import main
from mtpkdot.pipeline.crossval import check
from mtpkdot.pipeline.planning import Plan

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
ABLATIONS = sorted((Path(__file__).parent.parent / "configs" / "ablations").glob("*.yaml"))
SHARED = os.environ.get("MTPKDOT_TEST_DATA", "")
IMPORTS = {
    "stressid": "stressid",
    "stressid_talking": "stressid",
    "pom": "pom",
    "digits": "digits",
    "planted": None,
    "planted_few_labels": None,
}
# Twin of the data set that a config of raw media reads: arguments of `mtpkdot data synthesize`.
BIOVID = ["biovid", "--subjects", "8", "--clips", "1", "--classes", "BL1", "PA4", "--size", "64", "--workers", "1"]
TWINS = {
    "demo": BIOVID,
    "biovid": BIOVID,
    "biovid_released": [*BIOVID, "--part", "PartB"],
    "affwild2": ["affwild2", "--videos", "6", "--frames", "40", "60", "--workers", "1"],
}
SMALL = [
    "--data.pictures.size=32",
    "--data.num_workers=0",
    "--data.prepare_workers=1",
    "--trainer.precision=32-true",
    "--trainer.limit_train_batches=2",
    "--student.model.top_k=4",
]
# The detector takes longer than all else, and may miss a face of so few pixels.
SMALLER = {"biovid": ["--data.pictures.crop=centre"], "demo": ["--trainer.precision=bf16-mixed"]}


@pytest.fixture(scope="session")
def imported(tmp_path_factory):
    """A working directory in which `mtpkdot data import` has put a data set, as the configs expect it."""
    folder = tmp_path_factory.mktemp("work")

    def get(name: str) -> Path:
        out = folder / "data" / name
        if not out.exists():
            if name != "digits" and not Path(SHARED, name).is_dir():
                pytest.skip("MTPKDOT_TEST_DATA names no folder of real data")
            source = ["bundled"] if name == "digits" else [f"{SHARED}/{name}"]
            more = ["--train", "800"] if name == "digits" else []  # a tenth of them is labelled in an ablation
            assert main(["data", "import", name, *source, str(out), *more]) == 0
        return folder

    return get


def test_no_config_is_forgotten():
    assert {path.stem for path in CONFIGS} == set(IMPORTS) | set(TWINS)


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem in TWINS], ids=lambda path: path.stem)
def test_the_config_trains_every_stage_from_raw_media(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(path.read_text())
    root = config["data"]["init_args"]["root"]
    name, *options = TWINS[path.stem]
    assert main(["data", "synthesize", name, root, *options]) == 0
    small = [*SMALL, *SMALLER.get(path.stem, [])]
    shrink = [argument for section in sections(config) for argument in (f"--{section}.fit.max_epochs", "1")]
    assert main(["fit", "--config", str(path), *small, *shrink]) == 0
    run = tmp_path / "runs" / config["pipeline"]["name"]
    rows = json.loads((run / "results.json").read_text())
    assert {row["stage"] for row in rows} == {"backbone", "teacher", "adapted", "student"}
    assert all(-1 <= row["value"] <= 1 and row["n"] >= 2 for row in rows)
    assert (run / "submission.csv").is_file() == (name == "affwild2")
    before = (run / "results.json").read_text()
    assert main(["test", str(run)]) == 0
    assert (run / "results.json").read_text() == before


def sections(config):
    """The sections that are trained."""
    return [
        *(f"backbone.{modality}" for modality in config["backbone"]),
        "teacher",
        "adapted",
        "hallucinator",
        "student",
    ]


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem in IMPORTS], ids=lambda path: path.stem)
def test_the_config_trains_every_stage(path, imported, tmp_path, monkeypatch):
    name = IMPORTS[path.stem]
    monkeypatch.chdir(tmp_path if name is None else imported(name))
    config = yaml.safe_load(path.read_text())
    shrink = [argument for section in sections(config) for argument in (f"--{section}.fit.max_epochs", "1")]
    shrink += ["--trainer.limit_train_batches", "4"]
    assert main(["fit", "--config", str(path), "--pipeline.root", str(tmp_path / "runs"), *shrink]) == 0
    rows = json.loads((tmp_path / "runs" / config["pipeline"]["name"] / "results.json").read_text())
    prevalent = config["data"]["init_args"].get("prevalent", "video")
    assert {row["stage"] for row in rows} == {"backbone", "teacher", "adapted", "student"}
    assert {row["modality"] for row in rows if row["stage"] == "student"} == {prevalent}
    assert all(-1 <= row["value"] <= 1 and row["n"] > 50 for row in rows)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_key_of_a_config_is_explained_where_it_first_stands(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    explained = set()
    for line in lines:
        leaf = re.match(r"\s*(\w+): \S", line)
        if leaf:
            assert " # " in line or leaf[1] in explained, line
            explained.add(leaf[1])


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_every_variant_and_setting_of_an_ablation_can_be_built(path, imported, tmp_path, monkeypatch):
    name = IMPORTS[Path(yaml.safe_load(path.read_text())["config"]).stem]
    monkeypatch.chdir(tmp_path if name is None else imported(name))
    study = Plan(None, path, [], None, 1, [], [], None, [f"--pipeline.root={tmp_path}"]).study()
    assert len(study.variants) > 2
    check(study)


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_an_ablation_says_what_it_is_about(path):
    assert path.read_text().startswith("# ")
