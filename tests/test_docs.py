"""What the README and the pages of the documentation show is run, and what they name is there."""

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mtpkdot.cli.data import VERBS as DATA_VERBS
from mtpkdot.cli.main import VERBS
from tests.loops import over

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CARDS = sorted((ROOT / "mtpkdot" / "data").rglob("*.md"))  # of data sets
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *CARDS])
SHOWN = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which also names what there was
AUTOMATION = [ROOT / ".github" / "workflows" / "ci.yml", ROOT / ".pre-commit-config.yaml"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page, language):
    return [text for kind, text in FENCE.findall(page.read_text()) if kind == language]


def prose(page):
    return FENCE.sub("", page.read_text())


def commands(page):
    """Arguments of every `mtpkdot ...` line of a page's shell blocks."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("mtpkdot ")]


def anchors(page):
    """What `#...` may follow a page's name, as GitHub makes it from the headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_read_at_one_sitting():
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1500


@over("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_page_is_in_the_table_of_contents():
    listed = {target.partition("#")[0] for target in re.findall(r"\]\((\S+?)\)", (ROOT / "docs/index.md").read_text())}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} <= listed


@over("page", [*SHOWN, *AUTOMATION])
def test_every_file_verb_and_target_that_is_named_exists(page):
    text = page.read_text()
    for name in re.findall(r"\b(?:configs|tests|notebooks|mtpkdot|docs)/[\w/]+\.(?:yaml|sbatch|py|ipynb|md)\b", text):
        assert (ROOT / name).is_file(), name
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in re.findall(r"(?:^|`|run: |entry: )make ((?:[a-z-]+ ?)+)", text, re.MULTILINE):
        assert set(words.split()) <= set(targets), words
    in_code = [argv[:2] for argv in commands(page)]
    in_code += [span.split()[1:3] for span in re.findall(r"`(mtpkdot [a-z][^`]*)`", prose(page))]
    for verb, *rest in in_code:
        assert verb in VERBS, verb
        assert verb != "data" or rest[0] in DATA_VERBS, rest


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = re.findall(r"^## \[(\d.*)\] - (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert (version, citation["date-released"].isoformat()) == released[0]
    assert citation["version"] == version


@over("block", [block for page in SHOWN for block in blocks(page, "yaml")])
def test_every_yaml_block_is_an_experiment(block, tmp_path):
    from mtpkdot.pipeline.config import parse

    (tmp_path / "mine.yaml").write_text(block)
    experiment = parse("fit", ["--config", str(tmp_path / "mine.yaml")])
    assert experiment.data.modality_names == list(yaml.safe_load(block)["backbone"])


def test_every_python_block_of_the_pages_runs(trained_root, tiny_config, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(trained_root, root)
    (checkpoint,) = (root / "stages" / "student").glob("*/model.ckpt")
    shown = {
        "runs/<name>": checkpoint,
        "configs/digits.yaml": tiny_config,
        "--pipeline.root=runs": f"--pipeline.root={root}",
    }
    found = [block for page in SHOWN if page != README for block in blocks(page, "python")]
    ran = {}
    for block in found:
        names = {"video": torch.randn(3, 2, 32), "mask": torch.ones(3, 2, dtype=torch.bool)}
        for text, here in shown.items():
            block = block.replace(text, str(here))
        exec(block, names)
        ran |= names
    assert ran["probabilities"].shape == ran["output"].shape == (3, 4)  # of the trained student
    assert ran["run"] == root / "tiny"
    assert ran["solved"].plan.shape == (4, 100, 80)
    steps, mask = ran["Steps"]((5,)), torch.ones(2, 3, dtype=torch.bool)
    assert ran["MyEncoder"](steps, 7)(torch.randn(2, 3, 5), mask)[0].shape == (2, 3, 7)
    same = ran["Seen"](torch.randn(6, 5), torch.randn(6, 3))
    assert ran["MyLoss"]("classification", 5, 5)(same, same, None, None).abs() < 1e-6


def test_the_training_loop_of_the_readme_teaches_the_student_alone():
    (loop,) = blocks(README, "python")
    names = {}
    exec(loop, names)
    assert names["student"].weight.grad.abs().sum() > 0
    assert names["head"].weight.grad.abs().sum() > 0
    assert names["teacher"].weight.grad is None
    assert names["terms"].transport > 0
    assert len([line for line in loop.splitlines() if line]) <= 15


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_of_the_readme_runs(tmp_path, monkeypatch):
    from mtpkdot.cli.main import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    _write_own_data(tmp_path / "data" / "mine")
    for argv in commands(README):
        assert main(_shortened(argv)) == 0, argv
    assert (tmp_path / "runs" / "mine" / "results.json").is_file()
    assert (tmp_path / "reports" / "mine" / "report.html").is_file()
    cells = (tmp_path / "runs").glob("*-crossval/all/*/*/results.json")
    assert {cell.parts[-3] for cell in cells} >= {"none", "selftraining", "mtpkdot_plus"}


def _shortened(argv):
    """A command, which takes less time: small data, few passes, or no more than its configuration."""
    if argv[0] == "demo":
        return [*argv, "--help"]  # it has a test of its own
    if argv[:2] == ["data", "synthesize"]:
        return [*argv, "--videos", "5", "--frames", "20", "30", "--workers", "1"]
    if argv[0] == "fit" and "mine.yaml" not in argv:
        return [*argv, "--print_config"]  # the configs are run by tests/test_configs.py
    if argv[0] not in ("fit", "crossval"):
        return argv
    stages = ["backbone.face", "backbone.wristband", "teacher", "adapted", "hallucinator", "student"]
    passes = [word for stage in stages for word in (f"--{stage}.fit.max_epochs", "1")]
    one_fold = ["--seeds", "1", "--jobs", "1", "--folds", "5", "--part", "1/5"] if argv[0] == "crossval" else []
    return [*argv, *passes, *one_fold]


def _write_own_data(folder):
    """A manifest and features as the README describes them: ten people, four of them without labels."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    person, clip = np.divmod(np.arange(80), 8)
    state = np.where(person > 5, "", np.where(clip % 2, "stress", "calm"))
    ids = np.array([f"sample_{row}" for row in range(80)])
    table = pd.DataFrame({"id": ids, "subject": [f"person_{number}" for number in person], "state": state})
    table.to_csv(folder / "manifest.csv", index=False)
    face = random.normal(size=(80, 6)) + clip[:, None] % 2
    np.savez(folder / "face.npz", features=face.astype(np.float32), ids=ids)
    wristband = pd.DataFrame({"id": ids, "pulse": random.normal(size=80), "sweat": random.normal(size=80) + clip % 2})
    wristband.to_csv(folder / "wristband.csv", index=False)
