"""Generated twin of the BioVid Heat Pain database: its folders, file names and formats, with invented people.

The signals show the pain clearly, skin conductance above all. The face shows it weakly: some people show little, some
nothing, everybody also moves for other reasons, and every resting face differs.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, zip_longest
from pathlib import Path
from typing import Literal

import numpy as np

from mtpkdot.data.biovid.index import CLASSES, HOLDOUT, LOW_REACTION
from mtpkdot.data.synthetic import faces, signals
from mtpkdot.data.synthetic.expressions import Course, Expression, Pose, head_motion, idle, of_pain, trait, wander
from mtpkdot.data.synthetic.writing import Progress, in_parallel, new_tree, random_for, write_jpeg, write_video
from mtpkdot.errors import DataConfigError

People = Literal["all", "reactive"]

FRAMES, FRAME_RATE = 138, 25
SAMPLES, SAMPLE_RATE = 2816, 512
_LEVELS = dict(zip(CLASSES, (0.0, 0.25, 0.45, 0.7, 1.0), strict=True))
# Clips of a person are numbered through the classes in this order, as in the original.
_NUMBERED = ("PA1", "PA2", "PA3", "PA4", "BL1")
_MOST_CLIPS = 999 // len(CLASSES)
# First and last frame of the part of a clip that the lists of the rearranged layout name.
_WINDOW = (50, 70)


@dataclass(frozen=True)
class Clip:
    """Plan of one clip.

    Attributes:
        subject: id of the person.
        class_name: one of `CLASSES`.
        number: number of the clip among those of the person.
        part: `PartA`, or `PartB` with signals of the face's muscles.
        expression: strength of pain in faces.
        seed: seed of everything.
    """

    subject: str
    class_name: str
    number: int
    part: str
    expression: float
    seed: int

    @property
    def name(self) -> str:
        """Name of the clip, without suffix."""
        return f"{self.subject}-{self.class_name}-{self.number:03d}"


@dataclass(frozen=True)
class Performance:
    """Behaviour of a person in one clip.

    Attributes:
        look: appearance of the person.
        expression: expression of the face, [138 frames].
        pose: pose of the head, [138 frames].
        filtered: signals [2816 samples] by name, in the order of the columns.
        raw: unfiltered signals [2816 samples] by name.
    """

    look: faces.Look
    expression: Expression
    pose: Pose
    filtered: dict[str, Course]
    raw: dict[str, Course]


@dataclass(frozen=True)
class _Job:
    clip: Clip
    out: Path
    layout: str
    size: int


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `synthesize`, except folder, seed and workers, to those of a command line."""
    parser.add_argument("--subjects", type=int, default=8, help="people; 87 in the original")
    parser.add_argument("--clips", type=int, default=20, help="clips of each person and class; 20 in the original")
    parser.add_argument("--classes", nargs="+", default=list(CLASSES), help="classes of the clips")
    parser.add_argument("--size", type=int, default=160, help="side of the frames in pixels")
    parser.add_argument("--part", choices=("PartA", "PartB"), default="PartA", help="PartB has facial EMG")
    layouts = "official: as distributed; frames: folders of frames"
    parser.add_argument("--layout", choices=("official", "frames"), default="official", help=layouts)
    parser.add_argument("--expression", type=float, default=0.6, help="how plainly faces show the pain")
    parser.add_argument(
        "--people", choices=("all", "reactive"), default="all", help="reactive: without those who hardly react"
    )


def synthesize(
    out: Path,
    subjects: int = 8,
    clips: int = 20,
    classes: Sequence[str] = CLASSES,
    size: int = 160,
    part: Literal["PartA", "PartB"] = "PartA",
    layout: Literal["official", "frames"] = "official",
    seed: int = 0,
    workers: int = 1,
    expression: float = 0.6,
    people: People = "all",
    progress: Progress | None = None,
) -> list[str]:
    """Write a twin of BioVid.

    Args:
        out: new or empty folder.
        subjects: number of people; 87 in the original.
        clips: number of clips per person and class; 20 in the original.
        classes: classes among BL1, PA1, PA2, PA3, PA4.
        size: side of the square frames in pixels, even.
        part: `PartA`, or `PartB` with the corrugator and zygomaticus muscles.
        layout: `official` as distributed; `frames` as rearranged by the method's authors, with JPEG frames and lists.
        seed: seed; equal arguments and seeds give the same pixels and the same bytes of signals.
        workers: number of processes.
        expression: strength of pain in faces; 0 for none.
        people: `reactive` leaves out people who hardly react, 20 of 87 in the original.
        progress: called with (clips done, all clips).

    Returns:
        Lines that describe the twin.

    Raises:
        DataError: `out` is not empty, or an argument is out of range.
    """
    _check(subjects, clips, classes=classes, size=size, part=part, layout=layout, seed=seed)
    if people not in ("all", "reactive"):
        raise DataConfigError(f"there are no people {people!r}", "Choose all or reactive.")
    chosen = [name for name in CLASSES if name in classes]
    names = subject_ids(subjects, people)
    made = [
        Clip(subject, name, number=_NUMBERED.index(name) * clips + i + 1, part=part, expression=expression, seed=seed)
        for subject in names
        for name in chosen
        for i in range(clips)
    ]
    with new_tree(Path(out)) as tree:
        for folder in dict.fromkeys(chain.from_iterable(_folders(tree, clip, layout) for clip in made)):
            folder.mkdir(parents=True, exist_ok=True)
        in_parallel(_write_clip, [_Job(clip, tree, layout, size) for clip in made], workers, progress)
        if layout == "official":
            _write_index(tree / part / "starting_point" / "samples.csv", names, made)
        else:
            _write_lists(tree, names, made)
    return [
        f"{len(made)} clips ({', '.join(chosen)}) of {len(names)} generated people, as BioVid {part}, {layout} layout.",
        "These are drawings and formulas: results on them say nothing about pain or people.",
    ]


