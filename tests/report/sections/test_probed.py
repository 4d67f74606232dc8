"""Predicted against measured gains in a report."""

import json

import pytest

from mtpkdot.report.compare import Comparison
from mtpkdot.report.gather import gather, of_study
from mtpkdot.report.page import Table
from mtpkdot.report.sections.probed import predicted
from tests.report import fake

DATA = {"data.class_path": "PlantedData"}


def point(labelled, gain):
    def estimate(value):
        return {"value": value, "low": value - 0.01, "high": value + 0.01}

    found = {name: estimate(0.5) for name in ("base", "together", "pool")}
    return found | {"labelled": labelled, "gain": estimate(gain), "control_gain": estimate(gain / 2)}


def write(root, name, **more):
    probe = {"data": DATA, "labelled_subjects": "all", "metric": "accuracy", "unit": "people", "answer": "no"}
    probe |= {"reason": "No.", "curve": [point(5, 0.05), point(9, 0.03), point(20, 0.02)]}
    (root / name).mkdir()
    (root / name / "probe.json").write_text(json.dumps(probe | more))


@pytest.fixture
def study(tmp_path):
    """A study whose runs name their data, with 10 people labelled, and with all."""
    settings = {f"labelled_{n}": {"data.labelled_subjects": n} for n in ("10", "all")}
    made = fake.study(tmp_path / "s", ("none", "selftraining", "mtpkdot_plus"), 2, 1, settings=settings)
    fake.write(made, {"mtpkdot_plus": 0.8})
    for path in (tmp_path / "s").rglob("run.json"):
        record = json.loads(path.read_text())
        for stage in record["stages"].values():
            stage["keys"] |= DATA | {"data.init_args.batch_size": 8, "data.init_args.views": 1}
            stage["chosen"] = [*DATA, "data.init_args.batch_size", "data.init_args.labelled_subjects"]
        path.write_text(json.dumps(record))
    return made


def table(study):
    gathered = gather(of_study(study))
    comparisons = [Comparison(gathered, setting) for setting in gathered.settings]
    blocks = predicted(comparisons, {c.setting: (c.values(), c.differences(("base",))) for c in comparisons})
    return next((block.rows for block in blocks if isinstance(block, Table)), [])


def test_a_gain_is_predicted_by_the_nearest_number_of_labelled_people(study, tmp_path):
    assert table(study) == []
    write(tmp_path, "other", data={"data.class_path": "BioVid"})
    assert table(study) == []
    write(tmp_path, "p")
    rows = {(row[0], row[1]): row for row in table(study)[1:]}
    assert rows["labelled_10", "mtpkdot_plus"][2:5] == ["9 people", "+0.0300", "+0.0200 to +0.0400"]
    assert rows["labelled_10", "selftraining"][3] == "+0.0150"
    assert rows["labelled_all", "mtpkdot_plus"][2:4] == ["20 people", "+0.0200"]
    assert ("labelled_10", "none") not in rows


def test_numbers_that_were_not_probed_predict_nothing(study, tmp_path):
    write(tmp_path, "p", curve=[point(30, 0.02)], labelled_subjects="5")
    assert table(study) == []
