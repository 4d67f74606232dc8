"""Probes that are written beside runs, and read by fit and reports."""

import json

import pytest

from mtpkdot.errors import RunError
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.probed import advice, data_of, labelled_of, probes_in, read

ESTIMATE = {"value": 0.1, "low": 0.05, "high": 0.15}
POINT = {"labelled": 3, "base": ESTIMATE, "together": ESTIMATE, "pool": ESTIMATE, "gain": ESTIMATE}


def parsed(tiny_config, tmp_path, *more):
    return parse("fit", [f"--config={tiny_config}", f"--pipeline.root={tmp_path}", *more])


def write(tmp_path, data, name="a", **more):
    probe = {"data": data, "labelled_subjects": "all", "metric": "accuracy", "unit": "people", "curve": [POINT]}
    probe |= {"answer": "yes", "reason": "Yes: it gains.", "method": "mtpkdot_plus"}
    (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / name / "probe.json").write_text(json.dumps(probe | more))


def test_fit_is_advised_by_a_probe_of_the_same_data_and_labels(tiny_config, tmp_path):
    experiment = parsed(tiny_config, tmp_path, "--student.model.method=pkdot")
    assert advice(experiment) == ""
    write(tmp_path, data_of(experiment))
    assert "--student.model.method mtpkdot_plus in place of pkdot. Yes: it gains." in advice(experiment)
    assert advice(parsed(tiny_config, tmp_path, "--student.model.method=mtpkdot_plus")) == ""
    for other in ("--data.labelled_subjects=3", "--data.classes=3"):
        assert advice(parsed(tiny_config, tmp_path, "--student.model.method=pkdot", other)) == ""
    unknown = {"answer": "unknown", "method": "mtpkdot_plus"}
    write(tmp_path, data_of(experiment), **unknown)
    path = tmp_path / "a" / "probe.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "method"}))
    assert advice(experiment) == ""


def test_folds_seeds_and_batches_are_no_other_data(tiny_config, tmp_path):
    one = parsed(tiny_config, tmp_path)
    other = parsed(tiny_config, tmp_path, "--data.split.fold=2", "--seed_everything=3", "--data.batch_size=8")
    assert data_of(one) == data_of(other)
    few = parsed(tiny_config, tmp_path, "--data.labelled_subjects=3")
    assert data_of(one) == data_of(few)
    assert (labelled_of(one), labelled_of(few)) == ("all", "3")


def test_a_damaged_probe_is_named(tiny_config, tmp_path):
    experiment = parsed(tiny_config, tmp_path)
    write(tmp_path, data_of(experiment), curve=[{"labelled": 3}])
    with pytest.raises(RunError, match=r"probe\.json is not a valid record"):
        read(tmp_path / "a" / "probe.json")
    with pytest.raises(RunError, match="Remove it, or call `mtpkdot probe` again"):
        probes_in(tmp_path, data_of(experiment))
    assert "Remove it" in advice(experiment)
