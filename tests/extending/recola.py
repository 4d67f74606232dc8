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
    physiology: SignalTrack

    def __call__(self, recording: Recording) -> Content:
        pictures = read_pictures(recording.files["pictures"], recording.id, self.pictures)
        ratings = pd.read_csv(recording.files["ratings"])
        small = {"times": pictures.times, "offsets": pictures.offsets}
        small |= {name: np.interp(pictures.times, ratings["time"], ratings[name]) for name in RATINGS}
        large = {"pictures": pictures.jpegs, **self.physiology.read(recording.files["physiology"]).large}
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
        self.physiology = SignalTrack(seconds, rate, SIGNALS)

    @property
    def tracks(self) -> dict[str, Track]:
        """The modalities beside the video."""
        return {"physiology": self.physiology}

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
        return Decode(self.pictures, self.physiology)
