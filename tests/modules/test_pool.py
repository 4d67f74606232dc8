"""The stage that combines teachers of several kinds."""

import json

import pandas as pd
import pytest
import torch

from mtpkdot.modules import PoolModule
from tests.modules.conftest import batches

TASK = {"task": "classification", "targets": ["a", "b"], "modalities": {"video": [4], "signal": [3]}}


def test_the_table_holds_the_answers_on_the_training_and_selecting_parts(pool, data):
    for part in ("train", "validation"):
        for batch in batches(data, part):
            answers = pool.outputs(batch)["video+signal"]
            torch.testing.assert_close(pool.table.output[batch.index], answers, atol=1e-4, rtol=1e-4)
            assert pool.table.valid[batch.index].all()


def test_nothing_of_the_test_part_is_in_the_table(pool, data):
    test = data.positions("test")
    assert not pool.table.valid[test].any()
    assert not pool.table.output[test].any()


def test_people_are_numbered_by_row(pool, data):
    samples = data.samples
    for person in set(samples.subjects):
        assert len(pool.people[torch.from_numpy(samples.subjects == person)].unique()) == 1
    assert len(pool.people.unique()) == len(set(samples.subjects))


def test_members_are_of_several_kinds_and_their_shares_are_weights(pool):
    names = pool.pool.weights.names
    assert {name.partition(".")[0] for name in names} == {"backbone", "adapted", "joint", "linear", "graph"}
    assert "linear.video+signal.2" in names
    assert pool.pool.weights.shares.sum() == pytest.approx(1)


def test_the_pool_is_evaluated_as_every_stage(pooled_root):
    table = pd.read_parquet(pooled_root / "plus" / "predictions.parquet")
    assert set(table.loc[table["stage"] == "pool", "split"]) == {"validation", "test"}
    assert "pool" not in json.loads((pooled_root / "tiny" / "run.json").read_text())["stages"]


def test_rows_without_the_privileged_modality_are_answered(pool, data):
    batch = batches(data, "train")[0]
    batch.masks["signal"][:] = False
    batch.inputs["signal"][:] = torch.nan
    assert pool.outputs(batch)["video+signal"].isfinite().all()


def test_a_pool_of_the_prevalent_modality_reads_no_other(pool, data):
    batch = batches(data, "train")[0]
    pool.alone = True
    rows, networks = pool.read(batch)
    batch.inputs["signal"] += 1
    again, _ = pool.read(batch)
    assert list(rows.values) == list(again.values) == ["video"]
    assert list(networks) == ["backbone.video"]
    control = PoolModule(**TASK, prevalent="video", members_see="prevalent")
    assert control.pool.groups == [["video"]]
    assert control.heads == ["video"]


def test_steps_of_a_recording_are_read_as_mean_and_deviation(pool, data):
    batch = batches(data, "train")[0]
    rows, _ = pool.read(batch)
    x = batch.inputs["video"]
    torch.testing.assert_close(rows.values["video"][:, : x.shape[2]], x.mean(dim=1))
    torch.testing.assert_close(rows.values["video"][:, x.shape[2] :], x.std(dim=1, unbiased=False))


@pytest.mark.parametrize("setting", [{"rounds": 0}, {"power": 0.0}, {"most_rows": 0}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match=r"pool\.model"):
        PoolModule(**TASK, prevalent="video", **setting)
