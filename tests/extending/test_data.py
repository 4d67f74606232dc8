"""Own data sets, of raw recordings and of features, go all the way without a change to the package."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mtpkdot import trust
from mtpkdot.cli.main import main
from mtpkdot.data.media.pictures import PictureSettings
from mtpkdot.data.media.recipe import Recipe
from mtpkdot.data.media.store import Content
from mtpkdot.data.media.tracks import SignalTrack, plain_of
from mtpkdot.data.splits import Split
from mtpkdot.data.synthetic.writing import write_video
from mtpkdot.errors import DataError, RunError
from tests.conftest import TINY
from tests.extending.gait import Gait
from tests.extending.recola import Recola
from tests.loops import over

PEOPLE, SECONDS, RATE, SIZE = 6, 4, 10, 32
HERE = Path(__file__).parent
DIM = 16
FRAMES = {"class_path": "FrameEncoder", "init_args": {"model": "test_resnet", "dim": DIM}}
PIECES = {"class_path": "SignalEncoder", "init_args": {"channels": [8], "dim": DIM}}


def write_recordings(root):
    """Videos whose brightness follows arousal, with ratings at 25 Hz and physiology at 100 Hz."""
    for folder in ("video", "ratings", "physiology"):
        (root / folder).mkdir(parents=True)
    for person in range(PEOPLE):
        random = np.random.default_rng(person)
        phase = random.uniform(0, 6, 2)

        def course(times, which, phase=phase):
            return 0.8 * np.sin(2 * times + phase[which])

        shown, rated, felt = (np.arange(SECONDS * rate) / rate for rate in (RATE, 25, 100))
        light = 128 + 100 * course(shown, 0)[:, None, None, None]
        frames = np.clip(light + random.normal(0, 3, (len(shown), SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
        write_video(root / "video" / f"P{person}.mp4", [frames], None, Fraction(RATE))
        ratings = {"time": rated, "arousal": course(rated, 0), "valence": course(rated, 1)}
        pd.DataFrame(ratings).to_csv(root / "ratings" / f"P{person}.csv", index=False)
        signals = {"time": felt, "eda": course(felt, 1), "ecg": random.normal(size=len(felt))}
        pd.DataFrame(signals).to_csv(root / "physiology" / f"P{person}.csv", index=False)


def recola(folder):
    """The section of the data, and the encoders of its modalities."""
    write_recordings(folder / "recola")
    arguments = {"root": str(folder / "recola"), "frames": 2, "clips": 4, "hop": 2, "prepare_workers": 1}
    arguments |= {"pictures": {"size": SIZE, "crop": "whole"}, "augment": {"zoom": 0.1}, "views": 2, "batch_size": 8}
    return arguments, {"video": FRAMES, "physiology": PIECES}


def gait(folder):
    """Likewise; pain shows plainly in the soles."""
    random = np.random.default_rng(0)
    people, pain = np.repeat([f"p{i}" for i in range(8)], 6), np.tile([0, 1], 24)
    np.savez(
        folder / "gait.npz",
        ids=np.array([f"walk{i}" for i in range(48)]),
        people=people,
        pain=pain,
        keypoints=(random.normal(size=(48, 3, 4)) + 0.5 * pain[:, None, None]).astype(np.float32),
        soles=(random.normal(size=(48, 5)) + 3 * pain[:, None]).astype(np.float32),
    )
    encoder = {"class_path": "FeatureEncoder", "init_args": {"dim": DIM}}
    return {"file": str(folder / "gait.npz"), "batch_size": 16}, {"keypoints": encoder, "soles": encoder}


KINDS = {"recola": (Recola, recola, "video"), "gait": (Gait, gait, "keypoints")}


@pytest.fixture(scope="module", params=KINDS)
def experiment(request, tmp_path_factory):
    """A config of one own data set, and its folder."""
    kind, make, _ = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    arguments, encoders = make(folder)
    split = {"scheme": "kfold", "folds": 3, "validation": 0.3}
    stages = {
        key: {**value, "fit": {"max_epochs": 1}}
        for key, value in TINY.items()
        if isinstance(value, dict) and "fit" in value
    }
    config = {
        **TINY,
        **stages,
        "data": {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": {**arguments, "split": split}},
        "backbone": {name: {"model": {"encoder": e}, "fit": {"max_epochs": 1}} for name, e in encoders.items()},
        "pipeline": {"name": "own", "root": str(folder / "runs")},
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return request.param, folder


def test_own_data_are_checked_trained_on_tested_and_reported(experiment, capsys, monkeypatch):
    name, folder = experiment
    monkeypatch.chdir(folder)
    config = ["--config", "own.yaml"]
    assert main(["data", "check", *config]) == 0
    assert "ready: " in capsys.readouterr().out
    assert main(["fit", *config]) == 0
    assert main(["test", "runs/own"]) == 0
    assert main(["report", "runs/own", "--out", "report"]) == 0
    assert list((folder / "report").glob("*.html"))
    table = pd.read_parquet(folder / "runs" / "own" / "predictions.parquet")
    student = table[(table["stage"] == "student") & (table["split"] == "test")]
    assert len(student)
    assert not student.duplicated(["id", "target"]).any()
    assert set(table["stage"]) >= {"student", "teacher", f"backbone.{KINDS[name][2]}"}


def test_own_data_are_compared_by_two_methods(experiment, monkeypatch):
    folder = experiment[1]
    monkeypatch.chdir(folder)
    argv = ["crossval", "--config", "own.yaml", "--methods", "none,mtpkdot", "--folds", "2", "--jobs", "1"]
    assert main([*argv, "--name", "study"]) == 0
    table = pd.read_parquet(folder / "runs" / "study" / "predictions.parquet")
    assert {"none", "mtpkdot"} <= set(table["method"])


def test_windows_of_own_recordings_hold_what_was_recorded(tmp_path):
    arguments, _ = recola(tmp_path)
    data = Recola(**{**arguments, "pictures": PictureSettings(size=SIZE, crop="whole"), "augment": None, "views": 1})
    assert data.modalities == {"video": [2, 3, SIZE, SIZE], "physiology": [100, 2]}
    index = np.arange(len(data.samples) * 4)
    rows, _ = data.compared(index, torch.zeros(len(index), 2))
    assert (data.unit, len(rows.ids), len(set(rows.ids.tolist()))) == ("frames", *[PEOPLE * SECONDS * RATE] * 2)
    ratings = pd.read_csv(tmp_path / "recola" / "ratings" / "P0.csv")
    seen = rows.target[rows.subjects == "P0"]
    np.testing.assert_allclose(
        seen[:, 0], np.interp(np.arange(40) / RATE, ratings["time"], ratings["arousal"]), atol=1e-6
    )
    signal = pd.read_csv(tmp_path / "recola" / "physiology" / "P0.csv")
    positions = np.flatnonzero(data.samples.subjects == "P0")[1:2]
    piece = data.samples.features["physiology"].read(positions, np.zeros(1, int))[0, 3].numpy()
    # The second window begins with step 2; its fourth step shows the frames 10 and 11, around 1.05 s.
    expected = np.interp(0.06 + np.arange(100) / 50, signal["time"], signal["eda"])
    np.testing.assert_allclose(piece[:, 0], expected, atol=1e-5)


def test_raw_files_of_own_recordings_become_the_input_of_a_student(tmp_path):
    arguments, _ = recola(tmp_path)
    arguments |= {"pictures": PictureSettings(size=SIZE, crop="whole"), "augment": None, "views": 1}
    root = tmp_path / "recola"
    for name in ("video", "physiology"):
        data = Recola(**arguments, prevalent=name, split=Split(scheme="kfold", folds=3))
        data.setup("fit")
        rows = np.flatnonzero(data.samples.subjects == "P1").tolist()
        batch = data.dataset.__getitems__(rows)
        recipe = Recipe.of(json.loads(json.dumps(data.recipe())))
        raw = root / "video" / "P1.mp4" if name == "video" else root / "physiology" / "P1.csv"
        found = recipe.read(raw, coded=True, video=root / "video" / "P1.mp4")
        assert torch.equal(found.x, batch.inputs[name])
        assert torch.equal(found.mask, batch.masks[name])


class Numbers(SignalTrack):
    """Signals of files that numpy has written."""

    def read(self, path: Path) -> Content:
        """Return a row per channel."""
        return Content({}, {}, {f"signal.{name}": row for name, row in zip(self.columns, np.load(path), strict=True)})


def test_an_own_reader_of_raw_files_is_named_by_the_recipe_and_imported_if_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(trust, "_granted", set())
    values = np.random.default_rng(0).normal(size=(2, 250)).astype(np.float32)
    np.save(tmp_path / "P0.npy", values)
    plain = {"prevalent": "hand", "media": {"windows": {"frames": 2, "clips": 3}, "frame_rate": 10.0, "pictures": {}}}
    plain["media"]["tracks"] = {"hand": plain_of(Numbers(0.5, 50.0, ("eda", "ecg")))}
    plain = json.loads(json.dumps(plain))
    with pytest.raises(RunError, match=r"names tests\.extending\.test_data\.Numbers"):
        Recipe.of(plain)
    found = Recipe.of(plain, trust=["tests"]).read(tmp_path / "P0.npy")
    assert (found.x.shape, len(found.times)) == ((9, 3, 25, 2), 50)
    # The fourth step shows the frames 6 and 7, around 0.65 s.
    np.testing.assert_array_equal(found.x[1, 0].numpy(), values[:, 20:45].T)
    np.save(tmp_path / "short.npy", values[:, :20])
    with pytest.raises(DataError, match=r"short\.npy is shorter than the 0\.5 s of a step"):
        Recipe.of(plain, trust=["tests"]).read(tmp_path / "short.npy")
    trust.remember(plain)  # as a training does
    assert Recipe.of(plain).track == Numbers(0.5, 50.0, ["eda", "ecg"])


def test_a_raw_file_of_another_form_is_one_line(tmp_path):
    track = Recola(root=str(tmp_path)).physiology
    table = tmp_path / "P0.csv"
    for text, told in {
        "time,eda\n0,1\n1,2\n": "has no column 'ecg', only time, eda",
        "time,eda,ecg\n0,1,1\n0,2,2\n": "line 3: time does not increase",
        "time,eda,ecg\n0,1,1\n1,x,2\n": "line 3 holds 'x' in the column 'eda'",
    }.items():
        table.write_text(text)
        with pytest.raises(DataError, match=told):
            track.read(table)


@over("name", ["recola", "gait"])
def test_an_own_data_set_takes_few_lines(name):
    assert len((HERE / f"{name}.py").read_text().splitlines()) <= 70
