"""Aff-Wild2, valence-arousal track: aligned faces and sound of videos in the wild (Kollias et al., 2018)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from mtpkdot.data.affwild2.layout import find
from mtpkdot.data.affwild2.text import read_annotation
from mtpkdot.data.batch import Clips, FloatArray, IntArray, Rows, Samples, StrArray
from mtpkdot.data.media.base import MediaData
from mtpkdot.data.media.clips import SOUND_SCALE, PictureClips, SoundClips
from mtpkdot.data.media.pictures import PictureSettings, fill_frames, read_pictures, read_present
from mtpkdot.data.media.recordings import Inventory, Problem, Recording, Span
from mtpkdot.data.media.store import Content
from mtpkdot.data.media.windows import USUAL_RATE, align
from mtpkdot.data.splits import Split
from mtpkdot.errors import DataError

VIDEO, AUDIO = "video", "audio"
TARGETS = ["valence", "arousal"]
_FINE = "Nothing, if so meant."
_FEW_CROPS, _SHARE_OF_CROPS = 3, 0.05  # crops that may come after the last row: so many, or a share
_FEWEST_CROPS = 0.5  # share of a recording's frames; below it, its crops are worth a word
_SOUND_SLACK = 0.5  # seconds by which sound may end before the pictures without a word


@dataclass(frozen=True)
class _Converter:
    """Decodes one recording; sent to other processes."""

    pictures: PictureSettings
    sound_rate: int

    def __call__(self, recording: Recording) -> Content:
        files = recording.files
        pictures = read_pictures(files["pictures"], recording.id, self.pictures)
        problems = list(pictures.problems)
        small: dict[str, npt.NDArray[Any]] = {}
        large: dict[str, npt.NDArray[Any]] = {}
        video, sound = self._raw_video(files["sound"], problems) if "sound" in files else (None, None)
        if sound is not None:
            large["sound"] = sound
        crops = len(pictures.times)
        truth = read_annotation(files["table"]) if "table" in files else None
        # Rows and crops belong together by number. Crops end with the last face that was found, rows with the video.
        numbered = crops if truth is None else len(truth)
        aligned = align(numbered, truth is not None, video)
        if aligned.remark is not None:
            step = "Take the video, or the annotations, from the data set again." if aligned.unclear else _FINE
            problems.append(Problem(files["sound"], aligned.remark, step, fatal=aligned.unclear))
        # A recording of the test list is predicted to its end.
        count = max(crops, aligned.shown)
        if truth is not None:
            count = min(count, len(truth))
            problems += _unused(files["table"], len(truth), crops, count, video is not None)
        times = aligned.times if count <= numbered else align(count, truth is not None, video).times
        small["times"] = times[:count]
        if sound is not None and count:
            problems += _silent(files["sound"], small["times"], len(sound) / self.sound_rate)
        offsets = np.pad(pictures.offsets, (0, max(0, count + 1 - len(pictures.offsets))), mode="edge")[: count + 1]
        small["offsets"] = offsets
        problems += _faceless(files["pictures"], offsets, count)
        if truth is not None:
            small["valence"], small["arousal"] = truth[:count, 0].copy(), truth[:count, 1].copy()
        large["pictures"] = pictures.jpegs[: offsets[-1]]
        if not len(large["pictures"]):
            raise DataError(
                f"{files['pictures']} has no frame among the first {count}, which are annotated",
                "Repair it, or set data.init_args.on_error to skip.",
            )
        return Content({**recording.facts, "frames": count}, small, large, problems)

    def _raw_video(
        self, path: Path, problems: list[Problem]
    ) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.int16] | None]:
        """Times of the frames in seconds and sound of a raw video, each None where it cannot be read or is absent."""
        from mtpkdot.data.media.decode import frame_times, read_sound, video_info

        times = None
        try:
            times = frame_times(path)
            if video_info(path).has_sound:
                strange: list[str] = []
                sound = read_sound(path, self.sound_rate, strange.append)
                step = "Give a file with one of the channels, if it is to be heard."
                problems += [Problem(path, what, step, fatal=False) for what in strange]
                return times, np.round(sound * SOUND_SCALE).astype(np.int16)
            what, step = "has no sound stream, so its recordings have no sound", _FINE
            problems.append(Problem(path, what, step, fatal=False))
        except DataError as error:
            problems.append(Problem.of(error, path))
        return times, None


class AffWild2(MediaData):
    """Aff-Wild2 with its valence and arousal annotations, per frame.

    A step is a clip of `frames` pictures with the sound around it, and a sample a window of `clips` steps; windows tile
    a recording. A step's target is the mean over its valid frames. Results are those of frames: every valid frame is
    compared with the prediction of its clip, over all recordings of a part together.

    The official validation set is the test part; a share of the training videos selects the epoch.

    Args:
        frames: pictures of a clip.
        frame_step: frames from one picture to the next; a clip covers `frames * frame_step` frames.
        clips: clips of a window.
        sound_seconds: length of the sound around the middle of each clip.
        sound_rate: its samples per second.
        unlabelled: training material without labels: `invalid` (frames annotated with -5 in training videos) and `test`
            (transductive: the videos of the test list).
        prevalent: the modality of the student.
        task: valence and arousal are values.
        split: how the training videos are divided; null for the official sets. Every other scheme divides all labelled
            videos and leaves the test list aside.
        options: see MediaData.
    """

    page: ClassVar[str | None] = "https://sites.google.com/view/dimitrioskollias/databases/aff-wild2"
    twin = "affwild2"

    def __init__(
        self,
        frames: int = 8,
        frame_step: int = 1,
        clips: int = 16,
        sound_seconds: float = 1.0,
        sound_rate: int = 16_000,
        unlabelled: Sequence[Literal["invalid", "test"]] = (),
        prevalent: str = VIDEO,
        task: Literal["regression"] = "regression",
        split: Split | None = None,
        **options: Any,
    ) -> None:
        split = split or Split(scheme="official", validation=0.15)
        super().__init__(prevalent=prevalent, task=task, split=split, **options)
        if min(frames, frame_step, clips) < 1 or sound_seconds <= 0 or sound_rate < 1000:
            raise ValueError("frames, frame_step and clips are 1 or more, and the sound has a length and a rate")
        self.frames, self.frame_step, self.clips = frames, frame_step, clips
        self.sound_seconds, self.sound_rate, self.unlabelled = sound_seconds, sound_rate, list(unlabelled)

    @property
    def modality_names(self) -> list[str]:
        """Video and audio."""
        return [VIDEO, AUDIO]

    @property
    def span(self) -> int:
        """Frames that a clip covers."""
        return self.frames * self.frame_step

    def inventory(self) -> Inventory:
        """Find the recordings."""
        return find(self.raw_folder)

    def settings(self) -> dict[str, Any]:
        """What decides the store beside the pictures."""
        return {"sound_rate": self.sound_rate}

    def converter(self) -> _Converter:
        """Decodes one recording."""
        return _Converter(self.pictures, self.sound_rate)

    def load(self) -> Samples:
        """Cut the windows from the store."""
        index = self.prepared.index
        windows = [self._windows(row) for row in self.rows]
        sizes = np.array([len(w["target"]) for w in windows])
        joined = {key: np.concatenate([w[key] for w in windows]) for key in windows[0]}
        recordings = np.repeat(index["id"].to_numpy(dtype=np.str_), sizes)
        # A window's first clip, counted within its recording.
        first_clip = np.concatenate([np.arange(size) * self.clips for size in sizes])
        ids = np.char.add(np.char.add(recordings, "-"), np.char.zfill(first_clip.astype(np.str_), 6))
        sets = np.repeat(index["set"].to_numpy(dtype=np.str_), sizes)
        labelled, masks = joined["labelled"], {VIDEO: joined["video"], AUDIO: joined["audio"]}
        if "invalid" not in self.unlabelled:
            # Unlabelled steps of training videos teach nothing then, not even as context.
            hidden = (sets == "train")[:, None] & ~labelled
            masks = {name: mask & ~hidden for name, mask in masks.items()}
        parts = np.select([sets == "validation", sets == "test"], ["test", "unjudged"], "train").astype(np.str_)
        if "test" in self.unlabelled:
            parts[sets == "test"] = "train"
        common = (self.prepared, recordings, ids, self.augment)
        lengths = {row["id"]: _sound_length(row) for row in self.rows}
        length = round(self.sound_seconds * self.sound_rate)
        features: dict[str, Clips] = {
            VIDEO: PictureClips(*common, joined["frames"], self.offsets(), self.pictures.size),
            AUDIO: SoundClips(*common, joined["starts"], lengths, length),
        }
        samples = Samples(
            ids,
            np.repeat(index["video"].to_numpy(dtype=np.str_), sizes),
            joined["target"],
            labelled,
            TARGETS,
            [],
            features,
            masks,
            parts,
            rates={VIDEO: USUAL_RATE, AUDIO: float(self.sound_rate)},
        )
        listed = sets == "test"
        # Every frame of the test list is predicted, also where no face is seen. A split of the training videos has no
        # place for the list, unless it is training material.
        kept = listed & (("test" in self.unlabelled) | (self.split.scheme == "official"))
        useful = np.asarray(kept | (~listed & (labelled.any(axis=1) | masks[VIDEO].any(axis=1))))
        self._places, self._listed = (recordings[useful], first_clip[useful]), np.flatnonzero(listed[useful])
        return samples if useful.all() else samples.keep(useful)

    def remarks(self) -> list[str]:
        """What a sample is, and what cannot be read."""
        frames = int(self._begins[-1])
        absent = frames - sum(int(read_present(offsets).sum()) for offsets in self.offsets().values())
        become = "repeat the one before" if self.missing_frames == "repeat" else "are masked"
        return [
            f"a sample is a window of {self.clips} clips, from {len(self.rows)} recordings",
            *([f"{absent} of {frames} frames have no crop and {become}"] if absent else []),
            *super().remarks(),
        ]

    @property
    def unit(self) -> str:
        """Frames are compared, whatever the clips."""
        return "frames"

    def adopt(self, other: Any) -> None:
        """Share the store, the samples and their places."""
        super().adopt(other)
        if isinstance(other, AffWild2):
            self._places, self._listed = other._places, other._listed

    def _windows(self, row: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """The windows of one recording: frames, sound, targets and masks of their steps."""
        count, span = int(row["frames"]), self.span
        windows = -(-count // (span * self.clips))
        shape = (windows, self.clips)
        begin = (np.arange(windows * self.clips) * span).reshape(shape)
        inside = begin < count
        wanted = begin[:, :, None] + np.arange(0, span, self.frame_step)
        # The last clip of a recording repeats its last frame.
        wanted = np.minimum(wanted, count - 1)
        frames = fill_frames(wanted, read_present(np.asarray(row["offsets"])), self.missing_frames == "repeat")
        frames = _bridged(frames)
        values = _values(row)
        known = np.asarray(np.isfinite(values).all(axis=1))
        step = np.arange(count) // span
        sums = np.stack(
            [np.bincount(step, np.where(known, values[:, k], 0), windows * self.clips) for k in range(2)], axis=1
        )
        valid = np.bincount(step, known, windows * self.clips)
        target = (sums / np.maximum(valid, 1)[:, None]).astype(np.float32)
        target[valid == 0] = np.nan
        times = np.asarray(row["times"], dtype=np.float64)
        middle = (times[np.minimum(begin, count - 1)] + times[np.minimum(begin + span - 1, count - 1)]) / 2
        starts = np.round((middle - self.sound_seconds / 2) * self.sound_rate).astype(np.int64)
        return {
            "frames": np.where(inside[:, :, None], frames, -1).astype(np.int32),
            "starts": starts,
            "target": target.reshape(*shape, 2),
            "labelled": (valid > 0).reshape(shape),
            "video": inside & (frames >= 0).any(axis=2),
            # A clip whose middle lies beyond the sound has none.
            "audio": inside & (middle >= 0) & (middle * self.sound_rate < _sound_length(row)),
        }

    def judge(self, index: IntArray, output: Tensor) -> tuple[Rows, Tensor]:
        """Every frame of the clips `index` (m,), with the prediction of its clip (m, 2)."""
        place, source = self._frames_of(index)
        row = np.searchsorted(self._begins, place, side="right") - 1
        truth = self._truth[place]
        numbers = np.char.mod("/%05d", place - self._begins[row] + 1)
        ids = np.char.add(self._ids[row], numbers) if len(place) else np.empty(0, dtype=np.str_)
        known = np.asarray(np.isfinite(truth).all(axis=1))
        subjects = self.samples.subjects[index[source] // self.clips]
        return Rows(ids, subjects, truth, known), output[torch.from_numpy(source)]

    def _frames_of(self, index: IntArray) -> tuple[IntArray, IntArray]:
        """Frames of the clips `index` (m,), counted over all recordings end to end, and the place in `index` of each.

        A recording of few frames ends within a clip, so clips may have less than `span` of them.
        """
        self.samples  # noqa: B018 # says where they are
        recordings, first_clip = self._places
        window, step = np.divmod(index, self.clips)
        begin = (first_clip[window] + step) * self.span
        row = np.searchsorted(self._ids, recordings[window])
        frames = np.clip(np.diff(self._begins)[row] - begin, 0, self.span)
        source = np.repeat(np.arange(len(index)), frames)
        within = np.arange(len(source)) - np.repeat(np.cumsum(frames) - frames, frames)
        return self._begins[row[source]] + begin[source] + within, source

    @cached_property
    def _ids(self) -> StrArray:
        """Recordings, sorted."""
        return np.array([row["id"] for row in self.rows], dtype=np.str_)

    @cached_property
    def _begins(self) -> IntArray:
        """Where the frames of every recording begin when all are laid end to end, and the end."""
        counts = [int(row["frames"]) for row in self.rows]
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @cached_property
    def _truth(self) -> FloatArray:
        """Valence and arousal of all frames of all recordings, end to end; NaN where there is none."""
        return np.concatenate([_values(row) for row in self.rows]).astype(np.float32)

    @property
    def _asked(self) -> list[Span]:
        """The test list."""
        return [Span(*span) for span in self.prepared.record["asked"]]

    @property
    def _submitted_ids(self) -> set[str]:
        """Recordings whose frames are predicted for the test list."""
        windows = self.submitted
        return set(self._places[0][windows].tolist())

    @property
    def unsubmitted(self) -> list[str]:
        """Recordings of the test list that cannot be predicted."""
        return sorted({span.id for span in self._asked} - self._submitted_ids)

    @property
    def submitted(self) -> IntArray:
        """Positions of the windows of the test list."""
        self.samples  # noqa: B018 # says where they are
        return self._listed

    def submission(self, index: IntArray, output: Tensor) -> pd.DataFrame:
        """The challenge's file: image_location, valence, arousal, one row per frame of the test list, in its order.

        Frames that are listed and lie beyond the end of a recording are predicted as its last one. Values outside
        [-1, 1] are set to the nearer end, and how many is printed.
        """
        place, source = self._frames_of(index)
        for name, values in zip(TARGETS, output.abs().T > 1, strict=True):
            if outside := int(values.numpy()[source].sum()):
                print(
                    f"{name}: {outside} of {len(source)} predictions to submit are outside [-1, 1] and set to its ends"
                )
        predicted = np.full((self._begins[-1], 2), np.nan, dtype=np.float32)
        predicted[place] = output.clamp(-1, 1).numpy()[source]
        locations, values = [], []
        there = self._submitted_ids
        for id, first, last in self._asked:
            if id in there:
                row = int(np.searchsorted(self._ids, id))
                begin, end = self._begins[row], self._begins[row + 1]
                frames = np.arange(first, end - begin if last < 0 else last + 1)
                locations.append(np.char.add(f"{id}/", np.char.mod("%05d.jpg", frames + 1)))
                values.append(predicted[np.minimum(begin + frames, end - 1)])
        location, value = np.concatenate(locations), np.concatenate(values)
        return pd.DataFrame({"image_location": location, "valence": value[:, 0], "arousal": value[:, 1]})


def _unused(table: Path, rows: int, crops: int, count: int, video: bool) -> list[Problem]:
    """Return which rows and crops of a recording are not used; many crops without a row mean a cut annotation."""
    found = []
    if count < rows:
        more = "which the raw video does not have either" if video else "and no raw video says more"
        what = f"the last {rows - count} of {rows} rows have no picture, {more}"
        found.append(Problem(table, what, "They are not used.", fatal=False))
    if crops > rows:
        what = f"{crops - rows} of {crops} crops come after the last of {rows} rows"
        cut = crops - rows > max(_FEW_CROPS, _SHARE_OF_CROPS * crops)
        step = "Take the annotations from the data set again." if cut else "They are not used."
        found.append(Problem(table, what, step, fatal=cut))
    return found


def _faceless(pictures: Path, offsets: IntArray, count: int) -> list[Problem]:
    """Return a note if most frames of a recording have no crop."""
    there = int(read_present(offsets).sum())
    if there >= _FEWEST_CROPS * count:
        return []
    what = f"holds crops of {there} of {count} frames; the others repeat the one before, or are masked"
    return [Problem(pictures, what, _FINE, fatal=False)]


def _silent(path: Path, times: npt.NDArray[np.float64], seconds: float) -> list[Problem]:
    """Return a note if the sound ends before the frames of a recording."""
    late = int((times > seconds + _SOUND_SLACK).sum())
    if not late:
        return []
    what = f"its sound ends at {seconds:.2f} s, before the last {late} of {len(times)} frames, which have none"
    return [Problem(path, what, _FINE, fatal=False)]


def _values(row: dict[str, Any]) -> npt.NDArray[np.float64]:
    """Valence and arousal (F, 2) of every frame; NaN where there is none."""
    if row.get("valence") is None or not np.ndim(row["valence"]):
        return np.full((int(row["frames"]), 2), np.nan)
    return np.stack([row["valence"], row["arousal"]], axis=1).astype(np.float64)


def _bridged(frames: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Within each clip, absent frames take the nearest earlier one, or the first there is."""
    filled = frames.copy()
    for position in range(1, frames.shape[2]):
        gap = filled[:, :, position] < 0
        filled[:, :, position] = np.where(gap, filled[:, :, position - 1], filled[:, :, position])
    for position in reversed(range(frames.shape[2] - 1)):
        gap = filled[:, :, position] < 0
        filled[:, :, position] = np.where(gap, filled[:, :, position + 1], filled[:, :, position])
    return filled


def _sound_length(row: dict[str, Any]) -> int:
    length = row.get("length.sound")
    return 0 if length is None or np.isnan(length) else int(length)
