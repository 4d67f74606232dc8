"""Packages that only some need: imported where they are used, and named with their extra where they are missing."""

from importlib import import_module
from typing import Any

from mtpkdot.errors import ConfigError

# Package to import -> (its name, extra of mtpkdot, what needs it).
PACKAGES = {
    "av": ("PyAV", "video", "reading and writing videos"),
    "cv2": ("OpenCV", "video", "reading and writing pictures"),
    "simplejpeg": ("simplejpeg", "video", "reading pictures of others"),
    "h5py": ("h5py", "tables", "reading .h5 files"),
    "matplotlib": ("Matplotlib", "report", "drawing a report"),
    "submitit": ("submitit", "slurm", "crossval --submit"),
    "tensorboard": ("TensorBoard", "tensorboard", "the TensorBoardLogger"),
}


class MissingExtraError(ConfigError):
    """A package of an extra that is not installed."""


def require(package: str) -> Any:
    """Return a package of `PACKAGES`, imported.

    Raises:
        MissingExtraError: it is not installed.
    """
    name, extra, needing = PACKAGES[package]
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise  # it is there, and something that it needs is not
        raise MissingExtraError(
            f"{needing} needs {name}, which is not installed", f"Install it with `pip install 'mtpkdot[{extra}]'`."
        ) from error
