"""The twin of BioVid: its layout to the letter, and a face that knows less than the skin."""

import hashlib
import re
from collections import Counter

import av
import cv2
import numpy as np
import pytest
from scipy.signal import find_peaks
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mtpkdot.data.biovid import twin as biovid
from mtpkdot.data.biovid.index import CLASSES, HOLDOUT, LOW_REACTION
from mtpkdot.errors import DataError

SMALL = {"subjects": 3, "clips": 1, "classes": ("BL1", "PA4"), "size": 48, "seed": 3}


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    out = tmp_path_factory.mktemp("official")
    lines = biovid.synthesize(out, **SMALL)
    assert "6 clips (BL1, PA4) of 3 generated people" in lines[0]
    return out / "PartA"


def digest(root):
    """Every file below a folder and its bytes; of videos the pixels."""
    result = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if path.suffix in (".mp4", ".avi"):
            with av.open(str(path)) as container:
                data = b"".join(f.to_ndarray(format="rgb24").tobytes() for f in container.decode(video=0))
        result[str(path.relative_to(root))] = hashlib.sha256(data).hexdigest()
    return result


def test_the_official_layout_has_these_files_and_no_others(official):
    clips = [f"{s}-{c}" for s in biovid.subject_ids(3) for c in ("BL1-005", "PA4-004")]
    wanted = {"starting_point/samples.csv"}
    for clip in clips:
        subject = clip.split("-")[0]
        wanted |= {f"video/{subject}/{clip}.mp4"}
        wanted |= {f"biosignals_{kind}/{subject}/{clip}_bio.csv" for kind in ("filtered", "raw")}
    found = {str(path.relative_to(official)) for path in official.rglob("*") if path.is_file()}
    assert wanted == found


def test_videos_have_138_frames_at_25_a_second(official):
    for path in (official / "video").rglob("*.mp4"):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 48, 48)
            assert stream.average_rate == 25
            assert not container.streams.audio
            assert sum(1 for _ in container.decode(video=0)) == 138


@pytest.mark.parametrize("kind", ["filtered", "raw"])
def test_signals_are_tab_separated_microseconds_in_plausible_units(official, kind):
    files = list((official / f"biosignals_{kind}").rglob("*_bio.csv"))
    assert len(files) == 6
    for path in files:
        text = path.read_bytes().decode("ascii")
        assert "\r" not in text
        lines = text.removesuffix("\n").split("\n")
        assert lines[0] == "time\tgsr\tecg\temg_trapezius"
        cells = [line.split("\t") for line in lines[1:]]
        assert len(cells) == 2816
        assert all(re.fullmatch(r"\d+", row[0]) for row in cells)
        table = np.array(cells, dtype=float)
        np.testing.assert_allclose(table[:, 0], np.arange(2816) * 1e6 / 512, atol=0.5)
        gsr, ecg, emg = table[:, 1:].T
        assert 0 < gsr.min() < gsr.max() < 30
        assert 0.8 < np.ptp(ecg) < 4
        assert 1 < emg.std() < 60
        if kind == "filtered":
            assert abs(emg.mean()) < 1e-3
            beats = len(find_peaks(ecg, height=0.6, distance=128)[0]) / 5.5 * 60
            assert 45 < beats < 130


def test_the_index_names_every_clip(official):
    lines = (official / "starting_point" / "samples.csv").read_text().splitlines()
    assert lines[0] == "subject_id\tsubject_name\tclass_id\tclass_name\tsample_id\tsample_name"
    rows = [line.split("\t") for line in lines[1:]]
    assert [row[4] for row in rows] == [str(i) for i in range(1, 7)]
    assert {row[5] for row in rows} == {path.stem for path in (official / "video").rglob("*.mp4")}
    names = biovid.subject_ids(3)
    for subject_id, subject, level, label, _, sample in rows:
        assert names[int(subject_id) - 1] == subject
        assert CLASSES[int(level)] == label
        assert re.fullmatch(rf"{subject}-{label}-\d{{3}}", sample)


def test_the_frames_layout_has_lists_of_every_clip(tmp_path):
    out = tmp_path / "frames"
    biovid.synthesize(out, **SMALL, layout="frames", part="PartB")
    assert {path.name for path in out.iterdir()} == {"0", "4", "physio", "train.txt", "val.txt"}
    listed = []
    for name in ("train", "val"):
        for line in (out / f"{name}.txt").read_text().splitlines():
            clip, first, last, label = line.split(" ")
            subject = clip.split("/")[1].split("-")[0]
            assert (subject in HOLDOUT) == (name == "val")
            assert (first, last, label) == ("50", "70", clip[0])
            listed.append(clip)
    assert len(listed) == len(set(listed)) == 6
    assert set(listed) == {f"{path.parent.name}/{path.name}" for path in out.glob("[0-4]/*")}
    for clip in listed:
        frames = sorted(path.name for path in (out / clip).iterdir())
        assert frames == [f"img_{i:05d}.jpg" for i in range(1, 139)]
        header = (out / "physio" / f"{clip}_bio.csv").read_text().split("\n", 1)[0]
        assert header == "time\tgsr\tecg\temg_trapezius\temg_corrugator\temg_zygomaticus"
    assert cv2.imread(str(out / listed[0] / "img_00138.jpg")).shape == (48, 48, 3)


@pytest.mark.slow
def test_two_processes_write_what_one_writes(official, tmp_path):
    seen = []
    biovid.synthesize(tmp_path / "out", **SMALL, workers=2, progress=lambda *now: seen.append(now))
    assert digest(tmp_path / "out" / "PartA") == digest(official)
    assert seen == [(i, 6) for i in range(1, 7)]