def subject_ids(count: int, people: People = "all") -> list[str]:
    """Return the ids of the first `count` people, sorted: some of the hold-out, others, and some who hardly react.

    Args:
        count: number of people.
        people: `reactive` leaves out those who hardly react.
    """
    others = ["071309_w_21", "073109_w_28"]
    taken = {name.split("_")[0] for name in (*LOW_REACTION, *HOLDOUT, *others)}
    random = random_for(0, "subjects")
    while len(others) < count:
        month, day, hour = random.integers([7, 1, 8], [13, 29, 18])
        stem = f"{month:02d}{day:02d}{hour:02d}"
        if stem not in taken:
            taken.add(stem)
            others.append(f"{stem}_{'mw'[random.integers(2)]}_{random.integers(18, 66)}")
    low = [name for name in LOW_REACTION if name not in HOLDOUT]
    mixed = [name for group in zip_longest(others, HOLDOUT, low) for name in group if name]
    if people == "reactive":
        mixed = [name for name in mixed if name not in LOW_REACTION]
    return sorted(mixed[:count])


def perform(clip: Clip) -> Performance:
    """Return the events of a clip: pain, the reaction of the body, and the part of it that the face shows."""
    person = random_for(clip.seed, clip.subject)
    look, rest = faces.random_look(person), trait(FRAMES, person, 0.25)
    reacts = clip.subject not in LOW_REACTION
    shows = clip.expression * person.gamma(2.0, 0.5) * reacts
    style, liveliness = person.random(), person.uniform(0.5, 1.4)
    sensitivity = np.exp(0.15 * person.normal()) * (1.0 if reacts else 0.7)
    tonic, sweats = person.uniform(2, 12), 0.9 * np.exp(0.35 * person.normal())
    resting, heart = person.uniform(58, 84), 8 * np.exp(0.4 * person.normal())
    tenses = 3 * np.exp(0.5 * person.normal())

    random = random_for(clip.seed, clip.subject, clip.name)
    level = np.clip(_LEVELS[clip.class_name] * sensitivity + 0.07 * random.normal(), 0, 1)
    onset = random.uniform(0.1, 1.0)
    time = np.arange(SAMPLES) / SAMPLE_RATE
    pain = (
        level
        / (1 + np.exp(-(time - onset) / 0.15))
        * np.clip(1 + 0.1 * wander(SAMPLES, SAMPLE_RATE, 0.7, random), 0, 1)
    )
    frame_times = np.arange(FRAMES) / FRAME_RATE
    # A face reacts late, and not every time.
    shown = min(shows * random.gamma(2.0, 0.5), 1.0) * np.interp(frame_times - 0.3, time, pain) ** 1.2
    expression = of_pain(shown, style).plus(idle(FRAMES, FRAME_RATE, random, liveliness))
    # Shoulders also move for other reasons.
    shrug = 4 * random.gamma(0.6) * np.exp(-(((time - random.uniform(0, 5.5)) / random.uniform(0.3, 1.5)) ** 2))
    filtered = {
        "gsr": signals.skin_conductance(pain, SAMPLE_RATE, random=random, tonic=tonic, gain=sweats),
        "ecg": signals.electrocardiogram(pain, SAMPLE_RATE, random=random, resting=resting, gain=heart),
        "emg_trapezius": signals.electromyogram(shrug + tenses * random.gamma(0.5) * pain, SAMPLE_RATE, random),
    }
    if clip.part == "PartB":
        for name, control, strength in (
            ("emg_corrugator", expression.frown, 12.0),
            ("emg_zygomaticus", np.abs(expression.mouth_curve) + expression.wrinkle, 6.0),
        ):
            tension = strength * np.interp(time, frame_times, np.clip(control, 0, None))
            filtered[name] = signals.electromyogram(tension, SAMPLE_RATE, random)
    faults = {"gsr": (0.02, 0.004, 0.01), "ecg": (0.15, 0.04, 0.02)}
    raw = {
        name: signals.unfiltered(signal, SAMPLE_RATE, random, *faults.get(name, (4.0, 3.0, 1.0)))
        for name, signal in filtered.items()
    }
    return Performance(
        look, expression.plus(rest), pose=head_motion(FRAMES, FRAME_RATE, random), filtered=filtered, raw=raw
    )


