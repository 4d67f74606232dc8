"""Checkpoints that are complete or absent, whenever a process is killed during writing."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from mtpkdot.files import write_whole


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint writer that writes beside the file and then renames.

    Lightning's own writer uses the system's temporary folder. Where that is another file system, as on most clusters,
    the file is copied afterwards, and a killed process or a full disk leaves a torn file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Save a checkpoint.

        Args:
            checkpoint: content of the checkpoint.
            path: path of the file; Lightning itself writes to an address with a scheme (`s3://`).
            storage_options: must be None.

        Raises:
            DataError: the disk is full, or the folder cannot be written.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        # In memory first, because torch reports a full disk by an error of its own.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_whole(Path(path), buffer.getbuffer())
