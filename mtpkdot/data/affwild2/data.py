"""Aff-Wild2, valence-arousal track: aligned faces and sound of videos in the wild (Kollias et al., 2018)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from mtpkdot.data.affwild2.layout import find
from mtpkdot.data.affwild2.text import read_annotation
from mtpkdot.data.batch import IntArray, Samples
from mtpkdot.data.media.clips import stored_sound
from mtpkdot.data.media.continuous import VIDEO, ContinuousData
from mtpkdot.data.media.pictures import PictureSettings, read_pictures, read_present
from mtpkdot.data.media.recordings import Inventory, Problem, Recording, Span
from mtpkdot.data.media.store import Content
from mtpkdot.data.media.timeline import align
from mtpkdot.data.media.tracks import SoundTrack, Track
from mtpkdot.data.media.windows import mean_of_each
from mtpkdot.data.splits import UNSCORED, Split
from mtpkdot.errors import DataError

AUDIO = "audio"
_FINE = "Ignore this if it is intended."
_FEW_CROPS, _SHARE_OF_CROPS = 3, 0.05  # Crops that may follow the last row of annotation: a number, or a share.
_FEWEST_CROPS = 0.5  # Share of a recording's frames with a crop; a lower one is noted.
_SOUND_SLACK = 0.5  # Seconds by which sound may end before the pictures without a note.


@dataclass(frozen=True)
class _Converter:
    """Decoder of one recording, sent to worker processes."""

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
        # Rows and crops correspond by number. Crops end with the last face that was found, rows with the video.
        numbered = crops if truth is None else len(truth)
        aligned = align(numbered, truth is not None, video)
        if aligned.remark is not None:
            step = "Take the video, or the annotations, from the data set again." if aligned.unclear else _FINE
            problems.append(Problem(files["sound"], aligned.remark, step, fatal=aligned.unclear))
        # A recording of the test list is predicted to its end.
        count = max(crops, aligned.shown)
        if truth is not None:
            count = min(count, len(truth))
            problems += _unused(files["table"], len(truth), crops=crops, count=count, video=video is not None)
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
        """Return times of the frames in seconds and sound of a raw video, each None if unreadable or absent."""
        from mtpkdot.data.media.decode import frame_times, read_sound, video_info

        times = None
        try:
            times = frame_times(path)
            if video_info(path).has_sound:
                strange: list[str] = []
                sound = read_sound(path, self.sound_rate, strange.append)
                step = "Give a file with one of the channels if its sound is needed."
                problems += [Problem(path, what, step, fatal=False) for what in strange]
                return times, stored_sound(sound)
            what, step = "has no sound stream, so its recordings have no sound", _FINE
            problems.append(Problem(path, what, step, fatal=False))
        except DataError as error:
            problems.append(Problem.of(error, path))
        return times, None


class AffWild2(ContinuousData):
    """Aff-Wild2 with its valence and arousal annotations, per frame.

    Steps, windows, targets and results are those of `ContinuousData`; a step has the sound around its middle. The
    official validation set is the test part; a share of the training videos selects the epoch.

    Args:
        sound_seconds: length of the sound around the middle of each clip.
        sound_rate: samples per second of the sound.
        unlabelled: training material without labels: `invalid` (frames annotated with -5 in training videos) and `test`
            (transductive: the videos of the test list).
        split: division of the training videos; null for the official sets. Every other scheme divides all labelled
            videos and ignores the test list.
        options: see ContinuousData.

    Example:
        >>> from mtpkdot.data.affwild2.twin import synthesize
        >>> lines = synthesize(Path("Aff-Wild2"), videos=5, frames=(20, 24))
        >>> data = AffWild2(root="Aff-Wild2", frames=2, clips=4, prepare_workers=1)
        >>> data.modalities
        {'video': [2, 3, 112, 112], 'audio': [16000]}
        >>> data.targets
        ['valence', 'arousal']
    """

    page: ClassVar[str | None] = "https://sites.google.com/view/dimitrioskollias/databases/aff-wild2"
    twin = "affwild2"
    annotations = ("valence", "arousal")
    subject_fact = "video"

    def __init__(
        self,
        sound_seconds: float = 1.0,
        sound_rate: int = 16_000,
        unlabelled: Sequence[Literal["invalid", "test"]] = (),
        split: Split | None = None,
        **options: Any,
    ) -> None:
        super().__init__(split=split or Split(scheme="official", validation=0.15), **options)
        if sound_seconds <= 0 or sound_rate < 1000:
            raise ValueError("sound_seconds must be positive, and sound_rate 1000 or more")
        self.sound_seconds, self.sound_rate, self.unlabelled = sound_seconds, sound_rate, list(unlabelled)

    @property
    def tracks(self) -> dict[str, Track]:
        """The sound."""
        return {AUDIO: SoundTrack(self.sound_seconds, self.sound_rate)}

    def inventory(self) -> Inventory:
        """Return the recordings."""
        return find(self.raw_folder)

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the store beside the pictures."""
        return {"sound_rate": self.sound_rate}

    def converter(self) -> _Converter:
        """Return the decoder of one recording."""
        return _Converter(self.pictures, self.sound_rate)

    def load(self) -> Samples:
        """Cut the windows from the store and divide them as the challenge does."""
        samples = self.cut()
        sets, labelled, masks = self.fact("set"), samples.labelled, samples.masks
        if "invalid" not in self.unlabelled:
            # Unlabelled steps of training videos are then unused, even as context.
            hidden = (sets == "train")[:, None] & ~labelled
            masks = {name: mask & ~hidden for name, mask in masks.items()}
        parts = np.select([sets == "validation", sets == "test"], ["test", UNSCORED], "train").astype(np.str_)
        if "test" in self.unlabelled:
            parts[sets == "test"] = "train"
        listed = sets == "test"
        # Every frame of the test list is predicted, even without a face. A split of the training videos has no part
        # for the list, unless it is training material.
        kept = listed & (("test" in self.unlabelled) | (self.split.scheme == "official"))
        useful = np.asarray(kept | (~listed & (labelled.any(axis=1) | masks[VIDEO].any(axis=1))))
        return self.keep(replace(samples, masks=masks, split_column=parts), useful)

    @property
    def _asked(self) -> list[Span]:
        """The test list."""
        return [Span(*span) for span in self.prepared.record["asked"]]

    @property
    def _submitted_ids(self) -> set[str]:
        """Recordings whose frames are predicted for the test list."""
        return set(self._ids[self.places[0][self.submitted]].tolist())

    @property
    def unsubmitted(self) -> list[str]:
        """Recordings of the test list that cannot be predicted."""
        return sorted({span.id for span in self._asked} - self._submitted_ids)

    @property
    def submitted(self) -> IntArray:
        """Positions of the windows of the test list."""
        sets = self.prepared.index["set"].to_numpy(dtype=np.str_)
        return np.flatnonzero(sets[self.places[0]] == "test")

    def submission(self, index: IntArray, output: Tensor) -> pd.DataFrame:
        """Return the file for the challenge, one row per frame of the test list, in its order.

        Columns: image_location, valence, arousal.

        A listed frame beyond the end of a recording gets the prediction of its last frame. Values outside [-1, 1] are
        clipped, and their number is printed.
        """
        place, source = self.frames_of(index)
        once, means = mean_of_each(place, output.numpy()[source])
        for name, beyond in zip(self.annotations, (np.abs(means) > 1).T, strict=True):
            if outside := int(beyond.sum()):
                of = f"{outside} of {len(means)} predictions to submit"
                print(f"{name}: {of} are outside [-1, 1] and were clipped")
        predicted = np.full((self._begins[-1], 2), np.nan, dtype=np.float32)
        predicted[place[once]] = np.clip(means, -1, 1)
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
    """Return notes on the unused rows and crops of a recording; many crops without a row mean a cut annotation."""
    found = []
    if count < rows:
        more = "which the raw video does not have either" if video else "and there is no raw video to compare with"
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
