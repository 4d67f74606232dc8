"""Generated twin of Aff-Wild2's valence-arousal track: its folders, file names, formats and irregularities.

Frames without a face have no crop, some rows of annotation are -5, annotation, video and crops differ by a few frames,
frame rates vary between and inside videos, and some videos hold two people. The face shows valence; arousal is heard.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtpkdot.data.synthetic import faces, signals
from mtpkdot.data.synthetic.expressions import (
    Course,
    Expression,
    Pose,
    head_motion,
    idle,
    of_affect,
    trait,
    wander,
)
from mtpkdot.data.synthetic.writing import Progress, in_parallel, new_tree, random_for, write_jpeg, write_video
from mtpkdot.errors import DataConfigError

ANNOTATIONS = "VA_Estimation_Challenge"
TEST_LIST = "Valence_Arousal_Estimation_Challenge_test_set_release.txt"
SETS = {"train": "Train_Set", "validation": "Validation_Set"}
_FEWEST = 5  # Videos that are needed for every irregularity to occur.
_MOST_FRAMES = 99_999  # Names have five digits.
# About the shares of the original: 356 train, 76 validation, 162 test.
_PARTS = ("train", "train", "validation", "test", "train", "train", "test", "train")
_RATES = (Fraction(30), Fraction(25), Fraction(30000, 1001), Fraction(15), Fraction(24))
_SIZES = ((256, 320), (240, 288), (288, 352))


@dataclass(frozen=True)
class Person:
    """One person in a video.

    Attributes:
        name: name of annotation and crops: that of the video, with `_left` or `_right` for two people.
        annotated: True if the data set has annotation and crops of this person.
    """

    name: str
    annotated: bool


@dataclass(frozen=True)
class Video:
    """Plan of one raw video.

    Attributes:
        name: name of the file, without suffix.
        part: `train`, `validation` or `test`.
        people: one, or two from left to right.
        suffix: `.mp4` or `.avi`.
        batch: folder of the raw video.
        rate: average frames per second.
        size: height and width of one person's half of the picture.
        sound: codec and samples per second.
        frames: number of frames; annotation, video and crops may lack a few at the end.
        seed: seed of everything.
    """

    name: str
    part: str
    people: tuple[Person, ...]
    suffix: str
    batch: str
    rate: Fraction
    size: tuple[int, int]
    sound: tuple[str, int]
    frames: int
    seed: int


@dataclass(frozen=True)
class Performance:
    """Behaviour of a person in a video.

    Attributes:
        look: appearance of the person.
        valence: [frames], -1 to 1.
        arousal: [frames], -1 to 1.
        expression: expression of the face, [frames].
        pose: pose of the head, [frames].
    """

    look: faces.Look
    valence: Course
    arousal: Course
    expression: Expression
    pose: Pose


@dataclass(frozen=True)
class _Job:
    video: Video
    out: Path


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `synthesize`, except folder, seed and workers, to those of a command line."""
    parser.add_argument("--videos", type=int, default=12, help="raw videos; 594 in the original")
    length = parser.add_argument("--frames", type=int, nargs=2, default=(200, 400), help="frames of a video")
    length.metavar = ("MIN", "MAX")


