import json
import re
import shutil

import pytest

from mtpkdot.report.build import build
from mtpkdot.report.sections.provenance import _energy


def record(joules):
    return {"joules": joules}


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([record({"processors": 900.0}), record({"processors": 334.0})], "processors 1.2 kJ"),
        ([record({"processors": 7.2e6, "cards": 12.0})], "processors 2.0 kWh, cards 12.0 J"),
        ([record({"processors": 1.0, "cards": 2.0}), record({"cards": 3.0})], "cards 5.0 J"),
        ([record({"processors": 1.0}), record({})], "unknown"),
        ([record({"processors": 1.0}), {}], "unknown"),  # of a version that did not count
        ([], "unknown"),
    ],
)
def test_energy_is_summed_where_all_of_it_is_known(records, told):
    assert _energy(records) == told


def test_the_report_tells_the_energy_of_each_stage(trained_root, tmp_path):
    shutil.copytree(trained_root, tmp_path / "runs")
    (stage,) = (tmp_path / "runs/stages/teacher").glob("*/stage.json")
    kept = json.loads(stage.read_text())
    kept["trained"]["joules"] = {"processors": 1234.0}
    stage.write_text(json.dumps(kept))
    _, text, _ = build([tmp_path / "runs/tiny"], tmp_path / "out")
    table = text.read_text().split("Training time and energy per stage.")[1]
    energies = dict(re.findall(r"^\| all +\| (\S+) .*\| ([^|]+?) *\|$", table, re.MULTILINE))
    assert energies["teacher"] == "processors 1.2 kJ"
