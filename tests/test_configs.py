"""Every shipped config runs through the real entry point, shrunk in epochs only."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from mtpkdot.cli.main import main

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
SHARED = os.environ.get("MTPKDOT_TEST_DATA", "")
IMPORTS = {"stressid": "stressid", "stressid_talking": "stressid", "pom": "pom", "digits": "digits", "demo": None}


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
            assert main(["data", "import", name, *source, str(out)]) == 0
        return folder

    return get


def test_no_config_is_forgotten():
    assert {path.stem for path in CONFIGS} == set(IMPORTS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_config_trains_every_stage(path, imported, tmp_path, monkeypatch):
    name = IMPORTS[path.stem]
    monkeypatch.chdir(tmp_path if name is None else imported(name))
    config = yaml.safe_load(path.read_text())
    sections = [f"backbone.{modality}" for modality in config["backbone"]]
    sections += ["teacher", "adapted", "hallucinator", "student"]
    shrink = [argument for section in sections for argument in (f"--{section}.fit.max_epochs", "2")]
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
