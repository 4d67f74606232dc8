"""Files that are whole or absent, wherever a process is killed or a disk is full."""

import os
import secrets
from pathlib import Path

from mtpkdot.errors import DataError


def write_whole(path: Path, data: bytes | memoryview, synced: bool = False) -> None:
    """Write a file beside its place, then rename it; folders are made.

    Args:
        path: the file.
        data: its content.
        synced: wait until the disk has it, so that it also outlives a power failure.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                if synced:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror})",
            "Make room or correct the permissions; the same command goes on where it was.",
        ) from error
