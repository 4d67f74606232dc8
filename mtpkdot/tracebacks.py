"""Place in the user's own code where an error was raised."""

import sysconfig
import traceback
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an error within the user's code, without this package, installed packages and Python.

    Args:
        error: the error, as it was caught.
    """
    base = Path(sysconfig.get_paths()["stdlib"])
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
        and not is_of_package(frame.filename)
        and base not in Path(frame.filename).parents
    ]


def is_of_package(file: str) -> bool:
    """Return whether a source file belongs to this package; a checkout around it may have the same name."""
    return _PACKAGE in Path(file).resolve().parents


def place_of(error: BaseException) -> str:
    """Return `FILE, line NUMBER` of the last frame of an error within the user's code, or else of its last frame.

    Args:
        error: the error, as it was caught.
    """
    frame = (own_frames(error) or traceback.extract_tb(error.__traceback__))[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"
