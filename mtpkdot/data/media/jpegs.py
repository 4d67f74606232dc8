"""Decoding and encoding of pictures, all in one place: JPEG, with OpenCV."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtpkdot.errors import DecodeError
from mtpkdot.extras import require
from mtpkdot.limits import check_pixels


def decode_jpegs(data: Sequence[Tensor | bytes], source: str) -> Tensor:
    """Decode pictures of one size.

    OpenCV replaces torchvision, whose own decoder is deprecated; the pixels are the same. Neither detects every cut
    picture, so the end marker is checked first.

    Args:
        data: k JPEG files as bytes or as uint8 tensors (n,). Grey and CMYK become RGB; EXIF rotation is applied.
        source: their name in errors, such as a file name.

    Returns:
        (k, 3, H, W), uint8, RGB; channels last in memory, as decoded and as convolutions prefer.

    Raises:
        DecodeError: there are no pictures, or one is empty, cut off, not a JPEG, or of another size.
    """
    import cv2

    if not data:
        raise DecodeError(f"{source} holds no pictures", "Give at least one JPEG picture.")
    pictures = []
    for number, item in enumerate(data):
        name = source if len(data) == 1 else f"{source}, picture {number + 1} of {len(data)}"
        encoded = np.frombuffer(item, np.uint8) if isinstance(item, bytes) else item.detach().cpu().numpy()
        _check_jpeg(encoded.tobytes(), name)
        check_pixels(*_jpeg_size(encoded.tobytes()), name, DecodeError)
        try:
            picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
        except cv2.error as error:
            raise _bad_jpeg(name, "cannot be decoded") from error
        if picture is None:
            raise _bad_jpeg(name, "cannot be decoded")
        pictures.append(picture)
    sizes = sorted({picture.shape[:2] for picture in pictures})
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for height, width in sizes[:3])
        raise DecodeError(f"{source} holds pictures of several sizes ({listed})", "Give all pictures one size.")
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def encode_jpeg(frame: NDArray[np.uint8], quality: int) -> bytes:
    """Return a picture (H, W, 3), uint8, RGB, as a JPEG file of this quality (1 to 100)."""
    import cv2

    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"a picture must be uint8 (H, W, 3), not {frame.dtype} {frame.shape}")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, not {quality}")
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


def read_jpeg(path: Path) -> Tensor:
    """Return one picture of a foreign file, (3, H, W), uint8, RGB.

    Raises:
        DecodeError: the file is missing, empty, cut off, not a JPEG, or has data that the library completes or skips.
            Data overwritten by other valid data go undetected.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DecodeError(
            f"{path} cannot be read ({error.strerror})", "Correct the path or the permissions."
        ) from error
    picture = decode_jpegs([data], str(path))[0]
    _check_data(data, path)
    return picture


def _check_data(data: bytes, path: Path) -> None:
    """Raise an error if libjpeg warns of a picture's data; OpenCV prints the warning and returns invented pixels."""
    simplejpeg = require("simplejpeg")
    try:
        # All data are also read for an eighth of the size, in a third of the time.
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        raise _bad_jpeg(str(path), f"is damaged ({' '.join(str(error).split())})") from error


def _bad_jpeg(name: str, what: str) -> DecodeError:
    return DecodeError(f"{name} {what}", "Copy the picture again, or leave it out.")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return width and height that a JPEG file declares, parsed as its library does; 0 and 0 without a frame header."""
    position = 2
    while (position := data.find(b"\xff", position)) >= 0:
        position += 1
        marker = data[position] if position < len(data) else 0xD9
        if marker in (0xFF, 0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # Fillers, and markers without a segment.
            continue
        if marker in (0xD9, 0xDA):
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[position + at : position + at + 2], "big") for at in (4, 6))
            return width, height
        position += 1 + int.from_bytes(data[position + 1 : position + 3], "big")
    return 0, 0


def _check_jpeg(data: bytes, name: str) -> None:
    """Raise an error for a file that is no JPEG, or lacks its end marker after the last scan begins."""
    if not data:
        raise _bad_jpeg(name, "is empty (0 bytes)")
    if not data.startswith(b"\xff\xd8"):
        raise _bad_jpeg(name, "is not a JPEG picture")
    position = 2
    # Skip the segments up to the first scan: a thumbnail in one of them has an end marker of its own.
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        fill = data[position + 1] == 0xFF
        position += 1 if fill else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    if data.rfind(b"\xff\xd9", position) < 0:
        raise _bad_jpeg(name, "is cut off (a JPEG picture without its end marker)")
