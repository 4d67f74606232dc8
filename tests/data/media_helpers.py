"""Raw recordings read without the package, and copies of the twins that may be damaged."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from mtpkdot.data.media.prepare import Preparation
from mtpkdot.data.media.recordings import Inventory, Problem, Recording
from mtpkdot.data.media.store import Content
from mtpkdot.errors import DataConfigError, DataError

DATA = Path(os.environ.get("MTPKDOT_TEST_DATA", "")).absolute()
CLIPS, YUNET = DATA / "clips", DATA / "weights" / "yunet_n_320_320.onnx"
needs_clips = pytest.mark.skipif(
    not os.environ.get("MTPKDOT_TEST_DATA") or not CLIPS.is_dir(),
    reason="MTPKDOT_TEST_DATA names no folder of real data",
)
needs_yunet = pytest.mark.skipif(
    not os.environ.get("MTPKDOT_TEST_DATA") or not YUNET.is_file(),
    reason="MTPKDOT_TEST_DATA names no folder with weights of YuNet",
)
needs_cascade = pytest.mark.skipif(
    not hasattr(cv2, "CascadeClassifier"), reason=f"OpenCV {cv2.__version__} has no cascades"
)

TEST_LIST = "Valence_Arousal_Estimation_Challenge_test_set_release.txt"


def copied(tree: Path, out: Path) -> Path:
    """A copy of a tree that shares its files: change them with `put` or `unlink` alone."""
    return Path(shutil.copytree(tree, out, copy_function=os.link))


def put(path: Path, data: bytes | str) -> None:
    """Replace a file of a copy."""
    path.unlink(missing_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def decoded(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames (H, W, 3) RGB of a video, and their times in seconds."""
    with av.open(str(path)) as container:
        frames = [(f.to_ndarray(format="rgb24"), float(f.pts * f.time_base)) for f in container.decode(video=0)]
    return [frame for frame, _ in frames], np.array([time for _, time in frames])


def heard(path: Path) -> tuple[np.ndarray, int]:
    """Mono sound of a file on the time line of its pictures, and its rate."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        sound = np.zeros(0)
        for frame in container.decode(audio=0):
            values = frame.to_ndarray().astype(float).mean(axis=0)
            values = values / 32768 if frame.format.name.startswith("s16") else values
            start = round(float(frame.pts * frame.time_base) * rate)
            sound = np.pad(sound, (0, max(0, start + len(values) - len(sound))))
            sound[max(0, start) : start + len(values)] = values[max(0, -start) :]
    return sound, rate


def image(path: Path) -> np.ndarray:
    """A picture (3, H, W)."""
    return np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)


def digests(folder: Path) -> dict[str, bytes]:
    """Every file of a store and its bytes; without locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


@dataclass(frozen=True)
class Reader:
    """Turns a text file into a recording.

    `bad` is damaged, `9 scratched` a little; `deadly` ends the process; `unwanted` is a mistake in the call.
    """

    seconds: float = 0.0
    factor: int = 1

    def __call__(self, recording: Recording) -> Content:
        time.sleep(self.seconds)
        path = recording.files["pictures"]
        text = path.read_text()
        if text == "bad":
            raise DataError(f"{recording.files['pictures']} is bad", "Make it good.")
        if text == "unwanted":
            raise DataConfigError("the reader reads nothing of the kind", "Take another one.")
        if text == "deadly":
            os._exit(9)
        number, _, damage = text.partition(" ")
        values = np.arange(int(number), dtype=np.float32) * self.factor
        problems = [Problem(path, f"is {damage}", "Polish it.")] if damage else []
        return Content(recording.facts, {"times": np.arange(3.0)}, {"signal.x": values}, problems)


def raw(folder, count=8):
    """A folder of text files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"r{number}").write_text(str(20_000 + number))
    return folder


def found(root):
    """The inventory of such a folder."""
    return Inventory(
        [Recording(path.name, {"subject": path.name}, {"pictures": path}) for path in sorted(root.iterdir())]
    )


def plan(root, folder, **options):
    """How it is prepared."""
    reader = Reader(options.pop("seconds", 0.0), options.get("settings", {}).get("factor", 1))
    return Preparation(root, folder, **{"settings": {}, "convert": reader, **options})
