"""Which frames and signal samples are in which sample, and who is in which part: calculated a second time."""

import re

import numpy as np
import pytest

from mtpkdot.data import BioVid, Signal, Split
from mtpkdot.data.biovid import twin as biovid
from mtpkdot.data.biovid.index import HOLDOUT, LOW_REACTION
from mtpkdot.data.media.check import check
from mtpkdot.data.media.pictures import PictureSettings
from mtpkdot.errors import DataError
from tests.data.media_helpers import copied, decoded, image, put

SIZE = 48
SETTINGS = {"pictures": PictureSettings(size=SIZE), "prepare_workers": 1, "frames": 7, "start": 1.0, "stop": 4.5}
TWO_FOLDS = Split(scheme="kfold", folds=2, validation=0.4)


def made(root, store, **options):
    return BioVid(**{"root": str(root), "store": str(store), "split": TWO_FOLDS, **SETTINGS, **options})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def data(biovid_twin, store):
    return made(biovid_twin, store)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The layout of frames, with facial EMG."""
    root = tmp_path_factory.mktemp("frames") / "raw"
    biovid.synthesize(root, subjects=3, clips=1, classes=("BL1", "PA4"), size=SIZE, part="PartB", layout="frames")
    return root


def pictures(data, rows=None):
    rows = np.arange(len(data.samples)) if rows is None else rows
    return data.samples.features["video"].read(rows, np.zeros_like(rows)).numpy()


def test_the_frames_of_a_video_are_evenly_spaced_from_start_to_stop(data, biovid_twin):
    for id, seen in zip(data.samples.ids, pictures(data), strict=True):
        frames, times = decoded(biovid_twin / "PartA" / "video" / id.split("-")[0] / f"{id}.mp4")
        inside = [number for number, time in enumerate(times) if 1.0 <= round(time, 6) < 4.5]
        assert (inside[0], inside[-1]) == (25, 112)
        raw = np.stack(frames).transpose(0, 3, 1, 2).astype(float)
        for place, picture in enumerate(seen):
            wanted = inside[round(place * (len(inside) - 1) / 6)]
            distance = np.abs(raw - picture).mean(axis=(1, 2, 3))
            assert distance[wanted] < 3
            assert distance.argmin() == wanted


@pytest.mark.parametrize("use_lists", [True, False])
def test_the_frames_of_a_folder_are_kept_byte_for_byte(folders, tmp_path, use_lists):
    data = made(folders, tmp_path, use_lists=use_lists)
    first, last = (50, 70) if use_lists else (26, 113)
    for id, seen in zip(data.samples.ids, pictures(data), strict=True):
        folder = folders / ("4" if "PA4" in id else "0") / id
        wanted = [first + round(place * (last - first) / 6) for place in range(7)]
        expected = [image(folder / f"img_{number:05d}.jpg") for number in wanted]
        np.testing.assert_array_equal(seen, np.stack(expected))


@pytest.mark.parametrize("missing", ["repeat", "mask"])
def test_a_missing_frame_is_the_one_before_it_or_masked(folders, tmp_path, missing):
    root = copied(folders, tmp_path / "raw")
    clip = next(iter((root / "4").iterdir()))
    for number in (50, 51, 57, 60):  # 57 and 60 are wanted
        (clip / f"img_{number:05d}.jpg").unlink()
    data = made(root, tmp_path / "store", missing_frames=missing)
    row = data.samples.ids.tolist().index(clip.name)
    numbers = [49, 53, 56, 59, 63, 67, 70] if missing == "repeat" else [None, 53, None, None, 63, 67, 70]
    seen = pictures(data, np.array([row]))[0]
    for place, number in enumerate(numbers):
        assert data.samples.masks["video"][row, place] == (number is not None)
        expected = np.zeros_like(seen[0]) if number is None else image(clip / f"img_{number:05d}.jpg")
        np.testing.assert_array_equal(seen[place], expected)


def test_signals_are_the_samples_from_start_to_stop(biovid_twin, store):
    signals = {"skin": Signal(["gsr"]), "muscle": Signal(["emg_trapezius", "ecg"])}
    data = made(biovid_twin, store, signals=signals)
    rows = np.arange(len(data.samples))
    for name, columns in (("skin", [1]), ("muscle", [3, 2])):
        got = data.samples.features[name].read(rows, np.zeros_like(rows)).numpy()
        assert got.shape == (len(rows), round(3.5 * 512), len(columns))
        for row, id in enumerate(data.samples.ids):
            path = biovid_twin / "PartA" / "biosignals_filtered" / id.split("-")[0] / f"{id}_bio.csv"
            table = np.loadtxt(path, skiprows=1)
            assert table[512, 0] == 1_000_000  # microseconds: sample 512 is where second 1 begins
            np.testing.assert_array_equal(got[row], table[512 : 512 + 1792, columns].astype(np.float32))


def test_filters_act_on_the_whole_clip_before_it_is_cut(biovid_twin, store):
    from scipy.signal import butter, sosfiltfilt

    data = made(biovid_twin, store, signals={"muscle": Signal(["emg_trapezius"], highpass=20, lowpass=200)})
    id = data.samples.ids[0]
    path = biovid_twin / "PartA" / "biosignals_filtered" / id.split("-")[0] / f"{id}_bio.csv"
    whole = sosfiltfilt(butter(4, (20, 200), "bandpass", fs=512, output="sos"), np.loadtxt(path, skiprows=1)[:, 3])
    got = data.samples.features["muscle"].read(np.array([0]), np.array([0]))[0, :, 0].numpy()
    np.testing.assert_allclose(got, whole[512 : 512 + 1792], atol=1e-3 * whole.std())


def test_clips_of_unlabelled_classes_are_kept_without_a_label(biovid_twin, store):
    data = made(biovid_twin, store, unlabelled=["PA2"])
    names = np.array([id.split("-")[1] for id in data.samples.ids])
    assert sorted(set(names)) == ["BL1", "PA2", "PA4"]
    assert data.targets == ["BL1", "PA4"]
    np.testing.assert_array_equal(data.samples.labelled, names != "PA2")
    assert data.samples.target[names == "BL1"].tolist() == [0] * 5
    assert data.samples.target[names == "PA4"].tolist() == [1] * 5
    turned = made(biovid_twin, store, classes=["PA4", "BL1"]).samples
    assert set(turned.target[np.char.find(turned.ids, "PA4") >= 0]) == {0}


def test_parts_are_disjoint_by_subject_and_every_subject_is_tested_once(biovid_twin, store):
    tested = []
    for fold in range(5):
        data = made(biovid_twin, store, split=Split(scheme="loso", fold=fold, validation=0.3))
        people = [set(data.samples.subjects[data.parts == part]) for part in ("train", "validation", "test")]
        assert sum(map(len, people)) == len(set.union(*people)) == 5
        tested += people[2]
    assert sorted(tested) == sorted(set(tested)) == biovid.subject_ids(5)


def test_reactive_subjects_and_the_hold_out_follow_their_lists(biovid_twin, store):
    reactive = made(biovid_twin, store, subjects="reactive")
    everybody = set(biovid.subject_ids(5))
    assert everybody & set(LOW_REACTION)
    assert set(reactive.samples.subjects) == everybody - set(LOW_REACTION)
    official = made(biovid_twin, store, split=Split(scheme="official", validation=0.4))
    assert set(official.samples.subjects[official.parts == "test"]) == everybody & set(HOLDOUT)
    assert not set(official.samples.subjects[official.parts != "test"]) & set(HOLDOUT)
    whole = set(biovid.subject_ids(87))
    assert len(whole) == 87
    assert len(whole - set(LOW_REACTION)) == 67
    assert len(whole & set(HOLDOUT)) == 26


def test_facial_muscles_are_in_part_b_alone(biovid_twin, folders, tmp_path):
    signals = {"face": Signal(["emg_corrugator"])}
    with pytest.raises(DataError, match=r"_bio.csv: has no column 'emg_corrugator', only gsr, ecg, emg_trapezius"):
        _ = made(biovid_twin, tmp_path / "a", signals=signals).samples
    data = made(folders, tmp_path / "b", signals=signals)
    assert data.samples.masks["face"].all()


def test_a_clip_without_signals_has_a_masked_modality(biovid_twin, tmp_path):
    root = copied(biovid_twin, tmp_path / "raw")
    path = next((root / "PartA" / "biosignals_filtered").rglob("*PA4*_bio.csv"))
    path.unlink()
    data = made(root, tmp_path / "store")
    row = data.samples.ids.tolist().index(path.name.removesuffix("_bio.csv"))
    present = data.samples.masks["physiology"].any(axis=1)
    assert not present[row]
    assert present.sum() == len(present) - 1
    rows = np.array([row])
    assert not data.samples.features["physiology"].read(rows, np.zeros_like(rows)).any()


@pytest.mark.parametrize("seconds", ["milliseconds", "doubled"])
def test_a_time_column_in_another_unit_is_an_error(biovid_twin, tmp_path, seconds):
    root = copied(biovid_twin, tmp_path / "raw")
    path = next((root / "PartA" / "biosignals_filtered").rglob("*PA4*_bio.csv"))
    header, *lines = path.read_text().splitlines()
    factor = 1e-3 if seconds == "milliseconds" else 2
    cells = [line.split("\t") for line in lines]
    rows = ["\t".join([f"{float(time) * factor:.4f}", *rest]) for time, *rest in cells]
    put(path, "\n".join([header, *rows]) + "\n")
    with pytest.raises(DataError, match=f"{path.name}: .*samples") as caught:
        _ = made(root, tmp_path / "store").samples
    assert "microseconds" in str(caught.value)


def shortened(biovid_twin, out, kind):
    """A copy in which one clip ends after 3 s."""
    root = copied(biovid_twin, out)
    if kind == "signals":
        path = next((root / "PartA" / "biosignals_filtered").rglob("*PA4*_bio.csv"))
        put(path, "".join(path.read_text().splitlines(keepends=True)[: 3 * 512 + 1]))
        return root, path.name.removesuffix("_bio.csv")
    from fractions import Fraction

    from mtpkdot.data.synthetic.writing import write_video

    path = next((root / "PartA" / "video").rglob("*PA4*.mp4"))
    frames = np.stack(decoded(path)[0][:75])
    path.unlink()
    write_video(path, [frames], None, Fraction(25))
    return root, path.stem


@pytest.mark.parametrize("kind", ["signals", "video"])
def test_a_clip_that_ends_early_is_an_error_or_left_out_and_reported(biovid_twin, tmp_path, capsys, kind):
    root, name = shortened(biovid_twin, tmp_path / "raw", kind)
    says = rf"of {name} ends after 3\.\d+ s, before data.init_args.stop; 1 clips do not last from start to stop"
    with pytest.raises(DataError, match=says):
        _ = made(root, tmp_path / "store").samples
    data = made(root, tmp_path / "store", on_error="skip")
    assert name not in data.samples.ids
    assert len(data.samples) == 9
    assert "1 clips do not last from start to stop, which are left out" in capsys.readouterr().out
    assert name in made(root, tmp_path / "store", stop=2.8).samples.ids
    problems = [p for p in check(made(root, tmp_path / "store")).inventory.problems if "ends after" in p.what]
    assert all(name in problem.path.name for problem in problems)
    note, problem = sorted(problems, key=lambda problem: problem.fatal)
    assert re.fullmatch(r"ends after 3\.\d+ s of 5\.5 s", note.what)
    assert re.fullmatch(r"(\w+ )?ends after 3\.\d+ s, before data.init_args.stop", problem.what)
    early = check(made(root, tmp_path / "store", stop=2.8))
    assert [problem.fatal for problem in early.inventory.problems if "ends after" in problem.what] == [False]


def retimed(biovid_twin, out, change):
    """A copy in which the rows (n, 1 + channels) of one clip's signals are others."""
    root = copied(biovid_twin, out)
    path = next((root / "PartA" / "biosignals_filtered").rglob("*PA4*_bio.csv"))
    header = path.read_text().splitlines()[0]
    rows = change(np.loadtxt(path, skiprows=1))
    put(path, "\n".join([header, *("\t".join(f"{value:.6f}" for value in row) for row in rows)]) + "\n")
    return root, path.name.removesuffix("_bio.csv"), rows


