"""Which frames, sounds and targets are in which window: all calculated a second time from the raw files."""

import os
import re
import subprocess
import sys
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
import pytest
import torch

from mtpkdot.data import AffWild2, Split
from mtpkdot.data.media import decode
from mtpkdot.data.media.check import check
from mtpkdot.data.media.jpegs import encode_jpeg
from mtpkdot.data.synthetic.writing import write_video
from mtpkdot.errors import DataError, DecodeError
from tests.data.media_helpers import TEST_LIST, copied, decoded, heard, image, put

FRAMES, STEP, CLIPS, SECONDS, RATE = 4, 2, 3, 0.25, 16000
SPAN = FRAMES * STEP
SETTINGS = {"frames": FRAMES, "frame_step": STEP, "clips": CLIPS, "sound_seconds": SECONDS, "sound_rate": RATE}


def made(root, store, **options):
    return AffWild2(root=str(root), store=str(store), prepare_workers=1, **{**SETTINGS, **options})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def data(affwild2_twin, store):
    return made(affwild2_twin, store)


def test_the_counts_of_the_summary_add_up(data):
    summary = data.summary()
    counts = re.match(r"(\d+) samples of \d+ subjects: (\d+) train.*?, (\d+) val.*?, (\d+) test.*?, (\d+) to", summary)
    total, *parts = map(int, counts.groups())
    assert total == sum(parts) == len(data.samples)
    assert f"a sample is a window of {data.windows.clips} clips, from 7 recordings" in summary


class Truth:
    """A recording, read from the raw files without the package."""

    def __init__(self, root, name):
        self.name, self.crops = name, root / "cropped_aligned" / name
        self.numbers = sorted(int(path.stem) for path in self.crops.iterdir())
        base = name.removesuffix("_left").removesuffix("_right")
        self.video = next(iter(root.glob(f"batch*/{base}.*")), None)
        self.times = decoded(self.video)[1] if self.video else None
        tables = list(root.glob(f"VA_Estimation_Challenge/*/{name}.txt"))
        self.test = not tables
        self.train = bool(tables) and tables[0].parent.name == "Train_Set"
        counts = [self.numbers[-1], *([len(self.times)] if self.video else [])]
        if self.test:
            self.count, self.values = max(counts), None
        else:
            rows = np.array([line.split(",") for line in tables[0].read_text().split()[1:]], float)
            # Crops end with the last face that was found, and a few rows more than frames are no frames.
            self.count = min(max(counts), len(rows))
            rows[(rows == -5).any(axis=1)] = np.nan
            self.values = rows[: self.count]
        if self.video and self.count > len(self.times):
            ends, step = self.times[-1], np.median(np.diff(self.times))
            self.times = np.append(self.times, ends + step * np.arange(1, 1 + self.count - len(self.times)))

    def target(self, begin):
        """Mean over the valid frames of a clip, or None."""
        if self.test:
            return None
        rows = self.values[begin : begin + SPAN]
        rows = rows[np.isfinite(rows).all(axis=1)]
        return rows.mean(axis=0) if len(rows) else None

    def pictures(self, begin, missing):
        """The numbers of the crops of a clip; None where it has none."""
        wanted = [min(begin + STEP * i, self.count - 1) + 1 for i in range(FRAMES)]
        there = [number for number in self.numbers if number <= self.count]
        if missing == "repeat":
            return [max((n for n in there if n <= number), default=there[0]) for number in wanted]
        found = [number for number in wanted if number in there]
        if not found:
            return None
        return [next((m for m in reversed(wanted[: i + 1]) if m in there), found[0]) for i in range(FRAMES)]


@lru_cache
def truth(root, name):
    return Truth(root, name)


def steps(data, root):
    """(row of the window, step, recording, first frame) of all steps."""
    for row, id in enumerate(data.samples.ids):
        name, clip = id.rsplit("-", 1)
        for step in range(CLIPS):
            yield row, step, truth(root, name), (int(clip) + step) * SPAN


