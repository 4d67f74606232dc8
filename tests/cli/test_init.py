"""A config for files of one's own, from what they look like."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import save_file

from mtpkdot.cli.main import main
from mtpkdot.data import FeatureData, Split

N = 48


def manifest(**columns) -> pd.DataFrame:
    """Samples of eight people, with these columns beside id and subject."""
    return pd.DataFrame(
        {"id": [f"clip{i:02d}" for i in range(N)], "subject": [f"p{i % 8}" for i in range(N)], **columns}
    )


def values(kind="label"):
    draw = np.random.default_rng(1)
    return [("calm", "upset")[i % 3 % 2] for i in range(N)] if kind == "label" else draw.normal(size=N).round(3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write a folder of a manifest and of files of features; the working directory is beside it."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "mine"
    place.mkdir()

    def write(table: pd.DataFrame, files=("face.csv", "belt.npz"), id="id", as_manifest="manifest.csv"):
        draw = np.random.default_rng(0)
        for file in files:
            path, array = place / file, draw.normal(size=(N, 3, 4)).astype(np.float32)
            ids = table[id].to_numpy(dtype=str) if id in table else np.arange(N).astype(str)
            kind = path.suffix.lower()
            if kind in (".csv", ".parquet"):
                made = pd.DataFrame(array[:, 0], columns=list("abcd"))
                made.insert(0, id, ids)
                made.to_csv(path, index=False) if kind == ".csv" else made.to_parquet(path, index=False)
            elif kind == ".npz":
                with path.open("wb") as out:
                    np.savez(out, features=array, ids=ids)
            elif kind == ".npy":
                np.save(path, array)
            elif kind == ".h5":
                with h5py.File(path, "w") as file:
                    file["features"], file["ids"] = array, ids.astype("S")
            else:
                save_file({"features": array}, path)
        written = place / as_manifest
        table.to_csv(written, index=False) if written.suffix.lower() == ".csv" else table.to_parquet(
            written, index=False
        )
        return "mine"

    return write


def made(*argv, out="mine.yaml"):
    """The data section that `init` has written, after it was found to hold."""
    assert main(["init", *map(str, argv)]) == 0
    config = yaml.safe_load(Path(out).read_text(encoding="utf-8"))
    arguments = config["data"]["init_args"]
    data = FeatureData(**{**arguments, "split": Split(**arguments["split"])})
    data.check()
    assert set(config["backbone"]) == set(data.modality_names)
    return arguments


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("face.csv", "belt.npz"), ["belt", "face"]),
        (("video features.parquet", "wrist.h5"), ["video", "wrist"]),
        (("00_camera.npy", "joint.safetensors"), ["features_00_camera", "features_joint"]),
    ],
)
@pytest.mark.parametrize("as_manifest", ["manifest.csv", "people.parquet"])
def test_every_kind_of_file_is_a_modality(files, names, as_manifest, folder):
    arguments = made(folder(manifest(label=values()), files, as_manifest=as_manifest))
    assert sorted(arguments["features"]) == names
    assert arguments["prevalent"] in ("face", "video", "features_00_camera")
    assert arguments["manifest"] == f"mine/{as_manifest}"
    assert (arguments["target"], arguments["task"]) == ("label", "classification")
    assert arguments["split"] == {"scheme": "kfold", "folds": 5}


def test_the_config_is_short_explained_and_never_written_over(folder, capsys, complaint):
    place = folder(manifest(label=values()))
    assert main(["init", place]) == 0
    printed, text = capsys.readouterr().out, Path("mine.yaml").read_text()
    assert text in printed
    assert "mtpkdot data check --config mine.yaml" in printed
    assert "mtpkdot fit --config mine.yaml" in printed
    assert len(text.splitlines()) < 22
    assert all(" # " in line for line in text.splitlines() if line and line[0] != "#" and not line.endswith(":"))
    # Few labelled rows make few steps a pass: at most 200 passes.
    config = yaml.safe_load(text)
    assert [config["teacher"], *config["backbone"].values()] == [{"fit": {"max_epochs": 200}}] * 3
    assert "--out" in complaint(["init", place])
    assert Path("mine.yaml").read_text() == text
    assert made(place, "--out", "b.yaml", out="b.yaml")["manifest"] == "mine/manifest.csv"


def test_parts_and_folds_of_the_manifest_are_used(folder, capsys):
    people = np.arange(N) % 8
    parts = np.select([people < 5, people < 6], ["Train", "dev"], "test")
    place = folder(manifest(label=values(), partition=parts, fold=people % 4))
    arguments = made(place)
    assert (arguments["split"], arguments["split_column"]) == ({"scheme": "column"}, "partition")
    arguments = made(place, "--split", "fold", "--out", "b.yaml", out="b.yaml")
    assert (arguments["split"], arguments["split_column"]) == ({"scheme": "fold_column", "fold": 0}, "fold")
    place = folder(manifest(label=values(), split=np.where(people < 6, "train", "test")))
    capsys.readouterr()
    assert made(place, "--out", "c.yaml", out="c.yaml")["split"]["scheme"] == "kfold"
    assert "The column split (test, train) does not name train, validation and test" in capsys.readouterr().out


def test_a_manifest_without_people_gets_a_note_on_the_consequence(folder, capsys):
    arguments = made(folder(manifest(label=values()).drop(columns="subject")))
    assert arguments["subject"] == "id"
    assert "a person may be in several parts" in capsys.readouterr().out
    parts = np.select([np.arange(N) < 30, np.arange(N) < 40], ["train", "validation"], "test")
    place = folder(manifest(label=values(), split=parts).drop(columns="subject"))
    assert made(place, "--out", "b.yaml", out="b.yaml")["subject"] is None


def test_targets_are_values_or_classes_by_what_they_look_like(folder):
    place = folder(manifest(valence=values("number"), arousal=values("number"), age=values("number")))
    arguments = made(place)
    assert (arguments["target"], arguments["task"]) == (["valence", "arousal"], "regression")
    levels = manifest(pain=np.arange(N) % 5)
    assert made(folder(levels), "--out", "b.yaml", out="b.yaml")["task"] == "classification"
    assert made("mine", "--task", "ordinal", "--out", "c.yaml", out="c.yaml")["task"] == "ordinal"
    assert made("mine", "--task", "regression", "--out", "d.yaml", out="d.yaml")["task"] == "regression"


def test_missing_features_are_masked_and_counted(folder, capsys):
    place = folder(manifest(label=values()), ("face.npz",))
    table = pd.DataFrame({"id": [f"clip{i:02d}" for i in range(5, N)], "pulse": np.arange(N - 5) / 7, "breath": 1.0})
    table.loc[3, "pulse"] = np.nan
    table.to_csv("mine/belt.csv", index=False)
    arguments = made(place)
    assert (arguments["missing"], arguments["nan"]) == ("mask", "zero")
    assert "5 rows lack belt" in capsys.readouterr().out


def test_data_that_cannot_be_trained_on_leave_no_config(folder, tmp_path, complaint):
    place = folder(manifest(label=values()))
    pd.DataFrame({"id": ["other"], "x": [1.0]}).to_csv("mine/belt2.csv", index=False)
    assert "belt2.csv and mine/manifest.csv have no id in common" in complaint(["init", place], 1)
    assert not list(tmp_path.glob("*.yaml"))


def test_odd_names_are_written_so_that_they_are_read_back(folder):
    table = manifest().rename(columns={"id": "Sample ID", "subject": "Participant"})
    table["yes: #1, {x}"], table["notes"] = values("number"), "null"
    place = folder(table, ("Gesicht (ü).csv", "wrist-2.npz"), id="Sample ID")
    arguments = made(place, "--prevalent", "Gesicht")
    assert (arguments["id"], arguments["subject"]) == ("Sample ID", "Participant")
    assert arguments["target"] == "yes: #1, {x}"


def test_other_files_than_features_are_left_out_and_named(folder, capsys):
    place = folder(manifest(label=values()))
    pd.DataFrame({"label": ["calm", "upset"], "meaning": ["a", "b"]}).to_csv("mine/legend.csv", index=False)
    assert set(made(place)["features"]) == {"face", "belt"}
    assert "legend.csv is left out: it has no column id" in capsys.readouterr().out
    arguments = made(
        "mine/manifest.csv", "--features", "x=mine/belt.npz", "y=mine/face.csv", "--prevalent", "y", "--out", "b.yaml",
        out="b.yaml",
    )  # fmt: skip
    assert arguments["features"] == {"x": "mine/belt.npz", "y": "mine/face.csv"}


@pytest.mark.parametrize(
    ("columns", "files", "options", "says"),
    [
        ({"label": 1}, (), [], "no feature file"),
        ({"label": 1}, ("face.csv",), [], "one feature file"),
        ({"label": 1}, ("a.csv", "b.npz"), [], "--prevalent"),
        ({"label": 1}, ("video.csv", "face.npz"), [], "--prevalent"),
        ({"label": 1}, ("face.csv", "b.npz"), ["--prevalent", "fcae"], "Did you mean face?"),
        ({"label": 1}, ("face.csv", "face.npz"), [], "--features"),
        ({"label": 1}, ("face.csv", "b.npz"), ["--features", "face"], "NAME=FILE"),
        ({"label": 1}, ("face.csv", "b.npz"), ["--features", "x=mine/b.npz", "x=mine/face.csv"], "names x twice"),
        ({"label": 1}, ("face.csv", "b.npz"), ["--features", "x=none.npz", "y=mine/b.npz"], "none.npz does not exist"),
        ({"label": 1}, [f"clip{i}.npy" for i in range(30)], [], "... (30 in all)"),
        ({"x": 1, "y": 2}, ("face.csv", "b.npz"), [], "--target"),
        ({"x": 1, "y": 2}, ("face.csv", "b.npz"), ["--target", "z"], "no column 'z'"),
        ({"x": 1, "y": 2}, ("face.csv", "b.npz"), ["--target", "x", "subject"], "not all numbers"),
        ({"label": 3}, ("face.csv", "b.npz"), ["--target", "label"], "too many for classes"),
        ({"label": 1}, ("face.csv", "b.npz"), ["--subject", "label"], "people"),
        ({"label": 1}, ("face.csv", "b.npz"), ["--manifest", "none.csv"], "none.csv does not exist"),
    ],
)
def test_ambiguous_files_are_one_line_with_the_option(columns, files, options, says, folder, complaint):
    kinds = {1: values(), 2: values("number"), 3: [f"text {i}" for i in range(N)]}
    place = folder(manifest(**{name: kinds[kind] for name, kind in columns.items()}), files)
    assert says in complaint(["init", place, *options])


@pytest.mark.parametrize("option", ["--target", "--subject", "--split"])
def test_a_feature_that_is_also_in_the_manifest_is_reported(option, folder, complaint):
    people = np.arange(N) % 8
    columns = {
        "--target": np.where(np.arange(N) // 8 % 2, "calm", "upset"),
        "--subject": people,
        "--split": np.select([people < 5, people < 6], ["train", "dev"], "test"),
    }
    place = folder(manifest(a=columns[option], label=values()))
    argv = ["init", place, option, "a"]
    if option != "--target":
        argv += ["--target", "label"]
    assert "face.csv has the column 'a', which describes the samples in the manifest" in complaint(argv, 1)


def test_words_for_missing_labels_and_suffixes_in_capitals_are_written_into_the_config(folder):
    levels = [["0", "1", "NA", "null"][(i + i // 8) % 4] for i in range(N)]
    place = folder(manifest(label=levels), ("face.CSV", "belt.NPZ"), as_manifest="people.CSV")
    arguments = made(place)
    assert arguments["missing_labels"] == ["NA", "null"]
    assert arguments["features"] == {"belt": "mine/belt.NPZ", "face": "mine/face.CSV"}


def test_a_manifest_by_another_path_is_not_a_feature_file(folder):
    place = folder(manifest(label=values()), as_manifest="people.csv")
    assert set(made(place, "--manifest", Path("mine/people.csv").resolve())["features"]) == {"face", "belt"}


def test_ids_that_occur_twice_are_named(folder, complaint):
    table = manifest(label=values())
    table.loc[1, "id"] = "clip00"
    assert "line 3: the id 'clip00' occurs twice" in complaint(["init", folder(table)], 1)


def test_a_manifest_with_semicolons_is_reported_with_the_advice_to_use_commas(folder, complaint):
    place = folder(manifest(label=values()))
    manifest(label=values()).to_csv("mine/manifest.csv", index=False, sep=";")
    assert "has one column, 'id;subject;label'. Write several, with commas" in complaint(["init", place])


def test_the_run_has_no_name_that_is_taken(folder, tmp_path):
    folder(manifest(label=values()))
    (tmp_path / "mine").rename(tmp_path / "features")
    assert main(["init", "features"]) == 0
    assert yaml.safe_load(Path("my_features.yaml").read_text())["pipeline"] == {"name": "my_features"}


def test_a_missing_folder_or_one_without_a_table_is_one_line(tmp_path, monkeypatch, complaint):
    monkeypatch.chdir(tmp_path)
    assert "nowhere does not exist" in complaint(["init", "nowhere"])
    assert "holds no table" in complaint(["init", "."])
    for name in ("a", "b"):
        pd.DataFrame({"id": [1], "x": [2.0]}).to_csv(f"{name}.csv", index=False)
    assert "--manifest FILE" in complaint(["init", "."])
    assert not list(tmp_path.glob("*.yaml"))


def test_the_config_trains_every_stage_to_its_table(folder, tmp_path):
    table = manifest(valence=values("number"), arousal=values("number"))
    table.loc[table["subject"].isin(["p1", "p2"]), ["valence", "arousal"]] = np.nan
    place = folder(table)
    assert main(["init", place]) == 0
    assert main(["data", "check", "--config", "mine.yaml"]) == 0
    stages = ("backbone.face", "backbone.belt", "teacher", "adapted", "hallucinator", "student")
    assert main(["fit", "--config", "mine.yaml", *(f"--{stage}.fit.max_epochs=1" for stage in stages)]) == 0
    assert "student (face)" in (tmp_path / "runs" / "mine" / "results.md").read_text()
