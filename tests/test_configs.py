"""Every shipped config runs through the real entry point: shrunk in epochs, and those of raw media in size too."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from mtpkdot.cli.main import main
from mtpkdot.pipeline.crossval import check
from mtpkdot.pipeline.planning import Plan

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
SHRINKING = Path(__file__).parent.parent / "configs" / "small.yaml"  # comes after another config
BATCH_FILES = sorted((Path(__file__).parent.parent / "configs" / "slurm").glob("*.sbatch"))
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
    "--student.model.structure.top_k=4",
]
# The detector takes longer than all else, and may miss a face of so few pixels.
SMALLER = {
    "biovid": ["--data.pictures.crop=centre"],
    "demo": ["--data.pictures.crop=centre", "--trainer.precision=bf16-mixed"],
}


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
    assert {path.stem for path in CONFIGS} == set(IMPORTS) | set(TWINS) | {SHRINKING.stem}


def evaluated(config):
    """The stages with predictions; a pool is trained for mtpkdot_plus alone."""
    plus = config["student"]["model"]["method"] == "mtpkdot_plus"
    return {"backbone", "teacher", "adapted", "student", *(["pool"] if plus else [])}


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
    assert {row["stage"] for row in rows} == evaluated(config)
    assert all(-1 <= row["value"] <= 1 and row["n"] >= 2 for row in rows)
    assert (run / "submission.csv").is_file() == (name == "affwild2")
    before = (run / "results.json").read_text()
    assert main(["test", str(run)]) == 0
    assert (run / "results.json").read_text() == before


PAGE = "https://sites.google.com/view/dimitrioskollias/databases/aff-wild2"


@pytest.mark.parametrize(
    ("verb", "name", "words"),
    [
        *(
            (verb, "affwild2", ["data/affwild2 does not exist", PAGE, "mtpkdot data synthesize affwild2 data/affwild2"])
            for verb in ("fit", "stage student", "crossval", "data check", "data prepare")
        ),
        ("fit", "biovid", ["https://www.nit.ovgu.de/BioVid.html", "mtpkdot data synthesize biovid data/biovid"]),
        ("fit", "biovid_released", ["mtpkdot data synthesize biovid --part PartB data/biovid"]),
        ("fit", "digits", ["mtpkdot data import digits data/digits", "downloads nothing"]),
        ("fit", "pom", ["data/pom/manifest_video.csv", "mtpkdot data import pom SRC data/pom", "pliang279/MFN"]),
        ("data check", "stressid", ["mtpkdot data import stressid SRC data/stressid", "robustml-eurecom/stressID"]),
    ],
)
def test_absent_data_are_one_line_that_says_where_they_come_from(verb, name, words, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = complaint([*verb.split(), "--config", str(SHRINKING.with_name(f"{name}.yaml"))])
    assert all(word in line for word in words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["affwild2", "biovid"])
def test_one_more_file_shrinks_a_config_of_raw_media(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = SHRINKING.with_name(f"{name}.yaml")
    config = yaml.safe_load(path.read_text())
    assert main(["data", "synthesize", name, config["data"]["init_args"]["root"], *TWINS[name][1:]]) == 0
    shrink = [f"--{section}.fit.max_epochs=1" for section in sections(config)]
    shrink += ["--trainer.limit_train_batches=2", "--data.prepare_workers=1"]
    assert main(["fit", "--config", str(path), "--config", str(SHRINKING), *shrink]) == 0
    assert "runs on defaults" not in capsys.readouterr().out  # the first file has a section for every modality
    (run,) = (tmp_path / "runs").glob(f"{name}-*")
    assert "student (video)" in (run / "results.md").read_text()
    made = yaml.safe_load((run / "config.yaml").read_text())
    encoders = {key: section["model"]["encoder"]["class_path"] for key, section in made["backbone"].items()}
    assert encoders["video"].endswith("FrameEncoder")
    assert all(
        encoders[key].endswith(section["model"]["encoder"]["class_path"])
        for key, section in config["backbone"].items()
        if key != "video"
    )


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
    assert {row["stage"] for row in rows} == evaluated(config)
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
def test_an_ablation_begins_with_its_purpose(path):
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("path", BATCH_FILES, ids=lambda path: path.stem)
def test_every_option_of_a_batch_file_has_its_reason(path):
    options = [line for line in path.read_text().splitlines() if line.startswith("#SBATCH")]
    assert len(options) > 5
    assert all(re.match(r"#SBATCH --\S+ +# \w|#SBATCH --output=\S+ # %x", line) for line in options)


@pytest.mark.parametrize("path", BATCH_FILES, ids=lambda path: path.stem)
def test_a_batch_file_runs_the_mtpkdot_of_the_environment_that_is_named(path, tmp_path):
    programs, activate = tmp_path / "bin", tmp_path / "activate"
    programs.mkdir()
    for name in ("mtpkdot", "srun"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $@"\n')
        (programs / name).chmod(0o755)
    activate.write_text(f"PATH={programs}:$PATH\n")

    def run(**environment):
        given = {"PATH": "/usr/bin:/bin", **environment}
        return subprocess.run(["bash", path, "x"], cwd=tmp_path, env=given, capture_output=True, text=True)

    absent = run()
    assert absent.returncode == 2
    assert "set MTPKDOT_ACTIVATE to your environment's bin/activate" in absent.stderr
    assert run(MTPKDOT_ACTIVATE=str(tmp_path / "none"), PATH=f"{programs}:/usr/bin:/bin").returncode == 2
    for found in (run(MTPKDOT_ACTIVATE=str(activate)), run(PATH=f"{programs}:/usr/bin:/bin")):
        assert found.returncode == 0
        assert re.search(r"^srun .* x( |$)", found.stdout)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    activate.rename(tmp_path / ".venv" / "bin" / "activate")
    assert run().returncode == 0