def names(root):
    return sorted(path.name for path in (root / "cropped_aligned").iterdir())


@pytest.mark.parametrize("missing", ["repeat", "mask"])
def test_every_step_holds_these_crops_and_no_others(affwild2_twin, tmp_path, missing):
    root = copied(affwild2_twin, tmp_path / "raw")
    for number in range(SPAN + 1, 3 * SPAN + 1):  # no face in two whole clips
        (root / "cropped_aligned" / "1-30-320x256" / f"{number:05d}.jpg").unlink(missing_ok=True)
    data = made(root, tmp_path / "store", missing_frames=missing)
    video, mask = data.samples.features["video"], data.samples.masks["video"]
    rows = np.arange(len(data.samples))
    pictures = video.read(rows, np.zeros_like(rows)).numpy()
    assert pictures.shape == (len(rows), CLIPS, FRAMES, 3, 112, 112)
    partial = absent = bridged = 0
    for row, step, who, begin in steps(data, root):
        inside = begin < who.count
        numbers = who.pictures(begin, missing) if inside else None
        hidden = who.train and who.target(begin) is None
        assert mask[row, step] == (numbers is not None and not hidden)
        partial += inside and begin + SPAN > who.count
        absent += inside and numbers is None
        if numbers is None:
            assert not pictures[row, step].any()
            continue
        bridged += any(number not in who.numbers for number in range(begin + 1, begin + SPAN, STEP))
        for seen, number in zip(pictures[row, step], numbers, strict=True):
            np.testing.assert_array_equal(seen, image(who.crops / f"{number:05d}.jpg"))
    assert partial
    assert bridged
    assert bool(absent) == (missing == "mask")


