"""Atomic writing of files: a file is complete or absent, even if the process is killed or the disk is full."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtpkdot.errors import UnwritableError

_ROOM, _FOLDER = "Make room", "Choose a folder that can be written, or correct its permissions"
# System errors that the user can resolve; others keep their traceback.
ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "Raise the limit on the size of files",
    errno.EROFS: _FOLDER,
    errno.EACCES: _FOLDER,
    errno.EPERM: _FOLDER,
    errno.ENOENT: _FOLDER,
    errno.ENOTDIR: _FOLDER,
    errno.EISDIR: _FOLDER,
    errno.EEXIST: _FOLDER,  # a file is in the place of a folder
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert system errors within the block into errors about writing this file.

    Raises:
        UnwritableError: the disk is full, or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in ADVICE:
            raise
        raise UnwritableError(
            f"{path} cannot be written ({error.strerror})",
            f"{ADVICE[error.errno]}; the same command continues where it stopped.",
        ) from error


def write_whole(path: Path, data: bytes | memoryview, synced: bool = False) -> None:
    """Write a file under a temporary name beside its place, then rename it; missing folders are created.

    Args:
        path: the file.
        data: its content.
        synced: wait until the content is on the disk, so that a power failure cannot leave an incomplete file either.

    Raises:
        UnwritableError: the disk is full, or the place cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                file.write(data)
                if synced:
                    file.flush()
                    os.fsync(file.fileno())
            beside.replace(path)
        finally:
            # It does not exist if its folder could not be created.
            if beside.exists():
                beside.unlink(missing_ok=True)


def remove_torn(folder: Path, pattern: str = "*") -> None:
    """Remove the temporary files that killed processes have left of matching files; none may be being written."""
    for path in folder.glob(f".{pattern}.*-*"):
        if path.is_file():
            path.unlink(missing_ok=True)
