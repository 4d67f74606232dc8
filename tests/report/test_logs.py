import json

import pytest

from mtpkdot.report.logs import summary, training


def write(folder, version, text):
    path = folder / "logs" / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_a_resumed_training_has_one_value_per_epoch(tmp_path):
    write(tmp_path, 0, "epoch,step,train/loss,val/accuracy\n0,3,,0.1\n0,3,2.0,\n1,6,,0.2\n")
    write(tmp_path, 10, "epoch,step,train/loss,val/accuracy\n2,9,0.5,\n")
    write(tmp_path, 9, "epoch,step,train/loss,val/accuracy\n1,6,1.0,0.3\n2,9,0.7,0.4\n")
    record = {"stage": "student", "trained": {"monitor": "val/accuracy", "epochs": 3, "seconds": 1.5}}
    (tmp_path / "stage.json").write_text(json.dumps(record))
    found = training(tmp_path)
    assert found.record == record
    assert found.log["train/loss"].to_dict() == {0: 2.0, 1: 1.0, 2: 0.5}
    assert found.log["val/accuracy"].to_dict() == {0: 0.1, 1: 0.3, 2: 0.4}


def test_a_missing_log_is_none(tmp_path):
    found = training(tmp_path / "nowhere")
    assert found.record == {}
    assert found.log is None


def test_curves_are_mean_and_range(tmp_path):
    write(tmp_path / "a", 0, "epoch,step,train/loss,train/teacher_joint\n0,1,1.0,0.5\n1,2,0.5,1.0\n")
    write(tmp_path / "b", 0, "epoch,step,train/loss,train/teacher_joint\n0,1,3.0,0.5\n")
    logs = [training(tmp_path / name).log for name in "ab"]
    frame = summary(logs)
    assert frame.loc[0, "train/loss"].to_dict() == {"mean": 2.0, "low": 1.0, "high": 3.0}
    assert frame.loc[1, "train/loss"].to_dict() == pytest.approx({"mean": 0.5, "low": 0.5, "high": 0.5})
    assert summary(logs, "train/teacher_").columns.unique(0).tolist() == ["train/teacher_joint"]
    assert summary(logs, "val/").empty