@pytest.mark.parametrize(("seconds", "fatal"), [(0.5, []), (3.0, [True])])
def test_signals_that_begin_late_are_not_reported_to_end_early(biovid_twin, tmp_path, seconds, fatal):
    root, name, _ = retimed(biovid_twin, tmp_path / "raw", lambda rows: rows[round(512 * seconds) :])
    problems = [p for p in check(made(root, tmp_path / "store")).inventory.problems if name in p.path.name]
    assert f"begins at {seconds:.2f} s of 5.5 s" in [problem.what for problem in problems if not problem.fatal]
    assert [problem.fatal for problem in problems if "data.init_args.start" in problem.what] == fatal
    assert not any("ends after" in problem.what for problem in problems)


CHANGES = {
    "begins late": lambda rows: rows[256:],
    "begins before the video": lambda rows: np.concatenate([rows[:300] - [300 / 512e-6, 0, 0, 0], rows]),
    "one sample late": lambda rows: rows + np.array([1e6 / 512, 0, 0, 0]),
    "slower": lambda rows: rows * [1.004, 1, 1, 1],
}


@pytest.mark.parametrize("kind", CHANGES)
def test_signals_are_cut_by_their_time_stamps(biovid_twin, tmp_path, kind):
    root, name, rows = retimed(biovid_twin, tmp_path / "raw", CHANGES[kind])
    data = made(root, tmp_path / "store", signals={"skin": Signal(["gsr"])})
    row = np.array([data.samples.ids.tolist().index(name)])
    got = data.samples.features["skin"].read(row, np.array([0]))[0, :, 0].numpy()
    assert got.shape == (1792,)
    first = int(np.abs(rows[:, 0] - 1e6).argmin())
    assert abs(rows[first, 0] - 1e6) < 1000
    np.testing.assert_array_equal(got, rows[first : first + 1792, 1].astype(np.float32))
    assert first != 512


