"""Hiding of people's labels, to measure the value of recordings without labels."""

from dataclasses import replace
from typing import Literal

import numpy as np

from mtpkdot.data.batch import BoolArray, Samples, StrArray
from mtpkdot.errors import DataConfigError

LabelledSubjects = Literal["all"] | int | float
_MOST_CLASSES = 12  # Classes in a line.


def check_labelled_subjects(value: LabelledSubjects) -> None:
    """Check a number or share of labelled subjects.

    Raises:
        ValueError: the value is neither `all`, nor a whole number from 1, nor a share in (0, 1].
    """
    if isinstance(value, str):
        valid = value == "all"
    else:
        valid = value >= 1 if type(value) is int else type(value) is float and 0 < value <= 1
    if not valid:
        raise ValueError(
            f"labelled_subjects must be all, a number of people from 1, or a share in (0, 1], not {value!r}"
        )


def hide_labels(samples: Samples, parts: StrArray, labelled: LabelledSubjects, seed: tuple[int, ...]) -> Samples:
    """Return the data set with labels of some training subjects only; validation and test keep theirs.

    Choices are nested: subjects who keep their labels with a small number also keep them with a larger one, unless so
    few would leave out a class. Then subjects with the missing classes come first.

    Args:
        samples: the data set. If subjects are unknown, every sample counts as one.
        parts: (n,) part of every sample.
        labelled: `all`, a number of subjects, or a share of them.
        seed: seed of the choice.

    Raises:
        DataError: fewer training subjects have labels.
    """
    if labelled == "all":
        return samples
    training = (parts == "train") & samples.known
    people = np.unique(samples.subjects[training])
    count = max(1, round(labelled * len(people))) if isinstance(labelled, float) else int(labelled)
    if count > len(people):
        raise DataConfigError(
            f"labelled_subjects is {count}, but the training part has labels of {len(people)} subjects",
            f"Set data.init_args.labelled_subjects to {len(people)} or less, or to all.",
        )
    order = np.random.default_rng(list(seed)).permutation(people)
    kept = order[:count]
    if np.issubdtype(samples.target.dtype, np.integer):
        some = _classes(samples, training & np.isin(samples.subjects, kept))
        if some < _classes(samples, training):
            kept = np.array(_covering(samples, training, order.tolist())[:count], dtype=people.dtype)
    hidden = training & ~np.isin(samples.subjects, kept)
    target, known = samples.target.copy(), samples.labelled.copy()
    known[hidden] = False
    target[hidden] = -1 if np.issubdtype(target.dtype, np.integer) else np.nan
    return replace(samples, target=target, labelled=known)


def label_counts(samples: Samples) -> str:
    """Return the numbers of samples with a label, by class, and without; empty if all have numbers.

    The counts of the classes add up to that of the labels. With targets per step, steps are counted.

    Example:
        `20 with a label (calm: 12, pain: 8), 4 without`
    """
    total, known = samples.labelled.size, int(samples.labelled.sum())
    classes = ""
    if samples.class_names:
        counts = np.bincount(samples.target[samples.labelled], minlength=len(samples.class_names)).tolist()
        listed = [f"{_shown(name)}: {count}" for name, count in zip(samples.class_names, counts, strict=True)]
        if len(listed) > _MOST_CLASSES:
            listed[_MOST_CLASSES:] = [f"{len(listed) - _MOST_CLASSES} more classes: {sum(counts[_MOST_CLASSES:])}"]
        classes = f" ({', '.join(listed)})"
    elif known == total or samples.per_step:
        return ""
    unit = " steps" if samples.per_step else ""
    return f"{known}{unit} with a label{classes}" + (f", {total - known} without" if known < total else "")


def _shown(name: str) -> str:
    """Return a name, in quotes if its ends are invisible."""
    return name if name.isprintable() and name == name.strip() and not set(name) & set(",;:()") else repr(name)


def _classes(samples: Samples, chosen: BoolArray) -> set[int]:
    return set(samples.target[chosen][samples.labelled[chosen]].tolist())


def _covering(samples: Samples, chosen: BoolArray, order: list[str]) -> list[str]:
    """Return people in the given order, but first those with a class that nobody before them has."""
    of_people: dict[str, set[int]] = {}
    for row in np.flatnonzero(chosen):
        known = samples.target[row][samples.labelled[row]]
        of_people.setdefault(str(samples.subjects[row]), set()).update(known.reshape(-1).tolist())
    first: dict[str, None] = {}
    seen: set[int] = set()
    for person in order:
        if of_people[person] - seen:
            first[person] = None
            seen |= of_people[person]
    return [*first, *(person for person in order if person not in first)]