def synthesize(
    out: Path,
    videos: int = 12,
    frames: tuple[int, int] = (200, 400),
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[str]:
    """Write a twin of Aff-Wild2.

    Args:
        out: new or empty folder.
        videos: number of raw videos, 5 or more; 594 in the original.
        frames: lowest and highest number of frames of a video.
        seed: seed; equal arguments and seeds give the same pixels, sounds and bytes of annotation.
        workers: number of processes.
        progress: called with (videos done, all videos).

    Returns:
        Lines that describe the twin.

    Raises:
        DataError: `out` is not empty, or an argument is out of range.
    """
    for wrong, what, step in (
        (videos < _FEWEST, f"{videos} videos are too few for every oddity of Aff-Wild2", f"Ask for {_FEWEST} or more."),
        (
            not 20 <= frames[0] <= frames[1] <= _MOST_FRAMES,
            f"videos cannot have {frames[0]} to {frames[1]} frames",
            f"Ask for 20 to {_MOST_FRAMES}, the fewest first.",
        ),
        (seed < 0, f"a seed of {seed} is negative", "Choose 0 or more."),
    ):
        if wrong:
            raise DataConfigError(what, step)
    planned = [plan(i, frames, seed) for i in range(videos)]
    with new_tree(Path(out)) as tree:
        for folder in (*(f"{ANNOTATIONS}/{name}" for name in SETS.values()), "cropped_aligned", "batch1", "batch2"):
            (tree / folder).mkdir(parents=True)
        in_parallel(_write, [_Job(video, tree) for video in planned], workers, progress)
        tests = [who.name for video in planned if video.part == "test" for who in video.people if who.annotated]
        (tree / TEST_LIST).write_text("".join(f"{name}\n" for name in tests), encoding="ascii", newline="\n")
    # A recording is one person of a video.
    parts = [video.part for video in planned for who in video.people if who.annotated]
    counts = ", ".join(f"{parts.count(part)} {part}" for part in (*SETS, "test"))
    return [
        f"{len(parts)} recordings ({counts}) in {videos} generated videos, some of two people; laid out as Aff-Wild2.",
        "These are drawings and formulas: results on them say nothing about people.",
    ]


def plan(index: int, frames: tuple[int, int], seed: int) -> Video:
    """Return the plan of a video; the first five videos show every irregularity."""
    random = random_for(seed, "plan", str(index))
    avi = index % 3 == 2
    rate, size = _RATES[index % len(_RATES)], _SIZES[index % len(_SIZES)]
    sides = {1: ("_left", "_right"), 4: ("_left", "")}.get(index % 5, ("",))
    width = size[1] * len(sides)
    # Both kinds of names occur in the original.
    name = f"{index + 1}-{round(rate)}-{width}x{size[0]}" if index % 2 == 0 else f"video{index + 1}"
    alone = len(sides) == 1
    return Video(
        name=name,
        part=_PARTS[index % len(_PARTS)],
        people=tuple(Person(name + side, bool(side) or alone) for side in sides),
        suffix=".avi" if avi else ".mp4",
        batch=f"batch{1 + index % 2}",
        rate=rate,
        size=size,
        sound=(("libmp3lame", 44100), ("pcm_s16le", 16000))[index // 3 % 2]
        if avi
        else ("aac", (44100, 16000)[index // 2 % 2]),
        frames=int(random.integers(frames[0], frames[1] + 1)),
        seed=seed,
    )


def frame_times(video: Video) -> NDArray[np.float64]:
    """Return the second at which each frame is shown: evenly in `.avi`, with stretches at half the rate in `.mp4`."""
    step = float(1 / video.rate)
    if video.suffix == ".avi":
        return np.arange(video.frames, dtype=np.float64) * step
    random = random_for(video.seed, video.name, "times")
    slow = wander(video.frames, float(video.rate), 2.0, random) > 1.0
    # One stretch even if chance gives none, so that each .mp4 has two rates.
    start = int(random.integers(video.frames // 2))
    slow[start : start + max(video.frames // 10, 2)] = True
    steps = np.where(slow, 2 * step, step)
    return np.asarray(np.cumsum(steps) - steps, dtype=np.float64)


def perform(video: Video, side: int) -> Performance:
    """Return what a person feels and does in a video.

    Args:
        video: the video.
        side: number of the person.
    """
    random = random_for(video.seed, video.people[side].name, str(side))
    times, rate = frame_times(video), float(video.rate)
    # Courses are drawn on an even grid and interpolated at the times of the frames.
    count = int(times[-1] * rate) + 2
    grid = np.arange(count) / rate

    def seen(course: Course) -> Course:
        return np.asarray(np.interp(times, grid, course))

    valence = np.tanh(0.25 * random.normal() + 0.15 + 0.6 * wander(count, rate, 2.0, random))
    arousal = np.tanh(0.25 * random.normal() + 0.2 + 0.5 * wander(count, rate, 1.5, random))
    look, rest = faces.random_look(random), trait(count, random, 0.15)
    liveliness = random.uniform(0.4, 1.0)
    expression = of_affect(random.uniform(0.7, 1.0) * valence, arousal).plus(idle(count, rate, random, liveliness))
    expression = Expression(*[seen(control) for control in expression.plus(rest)])
    pose = Pose(*[seen(course) for course in head_motion(count, rate, random)])
    return Performance(look, seen(valence), arousal=seen(arousal), expression=expression, pose=pose)


def _write(job: _Job) -> None:
    video, out = job.video, job.out
    random = random_for(video.seed, video.name, "losses")
    acts = [perform(video, side) for side in range(len(video.people))]
    shown = video.frames - int(random.integers(0, 4))
    known: list[set[int]] = []
    for who, act in zip(video.people, acts, strict=True):
        rows = video.frames - int(random.integers(0, 4))
        known.append(_with_face(video.frames - int(random.integers(0, 4)), random) if who.annotated else set())
        if who.annotated and video.part != "test":
            path = out / ANNOTATIONS / SETS[video.part] / f"{who.name}.txt"
            _write_annotation(path, act.valence[:rows], act.arousal[:rows], random)
        if who.annotated:
            (out / "cropped_aligned" / who.name).mkdir()
    times = frame_times(video)
    codec, sound_rate = video.sound
    write_video(
        out / video.batch / f"{video.name}{video.suffix}",
        _pictures(video, acts, known=known, shown=shown, crops=out / "cropped_aligned"),
        times=None if video.suffix == ".avi" else times.tolist(),
        rate=video.rate,
        sound=_sound(video, acts, times, shown),
        sound_codec=codec,
        sound_rate=sound_rate,
    )


def _with_face(count: int, random: np.random.Generator) -> set[int]:
    """Return which of the first `count` frames have a crop: all but some stretches."""
    lost: set[int] = set()
    for _ in range(1 + count // 150):
        start = int(random.integers(count))
        lost |= set(range(start, start + int(random.integers(2, 13))))
    return set(range(count)) - lost


def _write_annotation(path: Path, valence: Course, arousal: Course, random: np.random.Generator) -> None:
    rows = [f"{v:.4f},{a:.4f}\n" for v, a in zip(valence, arousal, strict=True)]
    for _ in range(1 + len(rows) // 250):
        start = int(random.integers(len(rows)))
        for i in range(start, min(start + int(random.integers(1, 9)), len(rows))):
            rows[i] = "-5,-5\n"
    path.write_text("valence,arousal\n" + "".join(rows), encoding="ascii", newline="\n")


def _pictures(
    video: Video, acts: list[Performance], known: list[set[int]], shown: int, crops: Path
) -> Iterator[NDArray[np.uint8]]:
    """Yield frames of the raw video in blocks; writes the crops on the way."""
    halves = [
        faces.render_blocks(
            act.look,
            act.expression,
            pose=act.pose,
            size=video.size,
            random=random_for(video.seed, who.name, str(side), "camera"),
        )
        for side, (who, act) in enumerate(zip(video.people, acts, strict=True))
    ]
    places = [faces.placement(act.pose, video.size) for act in acts]
    start = 0
    for blocks in zip(*halves, strict=True):
        for who, block, place, present in zip(video.people, blocks, places, known, strict=True):
            for i, frame in enumerate(block, start=start):
                if i in present:
                    write_jpeg(crops / who.name / f"{i + 1:05d}.jpg", faces.crop(frame, place[i]))
        whole = np.concatenate(blocks, axis=2)[: max(shown - start, 0)]
        start += len(blocks[0])
        yield whole


def _sound(
    video: Video, acts: list[Performance], times: NDArray[np.float64], shown: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the sum of all voices of a video; the second person is further away."""
    seconds = float(times[shown - 1]) + float(1 / video.rate)
    voices = [
        signals.voice(
            times,
            act.valence,
            arousal=act.arousal,
            rate=video.sound[1],
            seconds=seconds,
            random=random_for(video.seed, who.name, str(side), "voice"),
        )
        for side, (who, act) in enumerate(zip(video.people, acts, strict=True))
    ]
    for parts in zip(*voices, strict=True):
        mix = sum(part * 0.5**side for side, part in enumerate(parts))
        yield np.clip(mix, -1, 1).astype(np.float32)
