import re

import numpy as np
import pandas as pd
import pytest
import torch

from mtpkdot.data import PlantedData
from mtpkdot.data.splits import Split
from mtpkdot.losses.task import class_probabilities
from mtpkdot.pipeline.results import (
    Score,
    below_bound,
    discard_torn,
    markdown,
    prediction_table,
    read_scores,
    score,
    table,
    write_results,
)


@pytest.fixture(params=["classification", "ordinal", "regression"])
def data(request):
    made = "regression" if request.param == "regression" else "classification"
    data = PlantedData(subjects=6, samples_per_subject=5, task=made, split=Split("kfold", folds=3))
    data.samples.labelled[3] = False
    data.task = request.param  # planted classes have no order, but may be scored as if they had
    return data


def perfect(data, index):
    target = torch.from_numpy(data.samples.target)[index]
    if data.task == "ordinal":
        return torch.where(target[:, None] > torch.arange(3), 20.0, -20.0)
    return 20 * torch.nn.functional.one_hot(target, 4).float() if data.task == "classification" else target


def test_a_perfect_model_scores_one_on_labelled_samples_only(data):
    index = torch.arange(10)
    scores = score(data, "student", "video", "test", index, perfect(data, index))
    assert all(row.value == pytest.approx(float(row.metric != "mae")) and row.n == 9 for row in scores)
    output = perfect(data, index)
    output[3] = torch.full_like(output[3], torch.nan)
    assert [row.value for row in score(data, "student", "video", "test", index, output)] == [r.value for r in scores]


def test_predictions_of_unlabelled_samples_have_no_truth(data):
    index = torch.tensor([4, 3, 7])
    frame = prediction_table(data, "student", "test", index, perfect(data, index))
    ids = data.samples.ids[index.numpy()]
    for _, part in frame.groupby("target"):
        assert part["id"].tolist() == ids.tolist()
        assert part["truth"].isna().tolist() == [False, True, False]
        known = part[part["truth"].notna()]
        assert (known["truth"] == known["prediction"]).all()


@pytest.mark.parametrize("data", ["ordinal"], indirect=True)
def test_predictions_of_ordered_classes_come_with_the_probability_of_every_class(data):
    index, output = torch.arange(12), torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    frame = prediction_table(data, "student", "test", index, output)
    columns = [f"p_{name}" for name in data.samples.class_names]
    assert frame.columns.tolist()[-6:] == ["truth", "prediction", *columns]
    np.testing.assert_array_equal(frame[columns], class_probabilities("ordinal", output))
    assert frame["prediction"].tolist() == [f"state{int(level)}" for level in (output > 0).sum(dim=1)]


def test_the_table_shows_means_over_targets_and_the_gap():
    scores = []
    for stage, modality, value in (("backbone", "face", 0.5), ("teacher", "face+eda", 0.8), ("student", "face", 0.6)):
        scores += [Score(stage, modality, "test", "ccc", "valence", value - 0.1, 9)]
        scores += [Score(stage, modality, "test", "ccc", "mean", value, 9)]
    frame = table(scores)
    assert frame.loc["student (face)", "test ccc"] == 0.6
    text = markdown(scores, "face", "clean", "mine")
    assert "lower bound 0.5000 (face alone), teacher 0.8000 (gap +0.3000), student 0.6000 (+0.1000)" in text
    assert "| student (face) " in text


def test_names_of_modalities_are_text_in_the_table():
    odd = "a|b\n# c `d` [e](javascript:f)"
    scores = [Score(stage, odd, "test", "accuracy", "label", 0.5, 10) for stage in ("backbone", "teacher", "student")]
    text = markdown(scores, odd, "clean", odd)
    assert sum(line.startswith("#") for line in text.splitlines()) == 1
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")} == {3}
    assert "](" not in text
    assert text.count("`") == text.count("\\`") == 2 * (1 + 3 + 1)


def test_written_results_are_read_back(tmp_path):
    scores = [Score("student", "face", "test", "accuracy", "state", 0.25, 8)]
    frame = pd.DataFrame({"id": ["a"], "truth": [np.nan]})
    write_results(tmp_path, scores, frame, "# text\n")
    assert read_scores(tmp_path) == scores
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.parquet", "results.json", "results.md"]
    assert read_scores(tmp_path / "nowhere") == []


@pytest.mark.parametrize("gone", [None, "predictions.parquet", "results.json"])
@pytest.mark.parametrize("torn", ["predictions.parquet", "results.json"])
def test_a_torn_file_is_discarded_whatever_becomes_of_the_other(gone, torn, tmp_path):
    write_results(
        tmp_path, [Score("student", "face", "test", "accuracy", "state", 0.25, 8)], pd.DataFrame({"id": ["a"]}), ""
    )
    whole = {"predictions.parquet", "results.json"} - {torn, gone}
    (tmp_path / torn).write_bytes((tmp_path / torn).read_bytes()[:-9])
    if gone is not None:
        (tmp_path / gone).unlink()
    discard_torn(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} - {"results.md"} == whole


@pytest.mark.parametrize(
    ("student", "parts"),
    [
        ({"validation": 0.6, "test": 0.6}, ""),
        ({"validation": 0.6, "test": 0.4}, "test"),
        ({"validation": 0.4}, "validation"),
    ],
)
def test_a_student_below_its_lower_bound_on_any_part_gets_a_line(student, parts):
    scores = [
        Score(stage, "video", split, "accuracy", "state", value, 100)
        for split, value in student.items()
        for stage, value in (("backbone", 0.5), ("student", value))
    ]
    found = below_bound(scores, "video", "mtpkdot")
    assert len(found) == bool(parts)
    assert not parts or f"on {parts} (0.4000 < 0.5000)" in found[0]