def test_windows_cover_every_recording_to_the_end_of_its_annotation_or_video(data, affwild2_twin):
    wanted = {
        f"{name}-{clip:06d}"
        for name in names(affwild2_twin)
        for clip in range(0, -(-truth(affwild2_twin, name).count // SPAN), CLIPS)
    }
    assert set(data.samples.ids) == wanted
    counts = {name: truth(affwild2_twin, name) for name in names(affwild2_twin)}
    assert any(len({t.count, len(t.times), t.numbers[-1]}) > 1 for t in counts.values())


def test_sound_lies_where_the_middle_of_its_clip_is_shown(data, affwild2_twin):
    audio, exact, close = data.samples.features["audio"], 0, []
    length = round(SECONDS * RATE)
    for row, step, who, begin in steps(data, affwild2_twin):
        got = audio.read(np.array([row]), np.array([0]))[0, step].numpy()
        assert got.shape == (length,)
        if begin >= who.count:
            assert not data.samples.masks["audio"][row, step]
            continue
        last = min(begin + SPAN, who.count) - 1
        start = (who.times[begin] + who.times[last]) / 2 - SECONDS / 2
        sound, rate = heard(who.video)
        if rate == RATE:
            positions = round(start * RATE) + np.arange(length)
            known = (positions >= 0) & (positions < len(sound))
            expected = np.where(known, sound[np.clip(positions, 0, len(sound) - 1)], 0)
            np.testing.assert_allclose(got, expected, atol=2e-3)
            exact += 1
        else:
            at = start + np.arange(length) / RATE
            expected = np.interp(at, np.arange(len(sound)) / rate, sound, 0, 0)
            close.append(np.corrcoef(got, expected)[0, 1])
    assert exact >= 10
    assert len(close) >= 10
    assert min(close) > 0.9


def test_targets_are_means_over_valid_frames(data, affwild2_twin):
    unlabelled = 0
    for row, step, who, begin in steps(data, affwild2_twin):
        expected = who.target(begin) if begin < who.count else None
        assert data.samples.labelled[row, step] == (expected is not None)
        if expected is None:
            assert np.isnan(data.samples.target[row, step]).all()
            unlabelled += begin < who.count and not who.test
        else:
            np.testing.assert_allclose(data.samples.target[row, step], expected, atol=1e-6)
    assert data.samples.target_names == ["valence", "arousal"]


def concordance(x, y):
    return 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


@pytest.mark.parametrize("part", ["train", "test"])
def test_results_are_those_of_all_valid_frames_together(data, affwild2_twin, part):
    positions = data.positions(part)
    index = (positions[:, None] * CLIPS + np.arange(CLIPS)).ravel()
    output = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (len(index), 2)).astype(np.float32))
    rows, values = data.compared(index, output)
    predicted = {}
    for row, clip in zip(positions, output.view(-1, CLIPS, 2).numpy(), strict=True):
        name, first = data.samples.ids[row].rsplit("-", 1)
        for step in range(CLIPS):
            predicted[name, int(first) + step] = clip[step]
    ids, x, y = [], [], []
    for name in sorted({name for name, _ in predicted}):
        who = truth(affwild2_twin, name)
        for frame in range(who.count):
            ids.append(f"{name}/{frame + 1:05d}")
            if np.isfinite(who.values[frame]).all():
                x.append(predicted[name, frame // SPAN])
                y.append(who.values[frame])
    assert rows.ids.tolist() == ids
    assert int(rows.labelled.sum()) == len(x) < len(ids)
    for k in range(2):
        ours = concordance(values[rows.labelled, k].numpy(), rows.target[rows.labelled, k])
        assert ours == pytest.approx(concordance(np.array(x)[:, k], np.array(y)[:, k]), abs=1e-6)


def test_parts_are_disjoint_by_video(data):
    samples, parts = data.samples, data.parts
    homes = {}
    for subject, part in zip(samples.subjects, parts, strict=True):
        assert homes.setdefault(subject, part) == part
    assert set(homes.values()) == {"train", "validation", "test", "unscored"}
    pair = [subject for id, subject in zip(samples.ids, samples.subjects, strict=True) if "_right-" in id]
    assert pair
    assert not any(subject.endswith(("_left", "_right")) for subject in samples.subjects)


def test_the_test_list_is_predicted_to_its_last_frame_and_never_scored(data, affwild2_twin):
    listed = (affwild2_twin / TEST_LIST).read_text().split()
    rows = np.flatnonzero(data.parts == "unscored")
    assert {id.rsplit("-", 1)[0] for id in data.samples.ids[rows]} == set(listed)
    np.testing.assert_array_equal(rows, data.submitted)
    for part in ("train", "validation", "test"):
        assert not set(rows) & set(data.positions(part))
    index = (rows[:, None] * CLIPS + np.arange(CLIPS)).ravel()
    table = data.submission(index, torch.full((len(index), 2), 1.5))
    assert list(table.columns) == ["image_location", "valence", "arousal"]
    wanted = [f"{name}/{n + 1:05d}.jpg" for name in listed for n in range(truth(affwild2_twin, name).count)]
    assert table["image_location"].tolist() == wanted
    assert data.unsubmitted == []
    assert (table[["valence", "arousal"]] == 1).all(axis=None)
    assert not data.compared(index, torch.zeros(len(index), 2))[0].labelled.any()


def test_frames_of_the_test_list_without_any_face_are_predicted_too(affwild2_twin, tmp_path):
    root = copied(affwild2_twin, tmp_path / "raw")
    name = (root / TEST_LIST).read_text().split()[0]
    for path in (root / "cropped_aligned" / name).iterdir():
        if int(path.stem) > SPAN:
            path.unlink()
    data = made(root, tmp_path / "store", missing_frames="mask")
    index = (data.submitted[:, None] * CLIPS + np.arange(CLIPS)).ravel()
    table = data.submission(index, torch.zeros(len(index), 2))
    assert len(table) == len(decoded(truth(root, name).video)[1])


def predictions(data):
    """For every step of the test list's windows other numbers, and the file made of them, by frame."""
    index = (data.submitted[:, None] * CLIPS + np.arange(CLIPS)).ravel()
    output = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (len(index), 2)).astype(np.float32))
    by_clip = {}
    for row, clips in zip(data.submitted, output.view(-1, CLIPS, 2).numpy(), strict=True):
        name, first = data.samples.ids[row].rsplit("-", 1)
        by_clip |= {(name, int(first) + step): clips[step] for step in range(CLIPS)}
    return by_clip, data.submission(index, output)