def _check(subjects: int, clips: int, classes: Sequence[str], size: int, part: str, layout: str, seed: int) -> None:
    unknown = [name for name in classes if name not in CLASSES]
    for wrong, what, step in (
        (not 1 <= subjects <= 1000, f"{subjects} subjects cannot be made", "Ask for 1 to 1000; BioVid has 87."),
        (not 1 <= clips <= _MOST_CLIPS, f"{clips} clips a class cannot be numbered", f"Ask for 1 to {_MOST_CLIPS}."),
        (bool(unknown) or not classes, f"BioVid has no classes {unknown}", f"Choose among {', '.join(CLASSES)}."),
        (size < 32 or size % 2 == 1, f"frames cannot be {size} pixels wide", "Ask for an even size of 32 or more."),
        (part not in ("PartA", "PartB"), f"BioVid has no part {part!r}", "Choose PartA or PartB."),
        (layout not in ("official", "frames"), f"there is no layout {layout!r}", "Choose official or frames."),
        (seed < 0, f"a seed of {seed} is negative", "Choose 0 or more."),
    ):
        if wrong:
            raise DataConfigError(what, step)


def _folders(tree: Path, clip: Clip, layout: str) -> list[Path]:
    """Return the folders of a clip's pictures and signals."""
    if layout == "official":
        base = tree / clip.part
        return [base / kind / clip.subject for kind in ("video", "biosignals_filtered", "biosignals_raw")]
    label = str(CLASSES.index(clip.class_name))
    return [tree / label / clip.name, tree / "physio" / label]


def _write_clip(job: _Job) -> None:
    clip, act = job.clip, perform(job.clip)
    pictures, *tables = _folders(job.out, clip, job.layout)
    for folder, values in zip(tables, (act.filtered, act.raw), strict=False):
        _write_signals(folder / f"{clip.name}_bio.csv", values)
    random = random_for(clip.seed, clip.subject, clip.name, "camera")
    blocks = faces.render_blocks(act.look, act.expression, pose=act.pose, size=job.size, random=random)
    if job.layout == "official":
        write_video(pictures / f"{clip.name}.mp4", blocks, None, Fraction(FRAME_RATE))
        return
    for number, frame in enumerate(chain.from_iterable(blocks), start=1):
        write_jpeg(pictures / f"img_{number:05d}.jpg", frame)


def _write_signals(path: Path, values: dict[str, Course]) -> None:
    microseconds = np.rint(np.arange(SAMPLES) * (1e6 / SAMPLE_RATE))
    table = np.column_stack([microseconds, *values.values()])
    # One format for the whole table: twenty times as fast as row by row.
    row = "%d" + "\t%.6f" * len(values) + "\n"
    text = "\t".join(["time", *values]) + "\n" + row * SAMPLES % tuple(table.ravel().tolist())
    path.write_text(text, encoding="ascii", newline="\n")


def _write_index(path: Path, names: list[str], clips: list[Clip]) -> None:
    path.parent.mkdir()
    lines = ["subject_id\tsubject_name\tclass_id\tclass_name\tsample_id\tsample_name"]
    for number, clip in enumerate(clips, start=1):
        subject, label = names.index(clip.subject) + 1, CLASSES.index(clip.class_name)
        lines.append(f"{subject}\t{clip.subject}\t{label}\t{clip.class_name}\t{number}\t{clip.name}")
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")


def _write_lists(tree: Path, names: list[str], clips: list[Clip]) -> None:
    held_out = set(names) & set(HOLDOUT)
    lines: dict[str, list[str]] = {"train": [], "val": []}
    for clip in clips:
        label = CLASSES.index(clip.class_name)
        line = f"{label}/{clip.name} {_WINDOW[0]} {_WINDOW[1]} {label}\n"
        lines["val" if clip.subject in held_out else "train"].append(line)
    for name, rows in lines.items():
        (tree / f"{name}.txt").write_text("".join(rows), encoding="ascii", newline="\n")
