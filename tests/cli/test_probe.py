"""`mtpkdot probe` as a whole, and what fit and report make of it."""

import json
import shutil

import pytest

from mtpkdot.cli.main import main
from mtpkdot.report.build import build


@pytest.fixture(scope="module")
def root(trained_root, tmp_path_factory):
    """The trained runs, and a probe beside them."""
    root = tmp_path_factory.mktemp("probed") / "runs"
    shutil.copytree(trained_root, root)
    return root


def test_a_probe_is_printed_written_and_read_by_fit_and_report(root, tiny_config, capsys, tmp_path):
    where = ["--config", str(tiny_config), "--pipeline.root", str(root)]
    assert main(["probe", *where, "--folds", "3", "--draws", "1", "--jobs", "1"]) == 0
    said = capsys.readouterr().out
    assert "video alone" in said
    assert "Next: `mtpkdot" in said
    found = json.loads((root / "tiny" / "probe.json").read_text())
    assert found["people"] == 8
    assert found["curve"][-1]["labelled"] == 4
    assert found["answer"] in ("yes", "no", "unknown")

    # An answer that differs from the method of the config.
    (root / "tiny" / "probe.json").write_text(json.dumps(found | {"method": "none", "reason": "No: it is noise."}))
    assert main(["fit", *where, "--student.model.method", "mtpkdot_plus", "--pipeline.name", "plus"]) == 0
    assert (
        "recommends --student.model.method none in place of mtpkdot_plus. No: it is noise." in capsys.readouterr().out
    )
    assert main(["fit", *where, "--student.model.method", "none", "--pipeline.name", "none"]) == 0
    assert "recommends" not in capsys.readouterr().out
    build([root / "none", root / "plus"], tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "### Predicted and measured gains" in text
    assert f"{found['curve'][-1]['gain']['value']:+.4f}" in text


def test_mistakes_are_named(tiny_config, complaint):
    config = ["--config", str(tiny_config)]
    assert "--folds is 1. Choose 2 or more." in complaint(["probe", *config, "--folds", "1"])
    assert "--draws is 0. Choose 1 or more." in complaint(["probe", *config, "--draws", "0"])
    assert "--labelled all is no number of people" in complaint(["probe", *config, "--labelled", "all"])
    assert "--labelled 50 is more than" in complaint(["probe", *config, "--labelled", "50"])
    assert "no experiment is named" in complaint(["probe"])


def test_help_has_the_options(capsys):
    assert main(["probe", "--help"]) == 0
    assert "--draws" in capsys.readouterr().out
