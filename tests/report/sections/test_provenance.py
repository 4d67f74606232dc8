import json
import re
import shutil

import pytest

from mtpkdot.report.build import build


def told(folder):
    """Column of energies, by model."""
    _, text, _ = build([folder / "tiny"], folder / "out")
    table = text.read_text().split("Training time and energy per stage.")[1]
    return {
        name: energy.strip() for name, energy in re.findall(r"^\| all +\| (\S+) .*\|([^|]+)\|$", table, re.MULTILINE)
    }


@pytest.mark.parametrize(
    ("joules", "energy"), [(1234.0, "1.2 kJ"), (7.2e6, "2.0 kWh"), (None, "unknown"), ("absent", "unknown")]
)
def test_energy_is_told_where_it_was_measured(trained_root, tmp_path, joules, energy):
    shutil.copytree(trained_root, tmp_path / "runs")
    (record,) = (tmp_path / "runs/stages/teacher").glob("*/stage.json")
    kept = json.loads(record.read_text())
    measured = kept["trained"]["joules"]
    assert measured is None or measured > 0  # by the machine that this runs on
    kept["trained"]["joules"] = joules
    if joules == "absent":
        del kept["trained"]["joules"]  # as versions before wrote it
    record.write_text(json.dumps(kept))
    assert told(tmp_path / "runs")["teacher"] == energy
