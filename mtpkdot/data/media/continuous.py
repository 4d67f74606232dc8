"""Data sets with annotations over time: every frame of a recording has values, which are predicted per step."""

from abc import abstractmethod
from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtpkdot.data.batch import BoolArray, Clips, FloatArray, IntArray, Rows, Samples, StrArray
from mtpkdot.data.media.base import MediaData
from mtpkdot.data.media.clips import PictureClips
from mtpkdot.data.media.pictures import read_present
from mtpkdot.data.media.timeline import USUAL_RATE
from mtpkdot.data.media.tracks import Track, plain_of
from mtpkdot.data.media.windows import Windows, mean_of_each

VIDEO = "video"


class ContinuousData(MediaData):
    """Base class of data sets whose recordings are annotated over time.

    A step is a clip of `frames` pictures with the sound and signals around it, and a sample is a window of `clips`
    steps. The target of a step is the mean over its annotated frames. Results are computed on frames: every annotated
    frame is compared with the prediction of its step (the mean over all windows that contain it), over all recordings
    of a part.

    A subclass names the `annotations` and the `tracks`, finds the recordings (`inventory`) and decodes them
    (`converter`) into a `Content`. Its facts are `subject` and, for given parts, `part` (train, validation, test).
    `small` has the `times` of the frames in seconds (NaN for those at `frame_rate`), the `offsets` of their pictures,
    and an array (frames,) per annotation, NaN where absent. `large` has what `pictures` and tracks read; of the raw
    files of tracks it is `large` of `Track.read`.

    Args:
        prevalent: modality of the student.
        task: `regression`.
        frames: pictures of a clip.
        frame_step: frames from one picture to the next; a clip covers `frames * frame_step` frames.
        clips: clips of a window.
        hop: clips from the beginning of one window to that of the next; null for windows that do not overlap.
        options: see MediaData.
    """

    annotations: ClassVar[tuple[str, ...]]
    subject_fact: ClassVar[str] = "subject"

    def __init__(
        self,
        prevalent: str = VIDEO,
        task: Literal["regression"] = "regression",
        frames: int = 8,
        frame_step: int = 1,
        clips: int = 16,
        hop: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(prevalent=prevalent, task=task, **options)
        self.windows = Windows(frames, frame_step, clips=clips, hop=hop, missing_frames=self.missing_frames)

    @property
    @abstractmethod
    def tracks(self) -> dict[str, Track]:
        """Modalities beside the pictures, known without reading any file."""

    @property
    def modality_names(self) -> list[str]:
        """Names of the pictures and of the tracks."""
        return [VIDEO, *self.tracks]

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the store beside the pictures: the rates of the tracks."""
        return {f"{name}_rate": track.rate for name, track in self.tracks.items()}

    def cutting(self) -> dict[str, Any]:
        """Return the windows, and the pieces of tracks around each step; see MediaData."""
        tracks = {name: plain_of(track) for name, track in self.tracks.items()}
        return {"windows": asdict(self.windows), "tracks": tracks}

    def load(self) -> Samples:
        """Cut all windows from the store and keep those with a label or a picture."""
        samples = self.cut()
        return self.keep(samples, samples.known | samples.masks[VIDEO].any(axis=1))

    def cut(self) -> Samples:
        """Return the windows of all recordings, in the order of the store."""
        pieces = [self._cut(row) for row in self.entries]
        sizes = [len(piece["target"]) for piece in pieces]
        joined = {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}
        row = np.repeat(np.arange(len(sizes)), sizes)
        first_step = np.concatenate([np.arange(size) * self.windows.stride for size in sizes])
        self._places = row, first_step
        recordings = self._ids[row]
        ids = np.char.add(np.char.add(recordings, "-"), np.char.zfill(first_step.astype(np.str_), 6))
        common = (self.prepared, recordings, ids, self.augment)
        features: dict[str, Clips] = {
            VIDEO: PictureClips(*common, joined["frames"], self.offsets(), self.pictures.size)
        }
        for name, track in self.tracks.items():
            samples = {each["id"]: track.samples(each) for each in self.entries}
            features[name] = track.clips(common, joined[f"starts.{name}"], samples)
        return Samples(
            ids,
            self.fact(self.subject_fact),
            target=joined["target"],
            labelled=joined["labelled"],
            target_names=list(self.annotations),
            class_names=[],
            features=features,
            masks={name: joined[f"mask.{name}"] for name in self.modality_names},
            split_column=self.fact("part") if "part" in self.prepared.index else None,
            rates={VIDEO: USUAL_RATE, **{name: float(track.rate) for name, track in self.tracks.items()}},
        )

    def keep(self, samples: Samples, kept: BoolArray) -> Samples:
        """Return the windows of `cut` for which `kept` (n,) is True, and store their places."""
        row, first_step = self._places
        self._places = row[kept], first_step[kept]
        return samples if kept.all() else samples.keep(kept)

    @property
    def places(self) -> tuple[IntArray, IntArray]:
        """Position (n,) of each sample's recording among `entries`, and first step (n,) of its window."""
        self._loaded  # noqa: B018 # computes them
        return self._places

    def fact(self, name: str) -> StrArray:
        """Return a fact (n,) of the recording of every window of `cut`."""
        return self.prepared.index[name].to_numpy(dtype=np.str_)[self._places[0]]

    def remarks(self) -> list[str]:
        """Return the definition of a sample, and the number of unreadable recordings."""
        frames = int(self._begins[-1])
        absent = frames - sum(int(read_present(offsets).sum()) for offsets in self.offsets().values())
        become = "repeat the one before" if self.missing_frames == "repeat" else "are masked"
        return [
            f"a sample is a window of {self.windows.clips} clips, from {len(self.entries)} recordings",
            *([f"{absent} of {frames} frames have no crop and {become}"] if absent else []),
            *super().remarks(),
        ]

    @property
    def unit(self) -> str:
        """Unit of the results: frames, not clips."""
        return "frames"

    def use(self, other: Self) -> None:
        """Take over the store, the samples and their places."""
        super().use(other)
        self._places = other._places

    def compared(self, index: IntArray, output: Tensor) -> tuple[Rows, Tensor]:
        """Return all frames of the steps `index` (m,), and their predictions (n, K) from the outputs (m, K)."""
        place, source = self.frames_of(index)
        first, means = mean_of_each(place, output.numpy()[source])
        place, source = place[first], source[first]
        row = np.searchsorted(self._begins, place, side="right") - 1
        truth = self._truth[place]
        numbers = np.char.mod("/%05d", place - self._begins[row] + 1)
        ids = np.char.add(self._ids[row], numbers) if len(place) else np.empty(0, dtype=np.str_)
        known = np.asarray(np.isfinite(truth).all(axis=1))
        subjects = self.samples.subjects[index[source] // self.windows.clips]
        return Rows(ids, subjects, truth, known), torch.from_numpy(means)

    def frames_of(self, index: IntArray) -> tuple[IntArray, IntArray]:
        """Return the frames of the steps `index` (m,), where row `i * clips + t` is step t of window i.

        Returns:
            The frames (n,), counted over all concatenated recordings, and for each the position (n,) of its step in
            `index`.
        """
        recording, first_step = self.places
        window, step = np.divmod(index, self.windows.clips)
        row = recording[window]
        frame, source = self.windows.frames_of(first_step[window] + step, np.diff(self._begins)[row])
        return self._begins[row[source]] + frame, source

    def _cut(self, row: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Cut one recording: frames, pieces of tracks, targets and masks of the steps of its windows."""
        known = np.asarray(row["times"], dtype=np.float64)
        times = np.where(np.isnan(known), np.arange(len(known)) / self.frame_rate, known)
        cut = self.windows.cut(times, read_present(np.asarray(row["offsets"])))
        target, labelled = self.windows.step_means(self._values(row))
        found: dict[str, npt.NDArray[Any]] = {"frames": cut.frames, "target": target, "labelled": labelled}
        found[f"mask.{VIDEO}"] = cut.mask
        for name, track in self.tracks.items():
            samples = track.samples(row)
            found[f"starts.{name}"] = track.starts(cut, samples)
            # A step whose middle lies beyond a track has no piece of it.
            found[f"mask.{name}"] = cut.covered(samples, track.rate)
        return found

    def _values(self, row: dict[str, Any]) -> npt.NDArray[np.float64]:
        """Return the annotations (frames, K) of a recording; NaN where absent."""
        if any(row.get(name) is None or not np.ndim(row[name]) for name in self.annotations):
            return np.full((len(row["times"]), len(self.annotations)), np.nan)
        return np.stack([row[name] for name in self.annotations], axis=1).astype(np.float64)

    @cached_property
    def _ids(self) -> StrArray:
        """Recordings, sorted."""
        return np.array([row["id"] for row in self.entries], dtype=np.str_)

    @cached_property
    def _begins(self) -> IntArray:
        """First frame of every recording among all concatenated frames, and the end."""
        return np.concatenate([[0], np.cumsum([len(row["times"]) for row in self.entries])]).astype(np.int64)

    @cached_property
    def _truth(self) -> FloatArray:
        """Annotations of all frames of all recordings, concatenated; NaN where absent."""
        return np.concatenate([self._values(row) for row in self.entries]).astype(np.float32)
