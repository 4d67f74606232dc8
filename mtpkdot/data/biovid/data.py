"""BioVid Heat Pain: face video and physiology of 87 people under heat (Walter et al., CYBCONF 2013)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtpkdot.data.batch import BoolArray, Clips, IntArray, Samples, StrArray
from mtpkdot.data.biovid.layout import CLASSES, HOLDOUT, LOW_REACTION, find
from mtpkdot.data.biovid.signals import SIGNAL_RATE, SLACK, Signal, read_columns, timing
from mtpkdot.data.media.base import MediaData
from mtpkdot.data.media.clips import PictureClips, SignalClips
from mtpkdot.data.media.pictures import PictureSettings, read_pictures, read_present
from mtpkdot.data.media.recordings import Inventory, Problem, Recording
from mtpkdot.data.media.store import Content
from mtpkdot.data.media.timeline import frame_step, shortfall
from mtpkdot.data.media.tracks import plain_of
from mtpkdot.data.media.windows import Excerpt
from mtpkdot.data.splits import Split
from mtpkdot.errors import DataConfigError, DataError

PainClass = Literal["BL1", "PA1", "PA2", "PA3", "PA4"]
Part = Literal["PartA", "PartB"]

VIDEO = "video"
FRAME_RATE = 25.0  # Frames per second of all videos.
_OF_PART_B = {"emg_corrugator", "emg_zygomaticus"}  # Signals of the face.
LENGTH = 5.5  # Length of all clips, in seconds.
_TOLERANCE = 0.1  # Seconds of video that may be missing at either end of the window.


@dataclass(frozen=True)
class _Converter:
    """Decoder of one clip, sent to worker processes."""

    pictures: PictureSettings
    signals: dict[str, Signal] = field(default_factory=dict)

    def __call__(self, recording: Recording) -> Content:
        pictures = read_pictures(recording.files["pictures"], recording.id, self.pictures)
        times = np.where(np.isnan(pictures.times), np.arange(len(pictures.times)) / FRAME_RATE, pictures.times)
        end = float(times[-1]) + (frame_step(times) if len(times) > 1 else 1 / FRAME_RATE)
        small, large = {"offsets": pictures.offsets, "times": times}, {"pictures": pictures.jpegs}
        content = Content(dict(recording.facts), small, large, list(pictures.problems))
        if end + _TOLERANCE < LENGTH:
            content.problems.append(_short(recording.files["pictures"], end))
        if "table" not in recording.files:
            return content
        try:
            read = read_columns(
                recording.files["table"], [column for signal in self.signals.values() for column in signal.columns]
            )
        except DataError as error:
            content.problems.append(Problem.of(error, recording.files["table"]))
            return content
        begin, end = float(read.times[0]), float(read.times[-1]) + 1 / read.rate
        if end + SLACK / SIGNAL_RATE < LENGTH:
            content.problems.append(_short(recording.files["table"], end))
        if begin > SLACK / SIGNAL_RATE:
            content.problems.append(_late(recording.files["table"], begin))
        content.facts |= timing(read)
        for name, signal in self.signals.items():
            for column, values in signal.filtered(read).items():
                content.large[f"signal.{name}.{column}"] = values
        return content


class BioVid(MediaData):
    """BioVid Heat Pain, Part A or B, in the official layout or rearranged into folders of frames.

    A sample is a clip of 5.5 s: `frames` pictures, evenly spaced from `start` to `stop`, and the signals between these
    times, both by their own time stamps.

    Args:
        classes: the classes of the task, in order. BL1 and PA4 are the usual ones.
        unlabelled: classes whose clips are training material without labels; disjoint from `classes`.
        signals: privileged modalities by name; null for one named physiology of gsr, ecg and emg_trapezius.
        frames: pictures per clip.
        start: beginning of the used part of the clip, in seconds.
        stop: end of that part, in seconds.
        use_lists: in the layout of frames, use the frames of the list files instead of `start` to `stop`.
        subjects: `all`, or `reactive` without the 20 people who hardly react (LOSO-67); the list is second-hand.
        part: part of the data set, if both lie below `root`.
        biosignals: `filtered` or `raw` files of the official layout.
        prevalent: modality of the student.
        split: division of the subjects; null for 5 folds. `scheme: official` tests the 26 people of the database
            authors' hold-out, a second-hand list.
        options: see MediaData.

    Example:
        >>> from mtpkdot.data.biovid.twin import synthesize
        >>> lines = synthesize(Path("BioVid"), subjects=2, clips=1, size=64, classes=["BL1", "PA4"])
        >>> data = BioVid(root="BioVid", frames=4, prepare_workers=1)
        >>> data.modalities
        {'video': [3, 112, 112], 'physiology': [3]}
        >>> data.targets
        ['BL1', 'PA4']
    """

    frame_rate: ClassVar[float] = FRAME_RATE
    page: ClassVar[str | None] = "https://www.nit.ovgu.de/BioVid.html"

    def __init__(
        self,
        classes: Sequence[PainClass] = ("BL1", "PA4"),
        unlabelled: Sequence[PainClass] = (),
        signals: dict[str, Signal] | None = None,
        frames: int = 10,
        start: float = 2.0,
        stop: float = 5.0,
        use_lists: bool = True,
        subjects: Literal["all", "reactive"] = "all",
        part: Part | None = None,
        biosignals: Literal["filtered", "raw"] = "filtered",
        prevalent: str = VIDEO,
        split: Split | None = None,
        **options: Any,
    ) -> None:
        super().__init__(prevalent=prevalent, split=split or Split(scheme="kfold"), **options)
        if set(classes) & set(unlabelled) or len(set(classes)) != len(classes) or len(classes) < 2:
            raise ValueError("classes must be two or more, each once, and unlabelled must name others")
        if self.task == "regression":
            raise ValueError("BioVid has classes: task must be classification or ordinal")
        self.classes, self.unlabelled = list(classes), list(unlabelled)
        self.signals = signals or {"physiology": Signal(["gsr", "ecg", "emg_trapezius"])}
        if VIDEO in self.signals:
            raise ValueError(f"no signal can be named {VIDEO}")
        self.excerpt, self.use_lists = Excerpt(start, stop, frames, self.missing_frames), use_lists
        self.subjects, self.part, self.biosignals = subjects, part, biosignals
        columns = {column for signal in self.signals.values() for column in signal.columns}
        self.twin = "biovid --part PartB" if part == "PartB" or columns & _OF_PART_B else "biovid"

    @property
    def modality_names(self) -> list[str]:
        """Names of the video and of the signals."""
        return [VIDEO, *self.signals]

    def inventory(self) -> Inventory:
        """Return the clips."""
        return find(self.raw_folder, self.part, self.biosignals)

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the store: part, files and filters."""
        return {
            "part": self.part,
            "biosignals": self.biosignals,
            "signals": {name: asdict(signal) for name, signal in self.signals.items()},
        }

    def converter(self) -> _Converter:
        """Return the decoder of one clip."""
        return _Converter(self.pictures, self.signals)

    def examiner(self) -> "_Window":
        """Return the comparison of a clip with the window from `start` to `stop`."""
        return _Window(self.excerpt, self.use_lists, self.signals)

    def cutting(self) -> dict[str, Any]:
        """Return the part of a clip that is used, and how its signals are read; see MediaData."""
        return {"excerpt": asdict(self.excerpt), "tracks": {name: plain_of(s) for name, s in self.signals.items()}}

    def load(self) -> Samples:
        """Cut the samples of the task from the store."""
        index = self.prepared.index
        index = index[index["class"].isin([*self.classes, *self.unlabelled])].reset_index(drop=True)
        if self.subjects == "reactive":
            index = index[~index["subject"].isin(LOW_REACTION)].reset_index(drop=True)
        if not len(index):
            raise DataConfigError(
                f"{self.source} has no clip of {', '.join([*self.classes, *self.unlabelled])}",
                "Check data.init_args.classes, and `mtpkdot data check`.",
            )
        index = self._complete(index)
        ids, recordings = _text(index["id"]), _text(index["id"])
        frames, video_mask = self._frames(index)
        common = (self.prepared, recordings, ids, self.augment)
        features: dict[str, Clips] = {VIDEO: PictureClips(*common, frames, self.offsets(), self.pictures.size)}
        masks = {VIDEO: video_mask}
        for name, signal in self.signals.items():
            starts, length = self._starts(index, name, signal)
            columns = [f"{name}.{column}" for column in signal.columns]
            features[name] = SignalClips(*common, starts, length, columns)
            masks[name] = np.repeat((starts >= 0)[:, None], length, axis=1)
        position = {name: i for i, name in enumerate(self.classes)}
        target = np.array([position.get(name, -1) for name in index["class"]], dtype=np.int64)
        official = np.where(index["subject"].isin(HOLDOUT), "test", "train").astype(np.str_)
        rates = {VIDEO: FRAME_RATE} | dict.fromkeys(self.signals, SIGNAL_RATE)
        return Samples(
            ids,
            _text(index["subject"]),
            target=target,
            labelled=target >= 0,
            target_names=["pain"],
            class_names=list(self.classes),
            features=features,
            masks=masks,
            split_column=official,
            rates=rates,
        )

    def remarks(self) -> list[str]:
        """Return how many recordings of the store are no samples, beside those that cannot be read."""
        others = len(self.prepared.index) - len(self.samples)
        other = [f"{others} more recordings are of other classes or people, or too short"] if others else []
        return [*other, *super().remarks()]

    def _frames(self, index: pd.DataFrame) -> tuple["np.ndarray[Any, np.dtype[np.int32]]", BoolArray]:
        """Return the frames (n, frames) of every clip, and their mask."""
        chosen = []
        for times, offsets, first, last in zip(
            index["times"], index["offsets"], index["first"], index["last"], strict=True
        ):
            listed = np.arange(first - 1, min(last, len(times))) if self.use_lists and first > 0 else None
            chosen.append(self.excerpt.pictures(times, read_present(offsets), listed))
        frames = np.stack(chosen)
        return frames, frames >= 0

    def _starts(self, index: pd.DataFrame, name: str, signal: Signal) -> tuple[IntArray, int]:
        """Return the first sample of every clip's signals, -1 if it has none, and the number of samples."""
        begin, rate = _column(index, "signal_start", 0.0), _column(index, "signal_rate", SIGNAL_RATE)
        available = _column(index, f"length.signal.{name}.{signal.columns[0]}", 0.0)
        return self.excerpt.starts(SIGNAL_RATE, begin, rate, available), self.excerpt.samples(SIGNAL_RATE)

    def _complete(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the clips that last from `start` to `stop`; others are an error, or left out and reported."""
        window = self.examiner()
        found = [window.shortfalls(row) for row in index.to_dict("records")]
        whole = np.array([not each for each in found])
        if whole.all():
            return index
        row = int(np.argmin(whole))
        what = (
            f"{self.source}: the {found[row][0].of(str(index['id'].iloc[row]))}; "
            f"{int((~whole).sum())} clips do not last from start to stop"
        )
        if self.on_error == "raise" or not whole.any():
            raise DataError(what, f"{found[row][0].step}, repair them, or set data.init_args.on_error to skip.")
        print(f"{what}, which are left out")
        return index[whole].reset_index(drop=True)


@dataclass(frozen=True)
class _Shortfall:
    """Modality of a clip that does not cover the window."""

    modality: str
    key: str  # `start` or `stop` for the end of the window; `none` if no frame lies within.
    second: float

    @property
    def happens(self) -> str:
        """The fault in words, without the file."""
        return {
            "start": f"begins at {self.second:.2f} s, after data.init_args.start",
            "stop": f"ends after {self.second:.2f} s, before data.init_args.stop",
            "none": "has no picture between data.init_args.start and data.init_args.stop",
        }[self.key]

    @property
    def step(self) -> str:
        """The remedy, as the beginning of a sentence."""
        return {"start": "Set start to a later second", "stop": "Set stop to an earlier second"}.get(
            self.key, "Set start and stop further apart"
        )

    def of(self, clip: str) -> str:
        """Return the fault with the name of its clip, for an error about all clips."""
        return f"{self.modality} of {clip} {self.happens}"


@dataclass(frozen=True)
class _Window:
    """Comparison of a clip with the window that is used of it; sent to worker processes."""

    excerpt: Excerpt
    use_lists: bool
    signals: dict[str, Signal]

    def __call__(self, recording: Recording, content: Content) -> list[Problem]:
        """Return a problem for every modality of a decoded clip that does not cover the window."""
        return [
            Problem(
                recording.files["pictures" if found.modality == VIDEO else "table"],
                found.happens if found.modality == VIDEO else f"{found.modality} {found.happens}",
                f"{found.step}, or repair it.",
            )
            for found in self.shortfalls(content.row(recording.id))
        ]

    def shortfalls(self, row: Mapping[Any, Any]) -> list[_Shortfall]:
        """Return the modalities of a clip, by its row of the index, that do not cover the window."""
        found = []
        if not (self.use_lists and row["first"] > 0):  # The frames of lists are counted, not timed.
            lacks = shortfall(np.asarray(row["times"]), self.excerpt.start, self.excerpt.stop, _TOLERANCE)
            found += [] if lacks is None else [_Shortfall(VIDEO, *lacks)]
        begin, rate = _number(row.get("signal_start"), 0.0), _number(row.get("signal_rate"), SIGNAL_RATE)
        for name, signal in self.signals.items():
            available = _number(row.get(f"length.signal.{name}.{signal.columns[0]}"), 0.0)
            lacking = self.excerpt.lacks(SIGNAL_RATE, begin, rate=rate, available=available, slack=SLACK)
            found += [_Shortfall(name, *lacks) for lacks in lacking]
        return found


def _short(path: Path, end: float) -> Problem:
    """Return a note on an early end, which matters only if the stage uses the modality."""
    step = "Ignore this if data.init_args.stop is earlier."
    return Problem(path, f"ends after {end:.2f} s of {LENGTH:g} s", step, fatal=False)


def _late(path: Path, begin: float) -> Problem:
    """Return a note on a late beginning, which matters only if the stage uses the modality."""
    step = "Ignore this if data.init_args.start is later."
    return Problem(path, f"begins at {begin:.2f} s of {LENGTH:g} s", step, fatal=False)


def _number(value: Any, default: float) -> float:
    """Return a number of the index, or the default if it is absent."""
    return default if value is None or np.isnan(value) else float(value)


def _column(index: pd.DataFrame, name: str, default: float) -> npt.NDArray[np.float64]:
    """Return a number (n,) of every clip, or the default if absent."""
    values = index[name].fillna(default) if name in index else np.full(len(index), default)
    return np.asarray(values, dtype=np.float64)


def _text(column: "pd.Series[Any]") -> StrArray:
    return column.to_numpy(dtype=np.str_)


__all__ = ["CLASSES", "BioVid", "Signal"]
