"""Records of another form are one line that names file and place."""

import json
import shutil

import pandas as pd
import pytest

from mtpkdot.cli.main import main
from mtpkdot.errors import RunError
from mtpkdot.pipeline.records import misfit, read_record
from mtpkdot.pipeline.study import Study
from mtpkdot.report.logs import training
from tests.report import fake

FORM = {"name": str, "parts": [{"n": int | float}], "kind?": {"a", "b"}, "free?": {...: object}}
RIGHT = {"name": "x", "parts": [{"n": 1}, {"n": 0.5}], "kind": "a"}


def test_a_record_of_the_right_form_is_accepted():
    assert misfit(RIGHT, FORM) == ""
    assert misfit({"name": "x", "parts": [], "free": {"any": [{}]}}, FORM) == ""


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([], "it is not a mapping"),
        (None, "it is not a mapping"),
        ({"parts": []}, "it has no 'name'"),
        ({**RIGHT, "name": 3}, "name is int, not str"),
        ({**RIGHT, "parts": {}}, "parts is not a list"),
        ({**RIGHT, "parts": [{"n": 1}, 7]}, r"parts\[1\] is not a mapping"),
        ({**RIGHT, "parts": [{"n": "1"}]}, r"parts\[0\].n is str, not int | float"),
        ({**RIGHT, "kind": "c"}, "kind is not one of a, b"),
        ({**RIGHT, "kind": ["a"]}, "kind is not one of a, b"),
        ({**RIGHT, "more": 1}, "it has 'more', which is not known"),
        ({**RIGHT, "free": 1}, "free is not a mapping"),
    ],
)
def test_a_record_of_another_form_is_reported_with_the_place(value, told, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(value))
    with pytest.raises(RunError, match=rf"r\.json is not a valid record of mtpkdot: {told}.* Do this\."):
        read_record(tmp_path / "r.json", FORM, "Do this.")


@pytest.fixture
def run(trained_root, tmp_path):
    """A copy of the tiny run."""
    shutil.copytree(trained_root, tmp_path / "runs")
    return tmp_path / "runs" / "tiny"


def changed(path, change):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content)))


@pytest.mark.parametrize(
    "change",
    [
        lambda r: [],
        lambda r: {},
        lambda r: {"stages": ["teacher"]},
        lambda r: {"stages": {"teacher": {"keys": {}}}},
        lambda r: {**r, "stages": {"teacher": "hash"}},
    ],
)
def test_a_run_without_its_stages_is_one_line_for_every_verb(change, run, complaint, tmp_path):
    changed(run / "run.json", change)
    for argv in (["test", str(run)], ["validate", str(run)], ["report", str(run), "--out", str(tmp_path / "out")]):
        assert "run.json is not a valid record" in complaint(argv)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: {**r, "task": "guessing"},
        lambda r: {**r, "samples": 5},
        lambda r: {key: value for key, value in r.items() if key != "versions"},
        lambda r: {**r, "targets": "state0"},
        lambda r: {**r, "labelled": {"test": 1}},
    ],
)
def test_a_report_says_what_a_run_lacks(change, run, complaint, tmp_path):
    changed(run / "run.json", change)
    assert "run.json is not a valid record" in complaint(["report", str(run), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: {"rows": rows},
        lambda rows: [{**row, "extra": 1} for row in rows],
        lambda rows: [{key: value for key, value in row.items() if key != "n"} for row in rows],
        lambda rows: [{**row, "stage": "oracle"} for row in rows],
        lambda rows: [{**row, "value": None} for row in rows],
    ],
)
def test_results_of_another_form_are_one_line_and_stay(change, run, complaint):
    changed(run / "results.json", change)
    before = (run / "results.json").read_bytes()
    assert "results.json is not a valid record" in complaint(["test", str(run)])
    assert (run / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.drop(columns="subject"), "has no column 'subject'"),
        (lambda t: t.drop(columns="stage"), "has no column 'stage'"),
        (lambda t: t.assign(truth="someone"), "name 'someone'"),
        (lambda t: t.drop(columns="p_state1"), "probabilities or values are absent"),
        (lambda t: t.assign(p_state1="high"), "probabilities or values are absent"),
        (lambda t: t.assign(prediction=1.5), "name '1.5'"),
    ],
)
def test_predictions_of_another_form_are_one_line(change, told, run, complaint, tmp_path):
    change(pd.read_parquet(run / "predictions.parquet")).to_parquet(run / "predictions.parquet")
    assert told in complaint(["report", str(run), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("record", [{}, {"trained": 3}, {"trained": {"epochs": 2, "seconds": "long", "monitor": "x"}}])
def test_a_stage_of_another_form_is_one_line(record, tmp_path):
    (tmp_path / "stage.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"stage\.json is not a valid record"):
        training(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: [s],
        lambda s: {**s, "arguments": None},
        lambda s: {**s, "folds": {"a": 1}},
        lambda s: {**s, "settings": ["all"]},
        lambda s: {**s, "resample": "people"},
        lambda s: {**s, "new": 1},
        lambda s: {key: value for key, value in s.items() if key != "seeds"},
    ],
)
def test_a_study_of_another_form_is_one_line(change, tmp_path, complaint):
    folder = fake.write(fake.study(tmp_path, folds=1, seeds=1))
    changed(folder / "study.json", change)
    assert "study.json is not a valid record" in complaint(["report", str(folder), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("cell", [[], {"arguments": [1, 2], "finished": True}, {"arguments": "x"}, {"basis": 3}])
def test_a_cell_of_another_form_is_not_finished(cell, tmp_path):
    made = fake.study(tmp_path, folds=1, seeds=1)
    fake.write(made)
    first = next(iter(made.cells()))
    assert made.is_finished(first)
    (made.folder / first.place / "cell.json").write_text(json.dumps(cell))
    assert not Study.read(made.folder).is_finished(first)


def test_a_parquet_file_that_declares_too_much_is_one_line(run, complaint, monkeypatch):
    monkeypatch.setenv("MTPKDOT_MAX_BYTES", "1e3")
    line = complaint(["report", str(run), "--out", str(run.parent / "out")], 1)
    assert "predictions.parquet declares arrays" in line
    monkeypatch.setenv("MTPKDOT_MAX_BYTES", "1e9")
    assert main(["test", str(run)]) == 0