def test_another_seed_gives_other_data_and_more_clips_leave_the_first_as_they_are():
    def gsr(seed, number=61):
        return biovid.perform(biovid.Clip("071309_w_21", "PA4", number, "PartA", 0.6, seed)).filtered["gsr"]

    np.testing.assert_array_equal(gsr(0), gsr(0))
    assert not np.array_equal(gsr(0), gsr(1))
    assert not np.array_equal(gsr(0), gsr(0, 62))


def test_clips_are_numbered_through_the_classes_as_in_the_original(monkeypatch, tmp_path):
    monkeypatch.setattr(biovid, "in_parallel", lambda *_: [])
    biovid.synthesize(tmp_path / "out", subjects=87)
    rows = (tmp_path / "out/PartA/starting_point/samples.csv").read_text().splitlines()[1:]
    assert len(rows) == 8700
    names = {row.split("\t")[5] for row in rows}
    assert {"071309_w_21-BL1-081", "073109_w_28-PA4-062"} <= names
    for subject in biovid.subject_ids(87):
        assert sorted(name[-3:] for name in names if name.startswith(subject)) == [f"{i:03d}" for i in range(1, 101)]


def test_87_people_hold_both_lists_and_8_people_some_of_each():
    everybody, few = biovid.subject_ids(87), biovid.subject_ids(8)
    assert len(set(everybody)) == 87
    assert {*LOW_REACTION, *HOLDOUT} <= set(everybody)
    assert all(re.fullmatch(r"\d{6}_[mw]_\d{2}", name) for name in everybody)
    assert len({name[:6] for name in everybody}) == 87
    kinds = Counter((name in LOW_REACTION, name in HOLDOUT) for name in few)
    assert kinds[False, False] >= 2
    assert sum(low for (low, _), n in kinds.items() for _ in range(n)) >= 2
    assert sum(held for (_, held), n in kinds.items() for _ in range(n)) >= 2
    assert set(few) < set(biovid.subject_ids(20))
    assert len(biovid.subject_ids(100)) == 100


def features(subject, label, number):
    """What a face does late in a clip against its beginning, and how the skin, heart and shoulder answer."""
    act = biovid.perform(biovid.Clip(subject, label, number, "PartA", 0.6, 0))
    face = np.stack(act.expression.within_bounds())
    gsr, emg = act.filtered["gsr"], act.filtered["emg_trapezius"]
    moved = face[:, 50:].mean(axis=1) - face[:, :12].mean(axis=1)
    skin = [gsr[-1] - gsr[512], gsr.max() - gsr[512], gsr[1024:].std()]
    return moved, np.array([*skin, np.log(emg[-1500:].std() / emg[:300].std())])


@pytest.mark.slow
def test_signals_predict_pain_of_unseen_people_better_than_faces():
    people = biovid.subject_ids(40)
    found = [(*features(s, c, i), c == "PA4", s) for s in people for c in ("BL1", "PA4") for i in range(1, 7)]
    target, test = np.array([row[2] for row in found]), np.isin([row[3] for row in found], people[::3])
    score = {}
    for place, name in enumerate(("face", "body")):
        values = np.stack([row[place] for row in found])
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(values[~test], target[~test])
        score[name] = model.score(values[test], target[test])
    assert 0.6 < score["face"] < 0.85
    assert 0.82 < score["body"] < 0.98
    assert score["body"] > score["face"] + 0.05


def test_low_reaction_people_show_nothing_and_no_expression_means_none():
    calm, hurt = (biovid.perform(biovid.Clip(LOW_REACTION[0], c, 1, "PartA", 5.0, 0)) for c in ("BL1", "PA4"))
    flat = biovid.perform(biovid.Clip("071309_w_21", "PA4", 1, "PartA", 0.0, 0))
    plain = biovid.perform(biovid.Clip("071309_w_21", "PA4", 1, "PartA", 50.0, 0))
    assert abs(hurt.expression.frown[-40:].mean() - calm.expression.frown[-40:].mean()) < 0.5
    assert plain.expression.frown[-40:].mean() > flat.expression.frown[-40:].mean() + 0.3
    np.testing.assert_array_equal(plain.filtered["gsr"], flat.filtered["gsr"])


def test_facial_muscles_follow_the_face():
    act = biovid.perform(biovid.Clip("071309_w_21", "PA4", 1, "PartB", 50.0, 0))
    corrugator = act.filtered["emg_corrugator"]
    assert corrugator[-1000:].std() > 2 * corrugator[:150].std()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"subjects": 0}, "0 subjects"),
        ({"clips": 200}, "200 clips"),
        ({"classes": ("BL1", "PA5")}, r"no classes \['PA5'\]"),
        ({"classes": ()}, "no classes"),
        ({"size": 31}, "31 pixels"),
        ({"part": "PartC"}, "'PartC'"),
        ({"layout": "zip"}, "'zip'"),
        ({"seed": -1}, "seed of -1"),
    ],
)
def test_a_wrong_argument_is_reported_before_anything_is_written(tmp_path, wrong, says):
    with pytest.raises(DataError, match=says):
        biovid.synthesize(tmp_path / "out", **{**SMALL, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_refused(official):
    before = digest(official)
    with pytest.raises(DataError, match="not empty"):
        biovid.synthesize(official, **SMALL)
    assert digest(official) == before
