"""A checkpoint says how a raw recording becomes what its student was trained on."""

import json
import shutil
import wave
from fractions import Fraction

import numpy as np
import pytest
import torch

import mtpkdot
from mtpkdot.cli.main import main
from mtpkdot.data import AffWild2, BioVid, Signal
from mtpkdot.data.media.clips import stored_sound
from mtpkdot.data.media.decode import read_sound
from mtpkdot.data.media.pictures import PictureSettings
from mtpkdot.data.media.recipe import Recipe
from mtpkdot.data.synthetic.writing import write_video
from mtpkdot.errors import DataConfigError, DataError, RunError

SIZE = 32
BIOVID = ["--data.frames=4", "--data.start=0.5", "--data.stop=2.0", "--data.split.scheme=kfold"]
ENCODER = "{class_path: FrameEncoder, init_args: {model: test_resnet, dim: 8}}"


def affwild2(root, **options):
    return AffWild2(root=str(root), pictures=PictureSettings(size=SIZE), prepare_workers=1, **options)


def biovid(root, crop="centre", **options):
    return BioVid(root=str(root), pictures=PictureSettings(size=SIZE, crop=crop), prepare_workers=1, **options)


def stored(data, recording):
    """All samples (W, ...) of a recording as the DataModule makes them for the student, and their masks."""
    data.setup("fit")
    rows = [i for i, id in enumerate(data.samples.ids.tolist()) if id == recording or id.startswith(f"{recording}-")]
    batch = data.dataset.__getitems__(rows)
    return batch.inputs[data.prevalent], batch.masks[data.prevalent]


def plain(data):
    """The recipe as a checkpoint carries it."""
    return json.loads(json.dumps(data.recipe()))


@pytest.mark.parametrize("crop", ["centre", "whole"])
def test_a_clip_of_biovid_is_the_sample_of_the_data_set(biovid_twin, crop):
    data = biovid(biovid_twin, crop, frames=6, start=1.0, stop=4.0)
    recipe = Recipe.of(plain(data))
    for path in sorted((biovid_twin / "PartA" / "video").rglob("*PA4*.mp4"))[:2]:
        x, mask = stored(data, path.stem)
        found = recipe.read(path, coded=True)
        assert torch.equal(found.x, x)
        assert torch.equal(found.mask, mask)
        uncoded = recipe.read(path)
        assert torch.equal(uncoded.mask, mask)
        apart = (uncoded.x.int() - x.int()).abs().float()
        assert 0 < apart.mean() < 4


@pytest.mark.parametrize("options", [{"frames": 2, "clips": 4}, {"frames": 3, "frame_step": 2, "clips": 5, "hop": 2}])
@pytest.mark.parametrize("missing", ["repeat", "mask"])
def test_windows_of_affwild2_are_the_samples_of_the_data_set(affwild2_twin, options, missing):
    data = affwild2(affwild2_twin, missing_frames=missing, unlabelled=["invalid"], **options)
    recipe, counted = Recipe.of(plain(data)), 0
    for row in data.entries:
        crops = affwild2_twin / "cropped_aligned" / row["id"]
        x, mask = stored(data, row["id"])
        found = recipe.read(crops, coded=True)
        # The last window is another one where the folder has more crops than there are rows, or fewer.
        whole = len(found.times) == len(row["times"])
        counted += whole
        kept = len(x) if whole else min(len(x), len(found.x)) - 1
        assert torch.equal(found.x[:kept], x[:kept])
        assert torch.equal(found.mask[:kept], mask[:kept])
        assert not whole or len(found.x) == kept
    assert counted >= 3


@pytest.mark.parametrize("signals", [None, {"heart": Signal(["ecg"], highpass=1.0, lowpass=40.0, notch=50.0)}])
def test_signals_of_biovid_are_the_sample_of_the_data_set(biovid_twin, signals):
    name = "physiology" if signals is None else "heart"
    data = biovid(biovid_twin, prevalent=name, signals=signals, start=1.0, stop=4.0)
    recipe = Recipe.of(plain(data))
    for path in sorted((biovid_twin / "PartA" / "biosignals_filtered").rglob("*PA4*.csv"))[:2]:
        x, mask = stored(data, path.name.removesuffix("_bio.csv"))
        found = recipe.read(path)
        assert torch.equal(found.x, x)
        assert torch.equal(found.mask, mask)


