import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtpkdot.cli.main import main

SHARED = os.environ.get("MTPKDOT_TEST_DATA", "")
needs_shared_data = pytest.mark.skipif(
    not SHARED or not Path(SHARED).is_dir(), reason="MTPKDOT_TEST_DATA names no folder of real data"
)


def test_digits_are_split_into_halves_that_make_the_image(tmp_path, capsys):
    from sklearn.datasets import load_digits

    assert main(["data", "import", "digits", "bundled", str(tmp_path / "digits")]) == 0
    assert "300 train" in capsys.readouterr().out
    lower, upper = (np.load(tmp_path / "digits" / f"{name}.npz") for name in ("lower", "upper"))
    images, digits = load_digits(return_X_y=True)
    np.testing.assert_array_equal(np.concatenate([upper["features"], lower["features"]], axis=1), images)
    manifest = pd.read_csv(tmp_path / "digits" / "manifest.csv")
    assert manifest["digit"].tolist() == digits.tolist()
    assert lower["ids"].tolist() == manifest["id"].tolist()
    assert manifest["split"].value_counts().to_dict() == {"test": 1197, "train": 300, "validation": 300}


def test_hidden_labels_are_training_labels_only(tmp_path):
    assert main(["data", "import", "digits", str(tmp_path / "d"), "--train", "400", "--labelled", "60"]) == 0
    manifest = pd.read_csv(tmp_path / "d" / "manifest.csv")
    assert manifest.groupby("split")["digit"].count().to_dict() == {"test": 1097, "train": 60, "validation": 300}


def test_a_folder_with_files_is_never_written_to(tmp_path, complaint):
    (tmp_path / "mine.txt").write_text("precious")
    assert "not empty" in complaint(["data", "import", "digits", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "argv",
    [
        ["data"],
        ["data", "import", "mnist", "a", "b"],
        ["data", "import", "pom", "nowhere", "out"],
        ["data", "import", "pom", "out"],
        ["data", "import", "digits", "elsewhere", "out"],
        ["data", "import", "digits", "out", "--labelled", "1000"],
        ["data", "import", "stressid", ".", "out", "--train", "3"],
        ["data", "import", "stressid", ".", "out"],
        ["data", "import", "pom", ".", "out"],
    ],
)
def test_mistakes_of_an_import_leave_nothing_behind_and_advise_something_else(argv, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert f"`mtpkdot {' '.join(argv[:3])} {argv[-1]}" not in complaint(argv)
    assert not list(tmp_path.iterdir())


def test_the_first_lost_file_of_a_data_set_is_named_and_where_it_is_to_be_had(tmp_path, complaint):
    source = tmp_path / "pom"  # a folder of that name was taken for the result
    source.mkdir()
    line = complaint(["data", "import", "pom", str(source), str(tmp_path / "out")])
    assert f"{source / 'video_train.h5'} does not exist (and 8 more of its files)" in line
    assert "https://github.com/pliang279/MFN" in line
    assert "mtpkdot data import" not in line


@needs_shared_data
def test_stressid_keeps_the_recordings_and_columns_that_are_safe(tmp_path):
    assert main(["data", "import", "stressid", f"{SHARED}/stressid", str(tmp_path / "s")]) == 0
    manifest = pd.read_csv(tmp_path / "s" / "manifest.csv")
    talking = pd.read_csv(tmp_path / "s" / "manifest_talking.csv")
    physiology = pd.read_csv(tmp_path / "s" / "physiology.csv")
    assert (len(manifest), manifest["subject"].nunique(), manifest["task"].nunique()) == (599, 55, 11)
    assert (len(talking), talking["task"].nunique()) == (370, 7)
    assert physiology.shape[1] == 47
    assert not {"nNN", "totalpower"} & set(physiology.columns)


@needs_shared_data
def test_pom_marks_all_zero_steps_as_missing(tmp_path):
    assert main(["data", "import", "pom", f"{SHARED}/pom", str(tmp_path / "p")]) == 0
    video = np.load(tmp_path / "p" / "video.npz")
    assert video["features"].shape == (903, 20, 41)
    np.testing.assert_array_equal(video["mask"], (video["features"] != 0).any(axis=2))
    assert abs(1 - video["mask"][:600].mean() - 0.79) < 0.01
    counts = pd.read_csv(tmp_path / "p" / "manifest_video.csv")["split"].value_counts()
    assert counts["train"] == 600
    assert counts["validation"] == video["mask"][600:700].any(axis=1).sum()
