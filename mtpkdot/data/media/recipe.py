"""Conversion of a raw recording to the input of a student, by the recipe in the student's checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mtpkdot.data.media.jpegs import decode_jpegs
from mtpkdot.data.media.pictures import Frame, PictureSettings, frame_files, iter_pictures, read_pictures
from mtpkdot.data.media.store import Content
from mtpkdot.data.media.tracks import Track
from mtpkdot.data.media.windows import Excerpt, Times, Windows
from mtpkdot.errors import DataConfigError, DataError
from mtpkdot.trust import check, one_call


class RawTrack(Protocol):
    """Sound or signals of raw files: a `Track` for windows, or a class with these methods for excerpts."""

    def read(self, path: Path) -> Content:
        """Read a raw file."""

    def cut(self, content: Content, cut: Any, /) -> tuple[Tensor, Tensor]:
        """Return the input (W, T, *step) and its mask (W, T) of a file that was read."""


@dataclass(frozen=True)
class Input:
    """Input of a student, from one recording.

    Attributes:
        x: pictures (W, T, 3, size, size) uint8, or (W, T, F, 3, size, size) if a step is a clip of F pictures; sound or
            signals (W, T, *step) float32.
        mask: (W, T) bool, True for steps with a picture, or within the sound or signals.
        times: (N,) seconds of all frames of the recording; empty for an excerpt of signals.
    """

    x: Tensor
    mask: Tensor
    times: Times


@dataclass(frozen=True)
class Recipe:
    """Conversion of a raw recording to the input of a student: pictures, sound or signals.

    Args:
        pictures: settings of how frames are cut.
        cut: division of a recording: windows of steps, or an excerpt.
        frame_rate: frames per second where times of frames are unknown: of folders of frames, and of sound and signals
            without a video.
        track: reader of the sound or signals; None if the student reads pictures.

    Example:
        >>> plain = {"media": {"pictures": {"size": 48}, "windows": {"frames": 2, "clips": 4}, "frame_rate": 30.0}}
        >>> Recipe.of(plain).cut.span
        2
    """

    pictures: PictureSettings
    cut: Windows | Excerpt
    frame_rate: float
    track: RawTrack | None = None

    @classmethod
    def of(cls, plain: Mapping[str, Any], detector: str | None = None, trust: Sequence[str] = ()) -> "Recipe":
        """Return the recipe that a checkpoint carries as plain data.

        Args:
            plain: `recipe` of the checkpoint, which is `BaseData.recipe()`.
            detector: path of the face detector's file, where it lies elsewhere than in training.
            trust: packages or classes that may be imported, if the data set reads sound or signals with a class that is
                not part of mtpkdot; see `mtpkdot.load`.

        Raises:
            DataConfigError: the student does not read raw recordings (but features), or the file of the detector is
                absent or another one than in training.
            RunError: the recipe names a class that is not trusted.
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
        rate, prevalent = float(media["frame_rate"]), plain.get("prevalent")
        if prevalent in media.get("tracks", {}):
            return cls(settings, cut, rate, _track(plain, trust))
        if detector is not None:
            settings = replace(settings, detector=detector)
        expected = media["pictures"].get("digests", {}).get("detector")
        if expected is not None and settings.plain().get("detector") != expected:
            raise DataConfigError(
                f"{settings.detector} is another detector than the student was trained with", "Name that one."
            )
        size, shape = settings.size, plain.get("steps", {}).get(prevalent)
        if shape is not None and list(shape[-3:]) != [3, size, size]:
            raise DataConfigError(
                f"the student reads {prevalent}, steps of shape {tuple(shape)}, and no pictures",
                "Give it steps as it was trained on.",
            )
        return cls(settings, cut, rate)

    def read(
        self, path: Path | str, coded: bool = False, id: str | None = None, video: Path | str | None = None
    ) -> Input:
        """Read a recording.

        Args:
            path: the recording. For pictures a video, or a folder of frames that are named by their numbers; for sound
                a media file with sound; for signals a file like those of the data set.
            coded: compress every frame as the prepared store of the training does; pictures are then the very ones of
                the training. Without it they differ by what JPEG loses.
            id: of the recording in a file of boxes; None for the name of `path`.
            video: video, or folder of frames, whose frames the windows of sound or signals follow as in training. None
                for the video in `path`, or else frames at `frame_rate` until the sound or signals end.

        Raises:
            DataError: the recording cannot be read, or has nothing in the part that the student reads.
        """
        path = Path(path)
        if self.track is not None:
            return self._pieces(self.track, path, None if video is None else Path(video))
        id = path.stem if id is None else id
        known, frames = self._coded(path, id) if coded else self._uncoded(path, id)
        times = self._timed(known)
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

    def _pieces(self, track: RawTrack, path: Path, video: Path | None) -> Input:
        """Return the sound or signals of a recording."""
        content = track.read(path)
        if isinstance(self.cut, Excerpt):
            return Input(*track.cut(content, self.cut), np.zeros(0))
        assert isinstance(track, Track)
        if video is not None:
            times = self._frame_times(video)
        elif "times" in content.small:
            times = self._timed(content.small["times"])
        else:
            times = np.arange(np.ceil(track.seconds_of(content) * self.frame_rate)) / self.frame_rate
        x, mask = track.cut(content, self.cut.cut(times, np.ones(len(times), dtype=np.bool_)))
        if not mask.any():
            raise DataError(f"{path} is shorter than the {track.seconds:g} s of a step", "Give a longer recording.")
        return Input(x, mask, times)

    def _frame_times(self, path: Path) -> Times:
        """Return the time (N,) of every frame of a video, or of a folder of frames."""
        if path.is_dir():
            return self._timed(np.full(max(frame_files(path), default=-1) + 1, np.nan))
        from mtpkdot.data.media.decode import frame_times

        return self._timed(frame_times(path))

    def _timed(self, known: Times) -> Times:
        """Return the times (N,) of frames, those at `frame_rate` where they are unknown."""
        return np.where(np.isnan(known), np.arange(len(known)) / self.frame_rate, known)

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


def _track(plain: Mapping[str, Any], trust: Sequence[str]) -> RawTrack:
    """Return the reader of the sound or signals that a student reads, after a check of trust in its class."""
    named = plain["media"]["tracks"][plain["prevalent"]]
    with one_call(trust):
        check(plain, "the recipe of the checkpoint")
        module, _, name = named["class_path"].rpartition(".")
        try:
            track: RawTrack = getattr(import_module(module), name)(**named["init_args"])
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise DataConfigError(
                f"the student reads {plain['prevalent']} by {named['class_path']}, which cannot be built ({error})",
                "Install the code that it was trained with.",
            ) from error
    return track
