"""Limits on the sizes that a file declares, checked before memory is allocated.

A file of a few hundred bytes can declare a picture of 900 million pixels, or an array of a thousand gigabytes.
"""

import os

from mtpkdot.errors import ConfigError, DataError

MAX_PIXELS, MAX_BYTES = "MTPKDOT_MAX_PIXELS", "MTPKDOT_MAX_BYTES"
"""Environment variables, which all reading processes inherit: pixels of a picture, and bytes of a file's arrays."""


def most_pixels() -> int:
    """Return the largest number of pixels of a picture or of a video's frame; 2^27 by default."""
    return _limit(MAX_PIXELS, 2**27)


def most_bytes() -> int:
    """Return the largest number of bytes of a file's arrays; by default 16 GiB, or half of the memory if less."""
    return _limit(MAX_BYTES, min(2**34, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2))


def check_pixels(width: int, height: int, source: object, error: type[DataError] = DataError) -> None:
    """Raise an error if a picture is larger than the limit.

    Args:
        width: declared width in pixels.
        height: declared height in pixels.
        source: the file, for the error.
        error: class of the error to raise.

    Raises:
        DataError: the picture has more pixels than the limit.
    """
    if width * height > (limit := most_pixels()):
        raise error(
            f"{source} declares pictures of {width} x {height} pixels, more than the limit of {limit} in all",
            f"Make them smaller; if the size is right, raise the limit: {MAX_PIXELS}={width * height} before the call.",
        )


def check_bytes(count: int, source: object) -> None:
    """Raise an error if the arrays of a file would take more bytes than the limit.

    Args:
        count: declared number of bytes.
        source: the file, for the error.

    Raises:
        DataError: the number is above the limit.
    """
    if count > (limit := most_bytes()):
        raise DataError(
            f"{source} declares arrays of {count} bytes, more than the limit of {limit}",
            f"Repair the file; if the size is right, raise the limit: {MAX_BYTES}={count} before the call.",
        )


def _limit(variable: str, default: int) -> int:
    text = os.environ.get(variable)
    if text is None:
        return default
    try:
        return int(float(text))
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{variable} is {text!r}, which is not a number", f"Set it to {default} or more.") from error
