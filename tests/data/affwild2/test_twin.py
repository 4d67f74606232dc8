"""The twin of Aff-Wild2: its layout with all its oddities, crops that belong to their frames, and arousal by ear."""

import re

import av
import cv2
import numpy as np
import pytest

from mtpkdot.data.affwild2 import twin as affwild2
from mtpkdot.data.synthetic.signals import voice
from mtpkdot.errors import DataError
from tests.data.biovid.test_twin import digest

SMALL = {"videos": 6, "frames": (40, 60), "seed": 1}
FOLDERS = ("VA_Estimation_Challenge/Train_Set", "VA_Estimation_Challenge/Validation_Set")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    out = tmp_path_factory.mktemp("affwild2")
    seen = []
    lines = affwild2.synthesize(out, **SMALL, progress=lambda *now: seen.append(now))
    assert seen[-1] == (6, 6)
    assert "in 6 generated videos" in lines[0]
    return out


def raw_videos(tree):
    return {path.stem: path for path in (*tree.glob("batch1/*"), *tree.glob("batch2/*"))}


def raw_of(tree, name):
    return raw_videos(tree)[re.sub("_(left|right)$", "", name)]


def decode(path):
    """Frames as grey pictures, and when each is shown."""
    with av.open(str(path)) as container:
        frames = [(f.to_ndarray(format="gray"), float(f.pts * f.time_base)) for f in container.decode(video=0)]
    return [frame for frame, _ in frames], np.array([time for _, time in frames])


def annotations(tree):
    return {path.stem: path for folder in FOLDERS for path in (tree / folder).iterdir()}


def crop_numbers(tree, name):
    return sorted(int(path.stem) for path in (tree / "cropped_aligned" / name).iterdir())


def listed_for_test(tree):
    return (tree / "Valence_Arousal_Estimation_Challenge_test_set_release.txt").read_text().splitlines()


def test_every_annotated_or_listed_person_has_crops_and_a_raw_video(tree):
    names = {*annotations(tree), *listed_for_test(tree)}
    assert not {*annotations(tree)} & {*listed_for_test(tree)}
    assert names == {path.name for path in (tree / "cropped_aligned").iterdir()}
    assert {raw_of(tree, name) for name in names} == set(raw_videos(tree).values())
    assert len(raw_videos(tree)) == 6
    assert {path.suffix for path in raw_videos(tree).values()} == {".mp4", ".avi"}
    assert {path.parent.name for path in raw_videos(tree).values()} == {"batch1", "batch2"}


def test_the_twin_has_a_pair_and_a_single_left_person(tree):
    left = {name.removesuffix("_left") for name in annotations(tree) if name.endswith("_left")}
    right = {name.removesuffix("_right") for name in annotations(tree) if name.endswith("_right")}
    assert left & right
    assert left - right
    assert not right - left


def test_annotations_are_in_range_or_invalid(tree):
    for path in annotations(tree).values():
        lines = path.read_bytes().decode("ascii").removesuffix("\n").split("\n")
        assert lines[0] == "valence,arousal"
        values = np.array([[float(cell) for cell in line.split(",")] for line in lines[1:]])
        assert values.shape[1] == 2
        invalid = (values == -5).all(axis=1)
        assert invalid.any()
        assert invalid.mean() < 0.3
        assert ((values == -5).any(axis=1) == invalid).all()
        assert np.abs(values[~invalid]).max() <= 1
        assert values[~invalid].std(axis=0).min() > 0.005


def test_counts_differ_by_a_few_frames_and_some_faces_are_missing(tree):
    counts = []
    for name, path in annotations(tree).items():
        rows, shown = len(path.read_text().splitlines()) - 1, len(decode(raw_of(tree, name))[0])
        numbers = crop_numbers(tree, name)
        assert len(numbers) <= numbers[-1]
        assert max(rows, shown, numbers[-1]) - min(rows, shown) <= 3
        counts.append((rows, shown, numbers[-1]))
    assert any(len(set(each)) > 1 for each in counts)
    crops = [crop_numbers(tree, name) for name in annotations(tree)]
    assert any(len(numbers) < numbers[-1] for numbers in crops)


def test_crops_are_named_and_sized_as_in_the_original(tree):
    for folder in (tree / "cropped_aligned").iterdir():
        assert all(re.fullmatch(r"\d{5}\.jpg", path.name) for path in folder.iterdir())
        assert cv2.imread(str(next(folder.iterdir()))).shape == (112, 112, 3)


def test_frame_rates_vary_between_videos_and_inside_mp4_only(tree):
    usual = set()
    for path in raw_videos(tree).values():
        steps = np.diff(decode(path)[1])
        assert steps.min() > 0
        usual.add(round(1 / np.min(steps)))
        if path.suffix == ".mp4":
            assert np.max(steps) == pytest.approx(2 * np.min(steps), abs=0.002)
        else:
            assert np.ptp(steps) < 0.002
    assert len(usual) >= 3


