"""Frames are found, cut and kept as the settings say; what is missing is repeated or masked."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from mtpkdot.data.media.boxes import Box
from mtpkdot.data.media.decode import LazyFrame, iter_frames
from mtpkdot.data.media.detectors import open_detector
from mtpkdot.data.media.faces import CausalSearch, crop, find_boxes
from mtpkdot.data.media.jpegs import decode_jpegs, encode_jpeg
from mtpkdot.data.media.pictures import PictureSettings, frame_files, read_pictures, read_present
from mtpkdot.data.synthetic.writing import write_video
from tests.data.helpers import complaint, write_text
from tests.data.media_helpers import CLIPS, YUNET, decoded, image, needs_cascade, needs_clips, needs_yunet


def folder_of(path, numbers, size=(32, 48)):
    path.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture = np.random.default_rng(number).integers(0, 255, (*size, 1), dtype=np.uint8).repeat(3, axis=2)
        (path / f"{number:05d}.jpg").write_bytes(encode_jpeg(picture, 95))
    return path


def test_frames_lie_at_their_numbers_and_the_others_are_absent(tmp_path):
    folder = folder_of(tmp_path / "a", [2, 3, 7], (32, 32))
    (folder / "._00004.jpg").write_bytes(b"litter")
    pictures = read_pictures(folder, "a", PictureSettings(size=32))
    assert read_present(pictures.offsets).tolist() == [False, True, True, False, False, False, True]
    for number in (2, 3, 7):
        data = pictures.jpegs[pictures.offsets[number - 1] : pictures.offsets[number]]
        assert data.tobytes() == (folder / f"{number:05d}.jpg").read_bytes()


@pytest.mark.parametrize("crop", ["whole", "centre"])
def test_other_sizes_are_squeezed_or_cut(tmp_path, crop):
    folder = folder_of(tmp_path / "a", [1])
    pictures = read_pictures(folder, "a", PictureSettings(size=16, crop=crop, quality=100))
    seen = decode_jpegs([pictures.jpegs.tobytes()], "x")[0].float()
    whole = torch.from_numpy(image(folder / "00001.jpg").copy()).float()
    part = whole if crop == "whole" else whole[:, :, 8:40]
    expected = torch.nn.functional.interpolate(part[None], (16, 16), mode="area")[0]
    assert (seen - expected).abs().mean() < 2


def test_boxes_say_where_to_cut_and_where_nothing_is(tmp_path):
    folder = folder_of(tmp_path / "a", [1, 2, 3])
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("recording,frame,left,top,width,height\na,0,4,8,16,16\na,1,,,,\na,2,0,0,16,16\n")
    settings = PictureSettings(size=16, crop="boxes", boxes=str(boxes), margin=0, quality=100)
    pictures = read_pictures(folder, "a", settings)
    assert read_present(pictures.offsets).tolist() == [True, False, True]
    seen = decode_jpegs([pictures.jpegs[: pictures.offsets[1]].tobytes()], "x")[0].numpy().astype(int)
    assert np.abs(seen - image(folder / "00001.jpg")[:, 8:24, 4:20]).mean() < 3
    assert "has no box of b" in complaint(lambda: read_pictures(folder, "b", settings))
    boxes.write_text("recording,frame,left,top,width,height\na,-1,400,8,16,16\n")
    other = PictureSettings(size=16, crop="boxes", boxes=str(boxes), margin=0.1)
    assert other.plain() != {**settings.plain(), "margin": 0.1}


def stored(pictures):
    """The JPEG file of every frame; empty for an absent one."""
    return [pictures.jpegs[a:b].tobytes() for a, b in zip(pictures.offsets, pictures.offsets[1:], strict=False)]


@needs_clips
@pytest.mark.parametrize("name", ["noface_face.mov", "face_noface.mov"])
@pytest.mark.parametrize("search", ["smooth", "causal"])
def test_faces_are_cut_where_the_search_sees_them(monkeypatch, detector, name, search):
    made, path = [], CLIPS / "faces" / name
    rgb = LazyFrame.rgb
    monkeypatch.setattr(LazyFrame, "rgb", lambda frame: made.append(frame.time) or rgb(frame))
    monkeypatch.setattr("mtpkdot.data.media.pictures.open_detector", lambda *_: detector)
    pictures = read_pictures(path, "a", PictureSettings(crop="face", search=search, size=64, margin=0.1))
    files = stored(pictures)
    # One conversion for a look, and one for a cut.
    assert len(made) == -(-len(files) // 5) + sum(map(bool, files))
    times, frames = zip(*iter_frames(path), strict=True)
    np.testing.assert_array_equal(pictures.times, times)
    if search == "smooth":
        boxes = [None if np.isnan(row[0]) else Box(*row) for row in find_boxes(frames, detector)]
    else:
        causal = CausalSearch(detector)
        boxes = [causal.update(frame) for frame in frames]
    expected = [
        b"" if box is None else encode_jpeg(crop(frame, box, 64, 0.1), 95)
        for frame, box in zip(frames, boxes, strict=True)
    ]
    assert files == expected


@needs_clips
@needs_cascade
def test_a_video_without_any_face_is_reported_with_the_ways_out():
    message = complaint(lambda: read_pictures(CLIPS / "faces" / "no_face.mp4", "a", PictureSettings(crop="face")))
    assert f"{CLIPS / 'faces' / 'no_face.mp4'}: no face is found in any frame" in message
    assert "pictures.detector" in message


@needs_clips
@needs_yunet
def test_a_face_is_turned_upright_where_that_is_asked_for(tmp_path):
    clip = next(frame for _, frame in iter_frames(CLIPS / "faces" / "single_face.mp4"))
    matrix = cv2.getRotationMatrix2D((clip.shape[1] / 2, clip.shape[0] / 2), 25, 1)
    tilted = cv2.warpAffine(clip, matrix, clip.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    path = tmp_path / "tilted.mp4"
    write_video(path, [np.stack([tilted] * 4)], None, Fraction(25))
    detector, rolls = open_detector(str(YUNET)), {}
    for align in (False, True):
        settings = PictureSettings(crop="face", size=240, margin=0.4, detector=str(YUNET), align=align)
        first = decode_jpegs(stored(read_pictures(path, "a", settings))[:1], "x")[0]
        rolls[align] = abs(detector.detect(first.permute(1, 2, 0).numpy()).roll)
    assert rolls[False] > 15
    assert rolls[True] < 8


def test_a_box_outside_the_picture_is_reported_with_its_file(tmp_path):
    folder = folder_of(tmp_path / "a", [1])
    boxes = tmp_path / "outside.csv"
    boxes.write_text("recording,frame,left,top,width,height\na,-1,400,8,16,16\n")
    message = complaint(lambda: read_pictures(folder, "a", PictureSettings(crop="boxes", boxes=str(boxes))))
    assert str(folder) in message
    assert "does not fit" in message


def test_a_video_gives_all_its_frames_and_times(biovid_twin):
    path = next((biovid_twin / "PartA" / "video").rglob("*.mp4"))
    pictures = read_pictures(path, "x", PictureSettings(size=48, quality=100))
    frames, times = decoded(path)
    np.testing.assert_allclose(pictures.times, times, atol=1e-6)
    files = [pictures.jpegs[a:b].tobytes() for a, b in zip(pictures.offsets, pictures.offsets[1:], strict=False)]
    seen = decode_jpegs(files, "x").permute(0, 2, 3, 1).numpy().astype(int)
    assert np.abs(seen - np.stack(frames)).mean() < 2


def test_a_folder_or_file_that_cannot_be_used_is_reported(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no JPEG frame" in complaint(lambda: read_pictures(empty, "a", PictureSettings()))
    cases = {"00000.jpg": "numbered from 1", "99999999999.jpg": "numbered from 1", "1.jpg": "have one number"}
    for number, (name, says) in enumerate(cases.items()):
        folder = folder_of(tmp_path / f"{number}", [1])
        (folder / name).write_bytes(b"x")
        assert says in complaint(lambda folder=folder: frame_files(folder))
    torn = folder_of(tmp_path / "torn", [1, 2])
    (torn / "00002.jpg").write_bytes((torn / "00002.jpg").read_bytes()[:-40])
    (torn / "00001.jpg").write_bytes(b"")
    message = complaint(lambda: read_pictures(torn, "a", PictureSettings()))
    assert f"{torn}: none of its 2 frames can be decoded, first 0000" in message


@pytest.mark.parametrize("damage", [b"", b"text", None])
def test_a_damaged_frame_is_absent_and_reported(tmp_path, damage):
    torn, whole = folder_of(tmp_path / "torn", [1, 2, 3], (32, 32)), folder_of(tmp_path / "whole", [1, 3], (32, 32))
    path = torn / "00002.jpg"
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    pictures, expected = (read_pictures(folder, "a", PictureSettings(size=32)) for folder in (torn, whole))
    assert pictures.offsets.tolist() == expected.offsets.tolist()
    assert pictures.jpegs.tobytes() == expected.jpegs.tobytes()
    (problem,) = pictures.problems
    assert (problem.path, problem.fatal) == (path, True)
    assert problem.what.startswith("is ")
    assert expected.problems == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 4},
        {"quality": 0},
        {"crop": "boxes"},
        {"boxes": "a.csv"},
        {"margin": -1},
        {"detector": "net.onnx"},
        {"crop": "centre", "search": "causal"},
        {"crop": "face", "align": True},
        {"crop": "face", "min_score": 0.9},
        {"crop": "face", "detector": "net.onnx", "min_score": 70},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="pictures"):
        PictureSettings(**wrong)


def test_the_detector_decides_what_is_stored_by_its_contents_and_defaults_by_nothing(tmp_path):
    plain = PictureSettings(crop="face").plain()
    assert not {"detector", "min_score", "search", "align"} & set(plain)
    one, same, other = (
        PictureSettings(crop="face", detector=str(write_text(tmp_path / name, text))).plain()
        for name, text in (("a.onnx", "1"), ("b.onnx", "1"), ("c.onnx", "2"))
    )
    assert one == same
    assert len({str(each) for each in (plain, one, other)}) == 3
    for changed in ({"search": "causal"}, {"align": True}, {"min_score": 0.9}):
        settings = PictureSettings(crop="face", detector=str(tmp_path / "a.onnx"), **changed)
        assert settings.plain() == {**one, **changed}
    missing = PictureSettings(crop="face", detector=str(tmp_path / "absent.onnx"))
    assert f"{tmp_path / 'absent.onnx'} does not exist" in complaint(missing.plain)