@pytest.mark.parametrize("options", [{"frames": 2, "clips": 4}, {"frames": 3, "clips": 5, "hop": 2}])
def test_sound_of_affwild2_is_the_sample_of_the_data_set(affwild2_twin, options):
    data = affwild2(affwild2_twin, prevalent="audio", unlabelled=["invalid"], **options)
    recipe, files, counted = Recipe.of(plain(data)), {r.id: r.files for r in data.inventory().recordings}, 0
    for row in data.entries:
        if not row.get("length.sound", 0) > 0:
            continue
        found = recipe.read(files[row["id"]]["sound"])
        x, mask = stored(data, row["id"])
        common = min(len(found.times), len(row["times"]))
        if not np.array_equal(found.times[:common], row["times"][:common]):
            continue  # encoded again at another rate, which only the number of annotated frames shows
        # The last window is another one where the video has more frames than there are rows, or fewer.
        whole = len(found.times) == len(row["times"])
        kept = len(x) if whole else min(len(x), len(found.x)) - 1
        counted += kept
        assert torch.equal(found.x[:kept], x[:kept])
        assert torch.equal(found.mask[:kept], mask[:kept])
        assert not whole or len(found.x) == kept
    assert counted >= 12


def test_sound_without_a_video_is_cut_at_the_frame_rate_or_by_another_video(affwild2_twin, tmp_path):
    data = affwild2(affwild2_twin, prevalent="audio", frames=3, clips=4)
    video = tmp_path / "video.mp4"
    pictures, sound = np.zeros((40, 16, 16, 3), np.uint8), np.sin(np.arange(44_100 * 2) / 9).astype(np.float32)
    write_video(video, [pictures], None, Fraction(20), [sound], sound_rate=44_100)
    heard = read_sound(video, 16_000)
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(stored_sound(heard).tobytes())
    recipe = Recipe.of(plain(data))
    alone, beside, whole = (
        recipe.read(tmp_path / "sound.wav"),
        recipe.read(tmp_path / "sound.wav", video=video),
        recipe.read(video),
    )
    seconds = len(heard) / 16_000
    np.testing.assert_allclose(alone.times, np.arange(np.ceil(seconds * 30)) / 30)
    np.testing.assert_allclose(whole.times, np.arange(40) / 20)
    assert beside.x.shape == (4, 4, 16_000)
    torch.testing.assert_close(beside.x, whole.x, atol=1e-4, rtol=0)  # a wav file has another full scale
    assert torch.equal(beside.mask, whole.mask)
    # The second step shows the frames 3 to 5, around 0.2 s: 4800 samples of silence, and then the sound.
    assert not beside.x[0, 1, :4800].any()
    np.testing.assert_allclose(beside.x[0, 1, 4800:], stored_sound(heard)[:11_200] / np.float32(32767), atol=1e-4)


def fit(root, *options):
    """A run of the shortest trainings."""
    words = ["fit", *options, "--data.root", str(root), f"--data.pictures.size={SIZE}", "--data.prepare_workers=1"]
    stages = ("backbone.video", "backbone.physiology", "teacher", "adapted", "hallucinator", "student")
    words += [f"--{stage}.fit.max_epochs=1" for stage in stages]
    words += ["--trainer.accelerator=cpu", "--student.model.method=none", "--pipeline.features=off"]
    assert main([*words, f"--backbone.video.model.encoder={ENCODER}", "--pipeline.name=clip"]) == 0
    return mtpkdot.load("runs/clip")