def test_sound_is_mono_as_long_as_the_pictures_and_of_either_rate(tree):
    kinds = set()
    for path in raw_videos(tree).values():
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            assert stream.channels == 1
            kinds.add((path.suffix, stream.codec_context.name, stream.rate))
            samples = sum(frame.samples for frame in container.decode(audio=0))
        assert samples / stream.rate == pytest.approx(decode(path)[1][-1], abs=0.3)
    assert {rate for _, _, rate in kinds} == {16000, 44100}
    assert {name for suffix, name, _ in kinds if suffix == ".avi"} == {"mp3float", "pcm_s16le"}
    assert {name for suffix, name, _ in kinds if suffix == ".mp4"} == {"aac"}


def match(crop, frame):
    """Best correlation of the face's middle with any place of a frame, over a few sizes."""
    face = crop[20:100, 24:88]
    scores = []
    for size in (1.1, 1.2, 1.3, 1.4, 1.5):
        scaled = cv2.resize(face, None, fx=size, fy=size)
        scores.append(cv2.matchTemplate(frame, scaled, cv2.TM_CCOEFF_NORMED).max())
    return max(scores)


def test_a_crop_is_the_face_of_the_frame_with_its_number_on_its_side(tree):
    for name in annotations(tree):
        frames, _ = decode(raw_of(tree, name))
        number = crop_numbers(tree, name)[20]
        crop = cv2.imread(str(tree / "cropped_aligned" / name / f"{number:05d}.jpg"), cv2.IMREAD_GRAYSCALE)
        half = frames[0].shape[1] // 2
        side = {"left": slice(0, half), "right": slice(half, None)}.get(name.split("_")[-1], slice(None))
        assert match(crop, np.ascontiguousarray(frames[number - 1][:, side])) > 0.8


def test_crops_follow_their_frames_in_time(tree):
    # The brightness of the moving mouth and brows, frame by frame, has to rise and fall with the raw picture.
    name = next(name for name in annotations(tree) if not name.endswith(("_left", "_right")))
    frames, _ = decode(raw_of(tree, name))
    numbers = [n for n in crop_numbers(tree, name) if n <= len(frames)]
    pictures = [cv2.imread(str(tree / "cropped_aligned" / name / f"{n:05d}.jpg"), 0) for n in numbers]
    video = affwild2.plan(next(i for i in range(6) if affwild2.plan(i, (40, 60), 1).name == name), (40, 60), 1)
    places = affwild2.faces.placement(affwild2.perform(video, 0).pose, video.size)

    def difference(shift):
        pairs = [(p, n + shift) for p, n in zip(pictures, numbers, strict=True) if 1 <= n + shift <= len(frames)]
        return np.mean(
            [np.abs(affwild2.faces.crop(frames[n - 1], places[n - 1 - shift]).astype(int) - p).mean() for p, n in pairs]
        )

    assert difference(0) < min(difference(1), difference(-1))
    assert difference(0) < 5


def test_the_same_arguments_give_the_same_tree(tree, tmp_path):
    affwild2.synthesize(tmp_path / "again", **SMALL)
    assert digest(tmp_path / "again") == digest(tree)


def test_more_videos_leave_the_first_as_they_are():
    assert affwild2.plan(3, (40, 60), 0) == affwild2.plan(3, (40, 60), 0)
    assert affwild2.plan(3, (40, 60), 0).frames != affwild2.plan(3, (400, 600), 0).frames
    names = [affwild2.plan(i, (40, 60), 0).name for i in range(200)]
    assert len(set(names)) == 200


def test_the_face_shows_valence_and_the_voice_arousal():
    mouth, eyes, loudness, valence, arousal = [], [], [], [], []
    for i in range(0, 60, 5):
        video = affwild2.plan(i, (300, 300), 0)
        act, times = affwild2.perform(video, 0), affwild2.frame_times(video)
        sound = voice(times, act.valence, act.arousal, 8000, times[-1], np.random.default_rng(i))
        seconds = [np.log(block.std()) for block in sound][:-1]
        middle = np.arange(len(seconds)) + 0.5
        loudness += seconds
        for course, kept in (
            (act.valence, valence),
            (act.arousal, arousal),
            (act.expression.mouth_curve, mouth),
            (act.expression.eyes, eyes),
        ):
            kept += np.interp(middle, times, course).tolist()
    correlation = np.corrcoef([valence, arousal, mouth, eyes, loudness])
    assert correlation[0, 2] > 0.6  # valence on the mouth
    assert correlation[1, 4] > 0.6  # arousal in the voice
    assert correlation[1, 3] < 0.6  # arousal on the face: less
    assert abs(correlation[0, 4]) < 0.35


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"videos": 4}, "4 videos are too few"),
        ({"frames": (90, 70)}, "90 to 70 frames"),
        ({"frames": (5, 70)}, "5 to 70 frames"),
        ({"frames": (70, 100_000)}, "70 to 100000 frames"),
        ({"seed": -1}, "seed of -1"),
    ],
)
def test_a_wrong_argument_is_reported_before_anything_is_written(tmp_path, wrong, says):
    with pytest.raises(DataError, match=says):
        affwild2.synthesize(tmp_path / "out", **{**SMALL, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DataError, match="not empty"):
        affwild2.synthesize(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
