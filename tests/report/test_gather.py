import json
import shutil
import time
from dataclasses import replace

import pandas as pd
import pytest

from mtpkdot.errors import RunError
from mtpkdot.pipeline.study import Study
from mtpkdot.report.gather import gather, of_study
from mtpkdot.report.summary import summarise
from tests.report import fake


def test_all_predictions_are_in_one_file_with_what_they_are_of(tmp_path):
    made = fake.study(tmp_path / "s")
    fake.write(made)
    gathered = gather(of_study(made), made.folder / "predictions.parquet")
    table = pd.read_parquet(made.folder / "predictions.parquet")
    assert table.columns.tolist() == [
        *("setting", "method", "stage", "fold", "seed", "split", "id", "subject", "target", "truth", "prediction"),
        *("p_calm", "p_pain"),
    ]
    assert not table.duplicated(["setting", "method", "fold", "seed", "split", "id", "target"]).any()
    assert set(table["method"]) == {*fake.SKILL, "none", "pkdot", "mtpkdot"}
    assert len(table) == 8 * 3 * 2 * 2 * 24
    assert gathered.to_train == {("all", "validation"): 0.5, ("all", "test"): 0.5}
    assert gathered.alone == {("all", "none")}
    assert gathered.missing == []


def test_unfinished_cells_are_named_as_missing_and_not_counted(tmp_path):
    made = fake.study(tmp_path / "s")
    fake.write(made, skip={"all/pkdot/fold1-seed0"})
    stale = made.folder / "all/mtpkdot/fold0-seed1/cell.json"
    stale.write_text(json.dumps({"finished": True, "arguments": ["--config=other.yaml"]}))
    (made.folder / "all/none/fold2-seed0/predictions.parquet").unlink()
    gathered = gather(of_study(made))
    assert gathered.missing == [
        "s/all/mtpkdot/fold0-seed1",
        "s/all/pkdot/fold1-seed0",
        "s/all/none/fold2-seed0",
    ]
    assert ("all", "mtpkdot", 0, 1) not in gathered.tallies
    assert ("all", "mtpkdot", 0, 0) in gathered.tallies


def test_cells_that_were_run_on_another_basis_are_missing(tmp_path):
    made = fake.study(tmp_path / "s")
    fake.write(made)
    replace(made, basis={"all/upstream": "other data"}).write()
    assert gather(of_study(Study.read(made.folder))) is None


def test_a_part_without_predictions_is_reported(tmp_path):
    made = fake.study(tmp_path / "s")
    fake.write(made)
    path = made.folder / "all/none/fold0-seed0/predictions.parquet"
    table = pd.read_parquet(path)
    table[table["split"] == "test"].to_parquet(path)
    with pytest.raises(RunError, match="has no predictions of the validation part"):
        gather(of_study(made), made.folder / "predictions.parquet")
    assert not list(made.folder.glob("*predictions.parquet*"))


def test_a_study_without_finished_cells_is_none(tmp_path):
    made = fake.study(tmp_path / "s")
    made.write()
    assert gather(of_study(made)) is None
    assert "no cell is finished" in summarise(made.folder)


def test_a_moved_study_is_read_where_it_is(tmp_path):
    made = fake.study(tmp_path / "s")
    fake.write(made)
    shutil.move(made.folder, tmp_path / "elsewhere" / "renamed")
    assert gather(of_study(Study.read(tmp_path / "elsewhere" / "renamed"))).missing == []


def test_a_model_shared_by_groups_has_one_name(tmp_path):
    variants = {
        "none": {"student.model.method": "none"},
        "wide": {"teacher.model.fusion.dim": 32},
        "other": {"backbone.video.model.lr": 0.1},
    }
    made = fake.study(tmp_path / "s", variants_of=variants)
    fake.write(made)
    gathered = gather(of_study(made))
    assert gathered.upstream["all", "none"]["teacher"] == "teacher"
    assert gathered.upstream["all", "wide"]["teacher"] == "teacher@wide"
    assert gathered.upstream["all", "wide"]["backbone.video"] == "backbone.video"
    assert gathered.upstream["all", "other"]["backbone.video"] == "backbone.video@other"
    assert gathered.upstream["all", "other"]["hallucinator"] == "hallucinator@other"
    assert "adapted.audio@wide" in {key[1] for key in gathered.tallies}


def test_settings_that_predict_different_things_are_reported(tmp_path):
    made = fake.study(tmp_path / "s", settings={"a": {}, "b": {}})
    fake.write(made)
    path = made.folder / "b/upstream/fold0-seed0/run.json"
    path.write_text(path.read_text().replace("calm", "joy"))
    with pytest.raises(RunError, match="joy"):
        gather(of_study(made))


def test_many_cells_take_seconds(tmp_path):
    settings = {f"s{i}": {"data.labelled_subjects": i} for i in range(1, 4)}
    made = fake.study(tmp_path / "big", tuple(f"m{i}" for i in range(9)), folds=5, seeds=2, settings=settings)
    fake.write(made)
    start = time.process_time()
    gathered = gather(of_study(made))
    # Two small files a cell: a tenth of a second each would be a minute for 600.
    assert time.process_time() - start < 0.1 * 300
    assert len(gathered.models) == 3 * 10 * (9 + 5)