@pytest.mark.parametrize("prevalent", ["video", "physiology"])
def test_the_checkpoint_alone_is_enough(prevalent, biovid_twin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = shutil.copytree(biovid_twin, tmp_path / "raw")
    options = ["--data=BioVid", *BIOVID, "--data.pictures.crop=centre", f"--data.prevalent={prevalent}"]
    student = fit(root, *options)
    video = sorted((root / "PartA" / "video").rglob("*BL1*.mp4"))[0]
    (signals,) = (root / "PartA" / "biosignals_filtered").rglob(f"{video.stem}_bio.csv")
    kept = tmp_path / ("kept.mp4" if prevalent == "video" else "kept.csv")
    shutil.copy(video if prevalent == "video" else signals, kept)
    data = biovid(biovid_twin, frames=4, start=0.5, stop=2.0, prevalent=prevalent, store=str(tmp_path / "store"))
    x, mask = stored(data, video.stem)
    shutil.rmtree(root)
    assert student.recipe["classes"] == ["BL1", "PA4"]
    assert student.recipe["unit"] == "samples"
    found = Recipe.of(student.recipe).read(kept, coded=True)
    assert torch.equal(found.x, x)
    with torch.no_grad():
        torch.testing.assert_close(student(found.x, found.mask)[1], student(x, mask)[1])


def test_ranges_and_names_of_values_are_in_the_recipe(affwild2_twin):
    recipe = affwild2(affwild2_twin).recipe()
    assert recipe["targets"] == ["valence", "arousal"]
    assert all(-1 <= low < high <= 1 for low, high in recipe["ranges"])
    sound = recipe["media"]["tracks"]["audio"]
    assert sound["class_path"] == "mtpkdot.data.media.tracks.SoundTrack"
    assert sound["init_args"] == {"seconds": 1.0, "rate": 16_000}


def test_unreadable_recordings_are_one_line(biovid_twin, tmp_path):
    recipe = plain(biovid(biovid_twin, frames=4, start=4.0, stop=5.0))
    with pytest.raises(DataConfigError, match="does not read raw recordings"):
        Recipe.of({**recipe, "media": {}})
    path = sorted((biovid_twin / "PartA" / "video").rglob("*.mp4"))[0]
    late = {**recipe["media"], "excerpt": {"start": 40.0, "stop": 50.0, "frames": 4}}
    with pytest.raises(DataError, match="no frame from 40 to 50 s"):
        Recipe.of({**recipe, "media": late}).read(path)
    untold = {**recipe["media"], "tracks": {}}
    with pytest.raises(DataConfigError, match=r"the student reads physiology, steps of shape \(.*\), and no pictures"):
        Recipe.of({**recipe, "prevalent": "physiology", "media": untold})
    signals = sorted((biovid_twin / "PartA").rglob("*_bio.csv"))[0]
    with pytest.raises(DataError, match=r"the signals end at 5\.\d\d s, and the student reads 40 to 50 s"):
        Recipe.of({**recipe, "prevalent": "physiology", "media": late}).read(signals)
    detector = tmp_path / "net.onnx"
    detector.write_bytes(b"other")
    digests = {"digests": {"detector": "0" * 64}}
    searched = {**recipe["media"], "pictures": {"crop": "face", "detector": str(detector), **digests}}
    with pytest.raises(DataConfigError, match="another detector"):
        Recipe.of({**recipe, "media": searched})
    assert np.isfinite(Recipe.of(recipe).read(path).times).all()


def test_a_class_of_the_recipe_is_imported_only_if_it_is_trusted(biovid_twin):
    recipe = plain(biovid(biovid_twin, prevalent="physiology"))
    track = recipe["media"]["tracks"]["physiology"]
    with pytest.raises(RunError, match=r"names evil\.Signal, which is not part of mtpkdot"):
        Recipe.of(
            {**recipe, "media": {**recipe["media"], "tracks": {"physiology": {**track, "class_path": "evil.Signal"}}}}
        )
    absent = {"physiology": {**track, "class_path": "mtpkdot_absent.Signal"}}
    with pytest.raises(DataConfigError, match=r"by mtpkdot_absent\.Signal, which cannot be built"):
        Recipe.of({**recipe, "media": {**recipe["media"], "tracks": absent}}, trust=["mtpkdot_absent"])
