"""Hides the labels of people, to measure what recordings without labels are worth."""

from dataclasses import replace
from typing import Literal

import numpy as np

from mtpkdot.data.batch import Samples, StrArray
from mtpkdot.errors import DataError

LabelledSubjects = Literal["all"] | int | float


def check_labelled_subjects(value: LabelledSubjects) -> None:
    """Stop at a number that is none of people and no share.

    Raises:
        ValueError: neither `all`, nor a whole number from 1, nor a share in (0, 1].
    """
    if isinstance(value, str):
        valid = value == "all"
    else:
        valid = value >= 1 if type(value) is int else type(value) is float and 0 < value <= 1
    if not valid:
        raise ValueError(f"labelled_subjects is all, a number of people from 1, or a share in (0, 1], not {value!r}")


def hide_labels(samples: Samples, parts: StrArray, labelled: LabelledSubjects, seed: tuple[int, ...]) -> Samples:
    """The data set with labels of some training subjects alone; validation and test keep theirs, for they judge.

    Those who keep their labels with a small number are among those who keep them with a larger one.

    Args:
        samples: the data set. Where subjects are unknown, every sample is one of its own.
        parts: (n,) part of every sample.
        labelled: `all`, a number of subjects, or a share of them.
        seed: of the choice.

    Raises:
        DataError: there are fewer training subjects with labels.
    """
    if labelled == "all":
        return samples
    training = (parts == "train") & samples.known
    people = np.unique(samples.subjects[training])
    count = max(1, round(labelled * len(people))) if isinstance(labelled, float) else int(labelled)
    if count > len(people):
        raise DataError(
            f"labelled_subjects is {count}, but the training part has labels of {len(people)} subjects",
            f"Set data.init_args.labelled_subjects to {len(people)} or less, or to all.",
        )
    kept = np.random.default_rng(list(seed)).permutation(people)[:count]
    hidden = training & ~np.isin(samples.subjects, kept)
    target, known = samples.target.copy(), samples.labelled.copy()
    known[hidden] = False
    target[hidden] = -1 if np.issubdtype(target.dtype, np.integer) else np.nan
    return replace(samples, target=target, labelled=known)
