"""Checkpoints that are whole or absent, wherever a process is killed while it writes one."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

_WRITING = ".writing"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the file, then renames.

    Lightning's own writes below the system's folder of temporary files; where that is another file system, as on most
    clusters, what follows is a copy, and a process that is killed in it, or a full disk, leaves a torn file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Save; an address with a scheme (`s3://`) is Lightning's to write."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        whole = Path(path)
        whole.parent.mkdir(parents=True, exist_ok=True)
        # In memory first: torch tells a full disk as an error of its own.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        beside = whole.with_name(f".{whole.name}{_WRITING}")
        try:
            beside.write_bytes(buffer.getbuffer())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(whole)) from error  # a full disk does not name the file
        beside.replace(whole)


def remove_torn(folder: Path) -> None:
    """Remove what a killed process has left half written."""
    for path in folder.glob(f".*{_WRITING}"):
        path.unlink(missing_ok=True)