@pytest.mark.parametrize("kind", ["names", "frames"])
def test_listed_frames_are_submitted_in_the_order_of_the_list(affwild2_twin, tmp_path, kind):
    root = copied(affwild2_twin, tmp_path / "raw")
    listed = (root / TEST_LIST).read_text().split()
    other = next(iter((root / "VA_Estimation_Challenge" / "Train_Set").iterdir()))
    other.unlink()  # one more video to predict
    names = sorted([*listed, other.stem], reverse=True)
    ends = {name: len(Truth(root, name).times) for name in names}
    if kind == "names":
        lines, wanted = names, [(name, number) for name in names for number in range(1, ends[name] + 1)]
    else:
        one, two = names
        wanted = [(one, 30), (one, 31), (two, 9), (one, 1), (two, 8), (two, ends[two] + 3)]
        lines = ["image_location,valence,arousal", *(f"{name}/{number:05d}.jpg,," for name, number in wanted)]
    put(root / TEST_LIST, "\n".join(lines) + "\n")
    data = made(root, tmp_path / "store")
    by_clip, table = predictions(data)
    assert table["image_location"].tolist() == [f"{name}/{number:05d}.jpg" for name, number in wanted]
    expected = [by_clip[name, (min(number, ends[name]) - 1) // SPAN] for name, number in wanted]
    np.testing.assert_array_equal(table[["valence", "arousal"]].to_numpy(), np.stack(expected))
    alone = AffWild2(store=str(tmp_path / "store"), **SETTINGS)
    assert predictions(alone)[1].equals(table)


def test_videos_of_the_test_list_that_cannot_be_read_are_named(affwild2_twin, tmp_path):
    root = copied(affwild2_twin, tmp_path / "raw")
    name = (root / TEST_LIST).read_text().split()[0]
    put(root / TEST_LIST, f"nowhere\n{name}\nanywhere\n")
    data = made(root, tmp_path / "store", on_error="skip")
    assert data.unsubmitted == ["anywhere", "nowhere"]
    assert {place.split("/")[0] for place in predictions(data)[1]["image_location"]} == {name}
    assert data.prepared.record["left_out"] == ["anywhere", "nowhere"]


@pytest.mark.parametrize("missing", ["repeat", "mask"])
def test_annotated_frames_after_the_last_face_are_used(affwild2_twin, tmp_path, missing):
    root = copied(affwild2_twin, tmp_path / "raw")
    name = "1-30-320x256"
    for path in (root / "cropped_aligned" / name).iterdir():
        if int(path.stem) > 2 * SPAN:
            path.unlink()
    data = made(root, tmp_path / "store", missing_frames=missing)
    who = Truth(root, name)
    assert who.count > 3 * SPAN
    assert next(row for row in data.entries if row["id"] == name)["frames"] == who.count
    positions = np.array([row for row, id in enumerate(data.samples.ids) if id.startswith(name)])
    index = (positions[:, None] * CLIPS + np.arange(CLIPS)).ravel()
    rows, _ = data.compared(index, torch.zeros(len(index), 2))
    np.testing.assert_allclose(rows.target, who.values, atol=1e-6)
    begins = [begin for _, _, other, begin in steps(data, root) if other.name == name]
    mask = data.samples.masks["video"][positions].ravel()
    for begin, seen in zip(begins, mask, strict=True):
        expected = begin < who.count and (missing == "repeat" or begin < 2 * SPAN)
        assert seen == (expected and not (who.train and who.target(begin) is None))


def test_without_raw_video_the_last_crop_is_the_last_frame(affwild2_twin, tmp_path):
    root = copied(affwild2_twin, tmp_path / "raw")
    video = next(iter(root.glob("batch1/1-*")))
    video.unlink()
    for path in (root / "cropped_aligned" / video.stem).iterdir():
        if int(path.stem) > 21:
            path.unlink()
    last = max(int(path.stem) for path in (root / "cropped_aligned" / video.stem).iterdir())
    data = made(root, tmp_path / "store")
    assert next(row for row in data.entries if row["id"] == video.stem)["frames"] == last


@pytest.mark.parametrize("kind", ["torn", "empty", "text", "sound"])
def test_a_raw_video_that_cannot_be_read_stops_or_gives_no_sound(affwild2_twin, tmp_path, monkeypatch, kind):
    root = copied(affwild2_twin, tmp_path / "raw")
    video = next(iter(root.glob("batch1/1-*")))
    if kind == "sound":
        whole = decode.read_sound

        def read(path, rate, remark=None):
            if path == video:
                raise DecodeError(f"{path}: its sound breaks at 0.50 s (x)", "Copy it.")
            return whole(path, rate, remark)

        monkeypatch.setattr(decode, "read_sound", read)
    else:
        put(video, {"torn": video.read_bytes()[: video.stat().st_size // 2], "empty": b"", "text": b"hello"}[kind])
    with pytest.raises(DataError, match=video.name):
        _ = made(root, tmp_path / "store").samples
    data = made(root, tmp_path / "store", on_error="skip")
    rows = np.array([row for row, id in enumerate(data.samples.ids) if id.startswith(video.stem)])
    assert not data.samples.masks["audio"][rows].any()
    assert data.samples.masks["video"][rows].any()
    assert data.samples.masks["audio"].any()
    assert data.summary().endswith("; 0 recordings left out, 1 problems")
    row = next(row for row in data.entries if row["id"] == video.stem)
    who = truth(affwild2_twin, video.stem)
    assert row["frames"] == (who.count if kind == "sound" else min(who.numbers[-1], len(who.values)))
    known = who.times[: who.count] if kind == "sound" else np.arange(row["frames"]) / 30
    np.testing.assert_allclose(row["times"], known, atol=1e-6)


def tree(root, rows, crops, frames, rate, sounded=True, name="v.mp4"):
    """One annotated recording with so many rows, crops, and frames of raw video."""
    for folder in (
        "VA_Estimation_Challenge/Train_Set",
        "VA_Estimation_Challenge/Validation_Set",
        "cropped_aligned/v",
        "batch1",
    ):
        (root / folder).mkdir(parents=True)
    values = "".join(f"{k / rows:.4f},{-k / rows:.4f}\n" for k in range(rows))
    put(root / "VA_Estimation_Challenge/Train_Set/v.txt", "valence,arousal\n" + values)
    for number in range(1, crops + 1):
        put(root / f"cropped_aligned/v/{number:05d}.jpg", encode_jpeg(np.full((32, 32, 3), number % 250, np.uint8), 90))
    seconds = frames / rate
    sound = [np.full(round(seconds * 44100 * sounded), 0.25, np.float32)] if sounded else None
    pictures = np.zeros((frames, 32, 32, 3), np.uint8)
    write_video(root / "batch1" / name, [pictures], None, Fraction(rate), sound)
    return root


@pytest.mark.parametrize(
    ("rows", "crops", "frames", "rate", "kept", "row_rate", "says"),
    [
        (150, 150, 125, 25, 150, 30, "125 frames in 5.00 s for 150 numbered ones, which are 30 a second"),
        (125, 90, 150, 30, 125, 25, "150 frames in 5.00 s for 125 numbered ones, which are 25 a second"),
        (150, 150, 75, 15, 150, 30, "which are 30 a second"),
        (147, 149, 150, 30, 147, 30, "150 frames for 147 numbered ones and ends 0.10 s after"),
        (150, 149, 149, 30, 149, 30, "149 frames for 150 numbered ones and ends 0.03 s before"),
        (150, 100, 150, 30, 150, 30, None),
    ],
)
def test_every_row_lies_at_its_time_in_a_video_of_other_counts(
    tmp_path, rows, crops, frames, rate, kept, row_rate, says
):
    data = made(tree(tmp_path / "raw", rows, crops, frames, rate), tmp_path / "store")
    (row,) = data.entries
    assert row["frames"] == kept
    np.testing.assert_allclose(row["times"], np.arange(kept) / row_rate, atol=0.01)
    np.testing.assert_allclose(row["valence"], np.arange(kept) / rows, atol=1e-4)
    report = check(data)
    notes = [problem.what for problem in report.inventory.problems if problem.path.name == "v.mp4"]
    assert len(notes) == (says is not None)
    assert not says or says in notes[0]
    assert not report.fatal
    assert data.samples.masks["audio"].sum() == -(-kept // SPAN)


def test_a_raw_video_that_goes_on_long_after_the_rows_is_a_problem(tmp_path):
    root = tree(tmp_path / "raw", 110, 112, 150, 30)
    (problem,) = check(made(root, tmp_path / "store")).fatal
    assert "150 frames for 110 numbered ones and ends 1.33 s after the last of them" in problem.what
    (row,) = made(root, tmp_path / "store", on_error="skip").entries
    np.testing.assert_allclose(row["times"], np.arange(110) / 30, atol=0.01)


def test_a_raw_video_that_was_cut_is_a_problem_and_never_a_silent_minimum(tmp_path):
    root = tree(tmp_path / "raw", 150, 150, 83, 30)
    (problem,) = check(made(root, tmp_path / "store")).fatal
    assert problem.path.name == "v.mp4"
    assert "83 frames for 150 numbered ones and ends 2.23 s before the last of them" in problem.what
    with pytest.raises(DataError, match="83 frames for 150"):
        _ = made(root, tmp_path / "store").samples
    data = made(root, tmp_path / "store", on_error="skip")
    (row,) = data.entries
    assert row["frames"] == 150
    assert data.samples.labelled.sum() == -(-150 // SPAN)
    # What lies beyond the end of the sound has none, instead of silence.
    middles = np.arange(0, 150, SPAN) / 30 + (SPAN - 1) / 60
    heard_steps = data.samples.masks["audio"].ravel()[: len(middles)]
    np.testing.assert_array_equal(heard_steps, middles < row["length.sound"] / SETTINGS["sound_rate"])


@pytest.mark.parametrize("suffix", ["mkv", "mov"])
def test_raw_videos_of_other_formats_are_read_and_reported(tmp_path, suffix):
    root = tree(tmp_path / "raw", 60, 60, 60, 30)
    with av.open(str(root / "batch1/v.mp4")) as source, av.open(str(root / f"batch1/v.{suffix}"), "w") as out:
        copies = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    (root / "batch1/v.mp4").unlink()
    data = made(root, tmp_path / "store")
    assert data.samples.masks["audio"].any()
    notes = [problem.what for problem in check(data).inventory.problems if problem.path.name == f"v.{suffix}"]
    assert len(notes) == 1
    assert "is not .mp4 or .avi" in notes[0]


def test_unlabelled_material_is_used_only_on_request(data, affwild2_twin, store):
    more = made(affwild2_twin, store, unlabelled=["invalid", "test"])
    invalid = [(row, step) for row, step, who, begin in steps(data, affwild2_twin) if who.train and begin < who.count
               and who.target(begin) is None]  # fmt: skip
    assert not any(data.samples.masks["video"][place] for place in invalid)
    keys = {id: row for row, id in enumerate(more.samples.ids)}
    assert all(more.samples.masks["video"][keys[data.samples.ids[row]], step] for row, step in invalid)
    listed = data.samples.ids[data.parts == "unscored"]
    assert (more.parts[[keys[id] for id in listed]] == "train").all()
    assert not more.samples.labelled[[keys[id] for id in listed]].any()
    assert set(data.samples.subjects[data.parts == "validation"]) == set(
        more.samples.subjects[more.parts == "validation"]
    )


def test_other_splits_leave_the_test_list_aside(affwild2_twin, store):
    options = {"split": Split(scheme="kfold", folds=3)}
    listed = set((affwild2_twin / TEST_LIST).read_text().split())
    data = made(affwild2_twin, store, **options)
    assert not {id.rsplit("-", 1)[0] for id in data.samples.ids} & listed
    assert {
        id.rsplit("-", 1)[0] for id in made(affwild2_twin, store, unlabelled=["test"], **options).samples.ids
    } > listed


def test_a_recording_without_raw_video_has_no_sound_and_the_usual_rate(affwild2_twin, tmp_path):
    root = copied(affwild2_twin, tmp_path / "raw")
    gone = next(iter(root.glob("batch1/1-*")))
    gone.unlink()
    data = made(root, tmp_path / "store")
    rows = [row for row, id in enumerate(data.samples.ids) if id.startswith(gone.stem)]
    assert rows
    assert not data.samples.masks["audio"][rows].any()
    assert data.samples.masks["video"][rows].any()
    assert not data.samples.features["audio"].read(np.array(rows), np.zeros(len(rows), np.int64)).any()
    row = next(row for row in data.entries if row["id"] == gone.stem)
    np.testing.assert_allclose(row["times"], np.arange(truth(root, gone.stem).count) / 30)


def test_no_labelled_frame_with_crops_is_an_error(affwild2_twin, tmp_path):
    root = copied(affwild2_twin, tmp_path / "raw")
    name = next(iter((root / "VA_Estimation_Challenge" / "Train_Set").iterdir())).stem
    folder = root / "cropped_aligned" / name
    data = next(folder.iterdir()).read_bytes()
    for path in folder.iterdir():
        path.unlink()
    (folder / "00900.jpg").write_bytes(data)
    with pytest.raises(DataError, match=f"{name} has no frame among the first"):
        _ = made(root, tmp_path / "store").samples


_MEMORY = """
import re, sys
from pathlib import Path
from mtpkdot.data import AffWild2
def peak():
    # Not resource.ru_maxrss: that begins with the size of the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
import pandas, pyarrow.parquet
import mtpkdot.data.media.clips
before = peak()
data = AffWild2(store=sys.argv[1])
assert len(data.samples) == int(sys.argv[2])
data.parts
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is looked up in /proc")
def test_a_million_frames_are_indexed_in_a_sixth_of_a_gigabyte(tmp_path):
    random, videos, frames = np.random.default_rng(0), 200, 5000
    rows = []
    for number in range(videos):
        sizes = random.integers(2000, 4000, frames) * (random.random(frames) > 0.05)
        values = {k: random.uniform(-1, 1, frames).astype(np.float32) for k in ("valence", "arousal")}
        part = ("train", "train", "train", "validation", "test")[number % 5]
        rows.append(
            {
                "id": f"video{number:04d}",
                "set": part,
                "video": f"video{number:04d}",
                "frames": frames,
                "times": np.arange(frames) / 30,
                "offsets": np.concatenate([[0], np.cumsum(sizes)]),
                **(values if part != "test" else {}),
                "length.sound": frames * 533,
                "content": "0" * 64,
                "sha256": "0" * 64,
            }
        )
    from mtpkdot.data.media.store import write_index

    folder = AffWild2(store=str(tmp_path)).preparation.folder
    folder.mkdir()
    write_index(folder, rows, {"left_out": [], "problems": [], "asked": []})
    windows = videos * -(-frames // 128)
    run = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(tmp_path), str(windows)],
        check=True,
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert 7 < float(run.stdout) < 167, run.stdout
