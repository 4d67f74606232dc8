"""An own data set of raw recordings, in the manner of RECOLA: videos of people, rated over time, with physiology.

`video/<name>.mp4`, `ratings/<name>.csv` (time, arousal, valence; 25 Hz) and `physiology/<name>.csv` (time, eda, ecg).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mtpkdot.data.media.continuous import ContinuousData
from mtpkdot.data.media.pictures import PictureSettings, read_pictures
from mtpkdot.data.media.recordings import Inventory, Problem, Recording
from mtpkdot.data.media.store import Content
from mtpkdot.data.media.tracks import SignalTrack, Track

TABLES, RATINGS, SIGNALS = ("ratings", "physiology"), ("arousal", "valence"), ("eda", "ecg")


@dataclass(frozen=True)
class Decode:
    """Decodes one recording, in a process of its own."""

    pictures: PictureSettings
    rate: float

    def __call__(self, recording: Recording) -> Content:
        pictures = read_pictures(recording.files["pictures"], recording.id, self.pictures)
        ratings, signals = (pd.read_csv(recording.files[name]) for name in TABLES)
        even = np.arange(0.0, signals["time"].iloc[-1], 1 / self.rate)
        small = {"times": pictures.times, "offsets": pictures.offsets}
        small |= {name: np.interp(pictures.times, ratings["time"], ratings[name]) for name in RATINGS}
        columns = {name: np.interp(even, signals["time"], signals[name]).astype(np.float32) for name in SIGNALS}
        large = {"pictures": pictures.jpegs, **{f"signal.{name}": values for name, values in columns.items()}}
        return Content(dict(recording.facts), small, large, list(pictures.problems))


class Recola(ContinuousData):
    """Arousal and valence of every frame, from the video; physiology is privileged.

    Args:
        seconds: length of the physiology around every step.
        rate: its samples per second.
        options: see ContinuousData.
    """

    annotations = RATINGS

    def __init__(self, seconds: float = 2.0, rate: float = 50.0, **options: Any) -> None:
        super().__init__(**options)
        self.seconds, self.rate = seconds, rate

    @property
    def tracks(self) -> dict[str, Track]:
        """The modalities beside the video."""
        return {"physiology": SignalTrack(self.seconds, self.rate, SIGNALS)}

    def inventory(self) -> Inventory:
        """Find the recordings, each of one person."""
        found, root = Inventory(), self.raw_folder
        for video in sorted(root.glob("video/*.mp4")):
            files = {name: root / name / f"{video.stem}.csv" for name in TABLES} | {"pictures": video}
            lost = [path for path in files.values() if not path.is_file()]
            found.problems += [Problem(path, "does not exist", "Add it.") for path in lost]
            found.recordings.append(Recording(video.stem, {"subject": video.stem}, files, usable=not lost))
        return found

    def converter(self) -> Decode:
        """Return what decodes one recording."""
        return Decode(self.pictures, self.rate)
