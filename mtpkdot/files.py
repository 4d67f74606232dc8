"""Files that are whole or absent, wherever a process is killed or a disk is full."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtpkdot.errors import UnwritableError

_ROOM, _FOLDER = "Make room", "Choose a folder that can be written, or correct its permissions"
# What the system refuses and the user can change; its other errors keep their traceback.
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
    errno.EEXIST: _FOLDER,  # a file stands where a folder is to be
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What is written within it is this file.

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
            f"{ADVICE[error.errno]}; the same command goes on where it was.",
        ) from error


def write_whole(path: Path, data: bytes | memoryview, synced: bool = False) -> None:
    """Write a file beside its place, then rename it; folders are made.

    Args:
        path: the file.
        data: its content.
        synced: wait until the disk has the content, so that no power failure leaves a torn file either.

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
            # Where the place is no folder, neither is there anything to remove.
            if beside.exists():
                beside.unlink(missing_ok=True)


def remove_torn(folder: Path, pattern: str = "*") -> None:
    """Remove what killed processes have left of files with such names; nobody may be writing them."""
    for path in folder.glob(f".{pattern}.*-*"):
        if path.is_file():
            path.unlink(missing_ok=True)
