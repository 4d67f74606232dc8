import json
import re
import shutil

from mtpkdot.report.build import build
from mtpkdot.report.gather import of_study
from mtpkdot.report.sections.provenance import absent
from tests.report import fake


def test_missing_runs_are_reported_with_the_reason(tmp_path):
    made = fake.study(tmp_path / "s", ("none", "pkdot"), folds=1)
    gone = {"all/upstream/fold0-seed1", "all/none/fold0-seed1", "all/pkdot/fold0-seed0", "all/pkdot/fold0-seed1"}
    folder = fake.write(made, skip=gone)
    for place, account in {"upstream/fold0-seed1": "the dose is wrong", "pkdot/fold0-seed1": "no luck"}.items():
        (folder / "all" / place).mkdir(parents=True)
        (folder / "all" / place / "failed.txt").write_text(f"Traceback\n{account}\n")
    _, table = absent(of_study(made))
    assert dict(table.rows[1:]) == {
        "s/all/upstream/fold0-seed1": "the dose is wrong",
        "s/all/none/fold0-seed1": "its upstream stages failed",
        "s/all/pkdot/fold0-seed0": "not run to its end",
        "s/all/pkdot/fold0-seed1": "no luck",
    }


def test_the_report_shows_the_time_of_each_stage(trained_root, tmp_path):
    shutil.copytree(trained_root, tmp_path / "runs")
    (stage,) = (tmp_path / "runs/stages/teacher").glob("*/stage.json")
    kept = json.loads(stage.read_text())
    kept["trained"] |= {"seconds": 600.0, "joules": {"processors": 1234.0}}  # the latter of an earlier version
    stage.write_text(json.dumps(kept))
    _, text, _ = build([tmp_path / "runs/tiny"], tmp_path / "out")
    table = text.read_text().split("Training time per stage.")[1]
    times = dict(re.findall(r"^\| all +\| (\S+) .*\| ([^|]+?) *\|$", table, re.MULTILINE))
    assert times["teacher"] == "10 min"
