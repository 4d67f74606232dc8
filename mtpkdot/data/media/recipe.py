"""Conversion of a raw recording to the input of a student, by the recipe in the student's checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtpkdot.data.media.jpegs import decode_jpegs
from mtpkdot.data.media.pictures import Frame, PictureSettings, iter_pictures, read_pictures
from mtpkdot.data.media.windows import Excerpt, Times, Windows
from mtpkdot.errors import DataConfigError, DataError


@dataclass(frozen=True)
class Input:
    """Pictures of a recording as a student reads them.

    Attributes:
        x: (W, T, 3, size, size) uint8, or (W, T, F, 3, size, size) if a step is a clip of F pictures.
        mask: (W, T) bool, True for steps with a picture.
        times: (N,) seconds of all frames of the recording.
    """

    x: Tensor
    mask: Tensor
    times: Times


@dataclass(frozen=True)
class Recipe:
    """Conversion of the pictures of a raw recording to the input of a student.

    Args:
        pictures: settings of how frames are cut.
        cut: division of a recording: windows of steps, or pictures spaced over an excerpt.
        frame_rate: frames per second of folders of frames, whose times are unknown.

    Example:
        >>> plain = {"media": {"pictures": {"size": 48}, "windows": {"frames": 2, "clips": 4}, "frame_rate": 30.0}}
        >>> Recipe.of(plain).cut.span
        2
    """

    pictures: PictureSettings
    cut: Windows | Excerpt
    frame_rate: float

    @classmethod
    def of(cls, plain: Mapping[str, Any], detector: str | None = None) -> "Recipe":
        """Return the recipe that a checkpoint carries as plain data.

        Args:
            plain: `recipe` of the checkpoint, which is `BaseData.recipe()`.
            detector: path of the face detector's file, where it lies elsewhere than in training.

        Raises:
            DataConfigError: the student does not read pictures of raw recordings (but sound, signals or features), or
                the file of the detector is absent or another one than in training.
        """
        media = plain.get("media") or {}
        if "windows" in media:
            cut: Windows | Excerpt = Windows(**media["windows"])
        elif "excerpt" in media:
            cut = Excerpt(**media["excerpt"])
        else:
            raise DataConfigError(
                "the student does not read raw recordings", "Give it features as it was trained on, (N, T, D)."
            )
        known = {each.name for each in fields(PictureSettings)}
        settings = PictureSettings(**{key: value for key, value in media["pictures"].items() if key in known})
        if detector is not None:
            settings = replace(settings, detector=detector)
        expected = media["pictures"].get("digests", {}).get("detector")
        if expected is not None and settings.plain().get("detector") != expected:
            raise DataConfigError(
                f"{settings.detector} is another detector than the student was trained with", "Name that one."
            )
        size, shape = settings.size, plain.get("steps", {}).get(plain.get("prevalent"))
        if shape is not None and list(shape[-3:]) != [3, size, size]:
            raise DataConfigError(
                f"the student reads {plain['prevalent']}, steps of shape {tuple(shape)}, and no pictures",
                "Give it steps as it was trained on.",
            )
        return cls(settings, cut, float(media["frame_rate"]))

    def read(self, path: Path | str, coded: bool = False, id: str | None = None) -> Input:
        """Read a recording: a video file, or a folder of frames that are named by their numbers.

        Args:
            path: the recording.
            coded: compress every frame as the prepared store of the training does; the input is then the very one of
                the training. Without it a picture differs by what JPEG loses.
            id: of the recording in a file of boxes; None for the name of `path`.

        Raises:
            DataError: the recording cannot be read, or has no frame in the part that is shown.
        """
        path = Path(path)
        id = path.stem if id is None else id
        known, frames = self._coded(path, id) if coded else self._uncoded(path, id)
        times = np.where(np.isnan(known), np.arange(len(known)) / self.frame_rate, known)
        present = np.array([frame is not None for frame in frames], dtype=np.bool_)
        if not present.any():
            raise DataError(f"{path}: no frame has a picture", "Look at the recording, and at how faces are found.")
        if isinstance(self.cut, Windows):
            cut = self.cut.cut(times, present)
            shown, mask = cut.frames, cut.mask
        else:
            if not ((times >= self.cut.start - 1e-6) & (times < self.cut.stop - 1e-6)).any():
                what = f"{path} has no frame from {self.cut.start:g} to {self.cut.stop:g} s, which the student reads"
                raise DataError(what, "Give a longer recording.")
            shown = self.cut.pictures(times, present)[None]
            mask = shown >= 0
        return Input(self._stacked(frames, shown), torch.from_numpy(np.asarray(mask)), times)

    def _coded(self, path: Path, id: str) -> tuple[Times, list[Frame | None]]:
        """Return time (N,) and pixels of every frame, after the compression of a store."""
        pictures = read_pictures(path, id, self.pictures)
        files = [pictures.jpegs[a:b].tobytes() for a, b in pairwise(pictures.offsets.tolist())]
        frames = [decode_jpegs([file], str(path))[0].permute(1, 2, 0).numpy() if file else None for file in files]
        return pictures.times, frames

    def _uncoded(self, path: Path, id: str) -> tuple[Times, list[Frame | None]]:
        """Return time (N,) and pixels of every frame, as they are cut."""
        found = list(iter_pictures(path, id, self.pictures))
        return np.array([time for time, _ in found], dtype=np.float64), [frame for _, frame in found]

    def _stacked(self, frames: list[Frame | None], shown: "np.ndarray[Any, np.dtype[np.int32]]") -> Tensor:
        """Return the pictures (*shown.shape, 3, size, size) of these frames; black for -1."""
        size = self.pictures.size
        x = torch.zeros(*shown.shape, size, size, 3, dtype=torch.uint8)
        flat = x.view(-1, size, size, 3)
        for position, number in enumerate(shown.reshape(-1).tolist()):
            frame = frames[number] if number >= 0 else None
            if frame is not None:
                flat[position] = torch.from_numpy(frame)
        return x.movedim(-1, -3)
