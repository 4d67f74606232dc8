"""What cutting and finding faces costs: CPU time of one process, as ratios within one run.

`make bench`. The video has the size of BioVid's, 1388 x 1038. Plain decoding is PyAV's `to_ndarray(format="rgb24")` of
every frame and nothing else. The clips with faces are those of MTPKDOT_TEST_DATA.
"""

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mtpkdot.data.media.boxes import Box
from mtpkdot.data.media.decode import iter_frames, iter_lazy_frames
from mtpkdot.data.media.detectors import Detector, open_detector
from mtpkdot.data.media.faces import crop, find_boxes
from mtpkdot.data.media.pictures import PictureSettings, read_pictures
from mtpkdot.data.synthetic.writing import write_video
from tests.data.media_helpers import CLIPS, YUNET, needs_cascade, needs_clips, needs_yunet
from tests.data.test_faces import reference_crop

HEIGHT, WIDTH = 1038, 1388
# First and end of the frames in which somebody can be seen, where it is not all of them.
SEEN = {"no_face.mp4": (0, 0), "face_noface.mov": (0, 72), "noface_face.mov": (97, 169)}
DETECTORS = [
    pytest.param("haar", marks=needs_cascade, id="haar"),
    pytest.param(str(YUNET), marks=needs_yunet, id="yunet"),
]


def cpu(action: Callable[[], object], rounds: int = 5) -> float:
    """CPU seconds of the quickest round; other programs on the machine only ever add to it."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        action()
        taken.append(time.process_time() - start)
    return min(taken)


def told(benchmark, **figures: float) -> None:
    """Keep the figures, and print them."""
    benchmark.extra_info |= {name.replace("_", " "): round(value, 2) for name, value in figures.items()}
    print(f"\n{benchmark.name}: {benchmark.extra_info}")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """A person who talks, 72 frames as large as BioVid's."""
    path = tmp_path_factory.mktemp("large") / "large.mp4"
    frames = (frame[:, 80:560] for _, frame in iter_frames(CLIPS / "faces" / "single_face.mp4"))
    write_video(path, (cv2.resize(frame, (WIDTH, HEIGHT))[None] for frame in frames), None, Fraction(25))
    return path


def plainly(path: Path) -> None:
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            frame.to_ndarray(format="rgb24")


@needs_clips
@pytest.mark.parametrize("crop", ["centre", "whole", "face"])
def bench_prepare_beside_plain_decoding(benchmark, video, crop):
    settings = PictureSettings(crop=crop)
    ours = benchmark.pedantic(lambda: cpu(lambda: read_pictures(video, "x", settings)), rounds=1)
    plain, frames = cpu(lambda: plainly(video)), len(list(iter_lazy_frames(video)))
    told(benchmark, ratio=ours / plain, ms_per_frame=1e3 * ours / frames, plain_ms_per_frame=1e3 * plain / frames)


@pytest.mark.parametrize(
    "box",
    [Box(175, 0, HEIGHT, HEIGHT), Box(500, 300, 300, 300), Box(1200, -50, 300, 300)],
    ids=["centre", "face", "beyond the edge"],
)
def bench_crop_beside_index_arithmetic(benchmark, box):
    frame = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    cv2.setNumThreads(1)
    ours = benchmark.pedantic(lambda: cpu(lambda: crop(frame, box, 112, 0), 20), rounds=1)
    indexed = cpu(lambda: reference_crop(frame, box, 112, 0), 20)
    told(benchmark, times_as_fast=indexed / ours, ms=1e3 * ours, indexed_ms=1e3 * indexed)


def looks(path: Path) -> list[np.ndarray]:
    """Every fifth picture of a clip, of those that show somebody."""
    first, stop = SEEN.get(path.name, (0, None))
    return [frame for _, frame in iter_frames(path)][first:stop:5]


@needs_clips
@pytest.mark.parametrize("name", DETECTORS)
def bench_faces_found(benchmark, name):
    """Of the looks at which somebody can be seen, and of those at which nobody can; CPU time of a look."""
    detector = open_detector(name)
    clips = sorted(path for path in CLIPS.rglob("*.m*"))
    pictures = [frame for path in clips for frame in looks(path)]
    empty = [frame for _, frame in iter_frames(CLIPS / "faces" / "no_face.mp4")][::5]

    def found(frames: list[np.ndarray]) -> int:
        return sum(detector.detect(frame) is not None for frame in frames)

    seconds = benchmark.pedantic(lambda: cpu(lambda: found(pictures), 2), rounds=1)
    ms = 1e3 * seconds / len(pictures)
    told(benchmark, found=found(pictures), of=len(pictures), none=found(empty), of_empty=len(empty), ms_per_look=ms)


@needs_clips
@pytest.mark.parametrize("name", DETECTORS)
def bench_search_beside_a_search_in_converted_frames(benchmark, video, name):
    """Finding a face where every frame is converted, and where those are that are looked at."""
    detector: Detector = open_detector(name)
    lazy = benchmark.pedantic(
        lambda: cpu(lambda: find_boxes((frame.rgb for frame in iter_lazy_frames(video)), detector), 3), rounds=1
    )
    every = cpu(lambda: find_boxes((frame for _, frame in iter_frames(video)), detector), 3)
    told(benchmark, times_as_fast=every / lazy, ms_per_frame=1e3 * lazy / len(list(iter_lazy_frames(video))))
