"""Optional packages: imported where they are used; the error for a missing one names the extra that installs it."""

from importlib import import_module
from typing import Any

from mtpkdot.errors import ConfigError

# Package to import -> (its name, extra of mtpkdot, use that needs it).
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
    """Package of an extra that is not installed."""


def require(package: str, *others: str) -> Any:
    """Import packages of `PACKAGES` and return the first.

    Raises:
        MissingExtraError: one is not installed; the error names all that are missing.
    """
    missing = [name for name in (package, *others) if not _imports(name)]
    if missing:
        names = list(dict.fromkeys(PACKAGES[name][0] for name in missing))
        extras = ",".join(dict.fromkeys(PACKAGES[name][1] for name in missing))
        needing = PACKAGES[missing[0]][2] if len(missing) == 1 else "this"
        verb, them = ("is", "it") if len(names) == 1 else ("are", "them")
        raise MissingExtraError(
            f"{needing} needs {' and '.join(names)}, which {verb} not installed",
            f"Install {them} with `pip install 'mtpkdot[{extras}]'`.",
        )
    return import_module(package)


def _imports(package: str) -> bool:
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise  # the package is installed, and one of its own dependencies is not
        return False
    return True
