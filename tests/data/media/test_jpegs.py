"""Pictures come upright, and a damaged one is an error and not a guess."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mtpkdot.data.media.jpegs import decode_jpegs, encode_jpeg, read_jpeg
from mtpkdot.errors import DecodeError
from tests.data.helpers import complaint, write_text


def noise(number, height=48, width=64):
    """A picture that no encoder makes small."""
    return np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)


def jpeg(picture, **options):
    file = io.BytesIO()
    Image.fromarray(picture).convert(options.pop("mode", "RGB")).save(file, "JPEG", **options)
    return file.getvalue()


GRADIENT = np.add.outer(np.arange(61), 2 * np.arange(43))[..., None] + np.array([0, 30, 60], np.uint8)
GRADIENT = GRADIENT.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("options", [{}, {"mode": "L"}, {"progressive": True}, {"mode": "CMYK"}])
def test_jpegs_agree_with_pillow(options):
    data = jpeg(GRADIENT, quality=95, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    both = decode_jpegs([data, torch.frombuffer(bytearray(data), dtype=torch.uint8)], "x")
    assert both.shape == (2, 3, 61, 43)
    assert both.dtype == torch.uint8
    assert both.is_contiguous(memory_format=torch.channels_last)
    for picture in both:
        assert np.abs(picture.permute(1, 2, 0).numpy() - expected).max() <= (2 if "mode" in options else 0)


def test_an_encoded_picture_is_decoded_with_small_errors(tmp_path):
    path = write_text(tmp_path / "a.jpg", encode_jpeg(GRADIENT, 95))
    assert (read_jpeg(path).permute(1, 2, 0).int() - torch.from_numpy(GRADIENT).int()).abs().float().mean() < 3
    assert len(encode_jpeg(GRADIENT, 30)) < len(encode_jpeg(GRADIENT, 95))


def test_the_rotation_of_a_photograph_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned = decode_jpegs([jpeg(GRADIENT, exif=exif, quality=95)], "x")[0]
    plain = decode_jpegs([jpeg(GRADIENT, quality=95)], "x")[0]
    assert torch.equal(turned, torch.rot90(plain, -1, (1, 2)))


def thumbnailed():
    """A JPEG whose header holds another one, end marker and all."""
    whole, small = jpeg(noise(0)), jpeg(GRADIENT)
    return whole[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + whole[2:]


@pytest.mark.parametrize("whole", [jpeg(noise(0)), jpeg(noise(0), progressive=True), thumbnailed()])
def test_a_jpeg_cut_off_anywhere_is_an_error(whole):
    assert decode_jpegs([whole], "x").shape == (1, 3, 48, 64)
    for length in [*range(0, len(whole) - 2, 97), len(whole) - 2, len(whole) - 1]:
        with pytest.raises(DecodeError):
            decode_jpegs([whole[:length]], "x")


def test_errors_of_pictures_name_the_file(tmp_path):
    whole = jpeg(GRADIENT)
    cases = {
        b"": "is empty",
        b"just some text": "is not a JPEG",
        whole[:-200]: "is cut off",
        b"\xff\xd8" + bytes(200) + b"\xff\xd9": "cannot be decoded",
    }
    for data, problem in cases.items():
        path = write_text(tmp_path / "p.jpg", data)
        message = complaint(lambda path=path: read_jpeg(path))
        assert str(path) in message
        assert problem in message
    assert "picture 2 of 2" in complaint(lambda: decode_jpegs([whole, b""], "crops.h5"))
    assert "several sizes (64x48, 43x61)" in complaint(lambda: decode_jpegs([jpeg(noise(0)), whole], "crops.h5"))
    assert "no pictures" in complaint(lambda: decode_jpegs([], "crops.h5"))
    assert "cannot be read" in complaint(lambda: read_jpeg(tmp_path / "none.jpg"))


def resized(data, width, height):
    """The JPEG with another size in its frame header."""
    place = next(data.find(marker) for marker in (b"\xff\xc0\x00\x11", b"\xff\xc2\x00\x11") if marker in data)
    return data[: place + 5] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[place + 9 :]


@pytest.mark.parametrize(
    "whole",
    [
        jpeg(GRADIENT),
        jpeg(GRADIENT, progressive=True),
        jpeg(GRADIENT, comment=b"\xff\xc0\x00\x11\x08\x00\x01\x00\x01"),
        thumbnailed(),
        jpeg(GRADIENT)[:2] + b"\xff\xff\xff" + jpeg(GRADIENT)[2:],
        jpeg(GRADIENT)[:2] + b"rubbish\xff\x00" + jpeg(GRADIENT)[2:],
    ],
    ids=["plain", "progressive", "comment", "thumbnail", "fillers", "rubbish"],
)
def test_the_size_of_a_picture_is_looked_at_before_it_is_decoded(whole, tmp_path, monkeypatch):
    main = whole.rfind(b"\xff\xda")  # the thumbnail's header may stay what it is
    at = max(whole.rfind(marker, 0, main) for marker in (b"\xff\xc0\x00\x11", b"\xff\xc2\x00\x11"))
    path = write_text(tmp_path / "p.jpg", whole[:at] + resized(whole[at:], 30_000, 30_000))
    monkeypatch.setattr("cv2.imdecode", None)
    told = complaint(lambda: read_jpeg(path))
    assert "p.jpg declares pictures of 30000 x 30000 pixels" in told
    assert "MTPKDOT_MAX_PIXELS=900000000" in told


def test_the_limit_of_pictures_can_be_raised(monkeypatch):
    monkeypatch.setenv("MTPKDOT_MAX_PIXELS", str(61 * 43 - 1))
    with pytest.raises(DecodeError, match="43 x 61"):
        decode_jpegs([jpeg(GRADIENT)], "x")
    monkeypatch.setenv("MTPKDOT_MAX_PIXELS", str(61 * 43))
    assert decode_jpegs([jpeg(GRADIENT)], "x").shape == (1, 3, 61, 43)


def test_only_pictures_are_encoded():
    for wrong, quality in ((GRADIENT.astype(float), 90), (GRADIENT[..., 0], 90), (GRADIENT, 0)):
        with pytest.raises(ValueError, match=r"picture must be uint8|quality must be"):
            encode_jpeg(wrong, quality)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kind", ["hole", "removed", "overwritten"])
def test_pictures_that_their_library_completes_are_damaged(tmp_path, kind, progressive):
    whole = jpeg(noise(0), progressive=progressive)
    path = write_text(tmp_path / "00001.jpg", whole)
    expected = read_jpeg(path)
    begin = len(whole) // 3
    named = 0
    for seed in range(10):
        random = np.random.default_rng(seed)
        at = begin + int(random.integers(0, len(whole) // 3))
        middle = {"hole": bytes(200), "removed": b"", "overwritten": random.bytes(200)}[kind]
        path.write_bytes(whole[:at] + middle + whole[at + 200 :])
        try:
            read_jpeg(path)
        except DecodeError as error:
            assert str(path) in str(error)  # noqa: PT017 # some damage is another valid picture
            named += 1
    assert named >= 5
    # What follows the end of a picture is none of it, as phones append it.
    path.write_bytes(whole + b"appended" * 10)
    assert torch.equal(read_jpeg(path), expected)
