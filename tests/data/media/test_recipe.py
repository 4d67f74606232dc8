"""A checkpoint says how a raw recording becomes what its student was trained on."""

import shutil

import numpy as np
import pytest
import torch

import mtpkdot
from mtpkdot.cli.main import main
from mtpkdot.data import AffWild2, BioVid
from mtpkdot.data.media.pictures import PictureSettings
from mtpkdot.data.media.recipe import Recipe
from mtpkdot.errors import DataConfigError, DataError

SIZE = 32
BIOVID = ["--data.frames=4", "--data.start=0.5", "--data.stop=2.0", "--data.split.scheme=kfold"]
ENCODER = "{class_path: FrameEncoder, init_args: {model: test_resnet, dim: 8}}"


def affwild2(root, **options):
    return AffWild2(root=str(root), pictures=PictureSettings(size=SIZE), prepare_workers=1, **options)


def biovid(root, crop="centre", **options):
    return BioVid(root=str(root), pictures=PictureSettings(size=SIZE, crop=crop), prepare_workers=1, **options)


def stored(data, recording):
    """All samples (W, ...) of a recording as the DataModule makes them, and their masks."""
    data.setup("fit")
    rows = [i for i, id in enumerate(data.samples.ids.tolist()) if id == recording or id.startswith(f"{recording}-")]
    batch = data.dataset.__getitems__(rows)
    return batch.inputs["video"], batch.masks["video"]


@pytest.mark.parametrize("crop", ["centre", "whole"])
def test_a_clip_of_biovid_is_the_sample_of_the_data_set(biovid_twin, crop):
    data = biovid(biovid_twin, crop, frames=6, start=1.0, stop=4.0)
    recipe = Recipe.of(data.recipe())
    for path in sorted((biovid_twin / "PartA" / "video").rglob("*PA4*.mp4"))[:2]:
        x, mask = stored(data, path.stem)
        found = recipe.read(path, coded=True)
        assert torch.equal(found.x, x)
        assert torch.equal(found.mask, mask)
        plain = recipe.read(path)
        assert torch.equal(plain.mask, mask)
        apart = (plain.x.int() - x.int()).abs().float()
        assert 0 < apart.mean() < 4


@pytest.mark.parametrize("options", [{"frames": 2, "clips": 4}, {"frames": 3, "frame_step": 2, "clips": 5, "hop": 2}])
@pytest.mark.parametrize("missing", ["repeat", "mask"])
def test_windows_of_affwild2_are_the_samples_of_the_data_set(affwild2_twin, options, missing):
    data = affwild2(affwild2_twin, missing_frames=missing, unlabelled=["invalid"], **options)
    recipe, counted = Recipe.of(data.recipe()), 0
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


def test_the_checkpoint_alone_is_enough(biovid_twin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = shutil.copytree(biovid_twin, tmp_path / "raw")
    words = ["fit", "--data", "BioVid", "--data.root", str(root), f"--data.pictures.size={SIZE}", *BIOVID]
    words += ["--data.pictures.crop=centre", "--data.prepare_workers=1", "--trainer.accelerator=cpu"]
    words += [f"--backbone.video.model.encoder={ENCODER}", "--student.model.method=none", "--pipeline.name=clip"]
    words += [
        f"--{stage}.fit.max_epochs=1" for stage in ("backbone.video", "backbone.physiology", "teacher", "adapted")
    ]
    words += ["--hallucinator.fit.max_epochs=1", "--student.fit.max_epochs=1", "--pipeline.features=off"]
    assert main(words) == 0
    student = mtpkdot.load(tmp_path / "runs" / "clip")
    kept = tmp_path / "kept.mp4"
    shutil.copy(sorted((root / "PartA" / "video").rglob("*BL1*.mp4"))[0], kept)
    data = biovid(biovid_twin, frames=4, start=0.5, stop=2.0, store=str(tmp_path / "store"))
    x, mask = stored(data, sorted((root / "PartA" / "video").rglob("*BL1*.mp4"))[0].stem)
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
    assert recipe["media"]["tracks"]["audio"] == {"seconds": 1.0, "rate": 16_000}


def test_unreadable_recordings_are_one_line(biovid_twin, tmp_path):
    plain = biovid(biovid_twin, frames=4, start=4.0, stop=5.0).recipe()
    with pytest.raises(DataConfigError, match="does not read raw recordings"):
        Recipe.of({**plain, "media": {}})
    path = sorted((biovid_twin / "PartA" / "video").rglob("*.mp4"))[0]
    late = {**plain["media"], "excerpt": {"start": 40.0, "stop": 50.0, "frames": 4}}
    with pytest.raises(DataError, match="no frame from 40 to 50 s"):
        Recipe.of({**plain, "media": late}).read(path)
    with pytest.raises(DataConfigError, match=r"the student reads physiology, steps of shape \(.*\), and no pictures"):
        Recipe.of({**plain, "prevalent": "physiology"})
    detector = tmp_path / "net.onnx"
    detector.write_bytes(b"other")
    digests = {"digests": {"detector": "0" * 64}}
    searched = {**plain["media"], "pictures": {"crop": "face", "detector": str(detector), **digests}}
    with pytest.raises(DataConfigError, match="another detector"):
        Recipe.of({**plain, "media": searched})
    assert np.isfinite(Recipe.of(plain).read(path).times).all()