def test_signals_that_begin_after_start_are_an_error_or_left_out(biovid_twin, tmp_path, capsys):
    root, name, _ = retimed(biovid_twin, tmp_path / "raw", lambda rows: rows[768:])
    with pytest.raises(DataError, match=rf"of {name} begins at 1\.50 s, after data.init_args.start; 1 clips") as caught:
        _ = made(root, tmp_path / "store").samples
    assert caught.value.step.startswith("Set start to a later second")
    assert name not in made(root, tmp_path / "store", on_error="skip").samples.ids
    assert "left out" in capsys.readouterr().out
    assert name in made(root, tmp_path / "store", start=1.5).samples.ids


def test_clips_of_other_classes_are_counted(biovid_twin, tmp_path):
    data = made(biovid_twin, tmp_path / "store", classes=("BL1", "PA4"))
    assert data.summary().startswith("10 samples of 5 subjects")
    assert data.summary().endswith("; 5 more recordings are of other classes or people, or too short")


@pytest.mark.parametrize("text", ["", "\n", "time\tgsr\n", "no table"])
def test_a_clip_whose_signals_are_damaged_stops_or_is_kept_without_them(biovid_twin, tmp_path, text):
    root = copied(biovid_twin, tmp_path / "raw")
    path = next((root / "PartA" / "biosignals_filtered").rglob("*PA4*_bio.csv"))
    put(path, text)
    with pytest.raises(DataError, match=path.name):
        _ = made(root, tmp_path / "store").samples
    data = made(root, tmp_path / "store", on_error="skip")
    present = data.samples.masks["physiology"].any(axis=1)
    assert data.samples.ids[~present].tolist() == [path.name.removesuffix("_bio.csv")]
    assert data.samples.masks["video"].all()
    assert data.summary().endswith("; 0 recordings left out, 1 problems")
    (problem,) = data.prepared.record["problems"]
    assert path.name in problem


def test_a_damaged_frame_stops_or_is_a_missing_one(folders, tmp_path):
    root = copied(folders, tmp_path / "raw")
    clip = next(iter((root / "4").iterdir()))
    put(clip / "img_00060.jpg", "")
    with pytest.raises(DataError, match=r"img_00060\.jpg: is empty"):
        _ = made(root, tmp_path / "store").samples
    data = made(root, tmp_path / "store", missing_frames="mask", on_error="skip")
    row = data.samples.ids.tolist().index(clip.name)
    assert data.samples.masks["video"][row].tolist() == [number != 60 for number in (50, 53, 57, 60, 63, 67, 70)]
    assert data.prepared.losses == "0 recordings left out, 1 problems"
