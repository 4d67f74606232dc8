"""Where in the user's own code an error was raised."""

import sysconfig
import traceback
from pathlib import Path


def own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an error within the user's own code: neither this package, an installed one nor Python's.

    Args:
        error: the error, as it was caught.
    """
    base = Path(sysconfig.get_paths()["stdlib"])
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
        and "mtpkdot" not in Path(frame.filename).parts
        and base not in Path(frame.filename).parents
    ]


def place_of(error: BaseException) -> str:
    """Return `FILE, line NUMBER` where an error was raised last within the user's own code, or anywhere.

    Args:
        error: the error, as it was caught.
    """
    frame = (own_frames(error) or traceback.extract_tb(error.__traceback__))[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"
