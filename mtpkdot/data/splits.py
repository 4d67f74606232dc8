"""Subject-disjoint splits into training, validation and test, made or checked."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mtpkdot.data.batch import BoolArray, Samples, StrArray
from mtpkdot.data.ids import alike, as_ids
from mtpkdot.errors import DataConfigError, DataError

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
UNSCORED = "unscored"  # Neither trained on nor scored, only predicted.
_SYNONYMS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass
class Split:
    """Division of samples into train, validation and test.

    Args:
        scheme: `column`: the split column of the manifest holds train, validation or test. `fold_column`: the manifest
            numbers the folds; fold `fold` is the test part. `kfold`: subject k-fold. `loso`: leave one subject out,
            subjects in sorted order. `holdout`: `test_subjects`, or a random share of the subjects. `official`: the
            test subjects of the authors of the data set. Subjects without any label cannot be evaluated, and are always
            in the training part.
        folds: number of folds of `kfold`.
        fold: number of the tested fold or subject (loso), from 0; for `fold_column` a number of that column.
        validation: share of the remaining subjects that selects the epoch; disjoint from both other parts.
        test: share of tested subjects, at least one of them, for `holdout` without `test_subjects`.
        test_subjects: tested subjects, for `holdout`.
        validation_subjects: subjects that select the epoch, instead of a random share.
        seed: seed of every random choice here; independent of the training seed.

    Example:
        >>> split = Split(scheme="loso", fold=1, validation=0.5)
        >>> data = mtpkdot.data.PlantedData(subjects=3, samples_per_subject=2, split=split)
        >>> data.parts.tolist()
        ['validation', 'validation', 'test', 'test', 'train', 'train']
    """

    scheme: Literal["column", "fold_column", "kfold", "loso", "holdout", "official"] = "column"
    folds: int = 5
    fold: int = 0
    validation: float = 0.2
    test: float = 0.2
    test_subjects: list[str] = field(default_factory=list)
    validation_subjects: list[str] = field(default_factory=list)
    seed: int = 0


def assign_parts(split: Split, samples: Samples, source: str, by_clip: bool = False) -> StrArray:
    """Return the part of every sample.

    Args:
        split: the split.
        samples: the data set.
        source: name of the data set in errors, the path of the manifest.
        by_clip: protocol switch: ignore subjects, as the released code does.

    Returns:
        (n,) of `train`, `validation`, `test`.

    Raises:
        DataError: a part is unknown or empty, a subject is in two parts, or the fold is out of range.
    """
    for key in ("validation", "test"):
        if not 0 <= getattr(split, key) <= 1:
            raise DataConfigError(f"split.{key} is {getattr(split, key)}, not a share", "Choose a number from 0 to 1.")
    if split.seed < 0:
        raise DataConfigError(f"split.seed is {split.seed}", "Choose 0 or more.")
    subjects = samples.ids if by_clip else samples.subjects
    if split.scheme == "column":
        parts = _from_column(samples, source)
    else:
        if not samples.knows_subjects and not by_clip and split.scheme != "fold_column":
            raise DataConfigError(
                f"{source} has no subject column, so no subject-disjoint split can be made",
                "Name the column with data.init_args.subject, or use a split column (split.scheme: column).",
            )
        parts = _make(split, samples, subjects, source)
    _check(
        parts,
        subjects,
        samples=samples,
        source=source,
        any_subject=by_clip or not samples.knows_subjects,
        given=split.scheme == "column",
    )
    return parts


def _from_column(samples: Samples, source: str) -> StrArray:
    if samples.split_column is None:
        raise DataConfigError(
            f"{source} has no split column", "Add one, or let a split be made: data.init_args.split.scheme kfold."
        )
    parts = []
    for row, value in enumerate(samples.split_column):
        part = part_named(value)
        if part is None:
            raise DataError(
                f"{source}: sample {samples.ids[row]!r} is in the unknown part {value!r}",
                "Use train, validation or test.",
            )
        parts.append(part)
    return np.array(parts, dtype=np.str_)


def part_named(value: str) -> str | None:
    """Return the part that a cell of a split column names; None if it names none."""
    return _SYNONYMS.get(value.strip().lower())


def folds_of(split: Split, samples: Samples, source: str) -> list[int]:
    """Return the values of `fold` that a split has; empty for a fixed split.

    Raises:
        DataError: a value of the fold column is not a number.
    """
    if split.scheme == "kfold":
        return list(range(split.folds))
    if split.scheme == "loso":
        return list(range(len(_labelled_subjects(samples, samples.subjects))))
    if split.scheme != "fold_column" or samples.split_column is None:
        return []
    labelled = np.isin(samples.subjects, _labelled_subjects(samples, samples.subjects))
    names = np.unique(samples.split_column[labelled]).tolist()
    if unknown := [name for name in names if not name.isdecimal()]:
        raise DataError(f"{source}: the fold {unknown[0]!r} is not a number", "Number the folds in that column.")
    return sorted(int(name) for name in names)


def _labelled_subjects(samples: Samples, subjects: StrArray) -> StrArray:
    """Return the subjects with labels; all if nobody has one, which is reported elsewhere."""
    return np.unique(subjects[samples.known] if samples.known.any() else subjects)


def _make(split: Split, samples: Samples, subjects: StrArray, source: str) -> StrArray:
    everyone = np.unique(subjects)
    tested = _tested(split, samples, subjects=subjects, everyone=everyone, source=source)
    parts = np.full(len(samples), "train", dtype="<U10")
    parts[tested] = "test"
    remaining = np.setdiff1d(everyone, np.unique(subjects[tested]))
    if split.scheme == "official":
        assert samples.split_column is not None
        parts[samples.split_column == UNSCORED] = UNSCORED
        remaining = np.intersect1d(remaining, subjects[(parts == "train") & samples.known])
    if split.validation_subjects:
        chosen = _named(split.validation_subjects, remaining, "validation_subjects", source)
    else:
        # Subjects without labels can select nothing.
        remaining = np.intersect1d(remaining, subjects[(parts == "train") & samples.known])
        count = min(max(1, round(split.validation * len(remaining))), len(remaining))
        chosen = np.random.default_rng([split.seed, split.fold]).permutation(remaining)[:count]
    parts[np.isin(subjects, chosen) & (parts == "train")] = "validation"
    return parts


def _tested(split: Split, samples: Samples, subjects: StrArray, everyone: StrArray, source: str) -> BoolArray:
    if split.scheme == "fold_column":
        if samples.split_column is None:
            raise DataConfigError(f"{source} has no fold column", "Name it with data.init_args.split_column.")
        folds = np.array([int(name) if name.isdecimal() else -1 for name in samples.split_column.tolist()])
        if split.fold < 0 or split.fold not in folds:
            known = ", ".join(np.unique(samples.split_column))
            raise DataConfigError(f"{source} has no fold {split.fold}, only {known}", "Choose another split.fold.")
        return np.asarray((folds == split.fold) & np.isin(subjects, _labelled_subjects(samples, subjects)))
    if split.scheme == "official":
        if samples.split_column is None or not np.any(samples.split_column == "test"):
            raise DataConfigError(f"{source} has no official test part", "Choose another split.scheme.")
        return np.asarray(samples.split_column == "test")
    if split.scheme == "holdout":
        if split.test_subjects:
            return np.isin(subjects, _named(split.test_subjects, everyone, "test_subjects", source))
        people = _labelled_subjects(samples, subjects)
        count = max(1, round(split.test * len(people)))
        return np.isin(subjects, np.random.default_rng([split.seed]).permutation(people)[:count])
    people = _labelled_subjects(samples, subjects)
    folds_wanted = len(people) if split.scheme == "loso" else split.folds
    if not 2 <= folds_wanted <= len(people):
        labelled = " with labels" if len(people) < len(everyone) else ""
        raise DataConfigError(
            f"{source} has {len(people)} subjects{labelled}: {folds_wanted} folds cannot be made",
            "Choose another split.folds.",
        )
    if not 0 <= split.fold < folds_wanted:
        raise DataConfigError(
            f"fold {split.fold} does not exist among {folds_wanted}", f"Choose split.fold in 0..{folds_wanted - 1}."
        )
    if split.scheme == "loso":
        return np.asarray(subjects == people[split.fold])
    from sklearn.model_selection import GroupKFold

    positions = np.flatnonzero(np.isin(subjects, people))
    made = GroupKFold(split.folds, shuffle=True, random_state=split.seed).split(positions, groups=subjects[positions])
    tested = np.zeros(len(subjects), dtype=np.bool_)
    tested[positions[list(made)[split.fold][1]]] = True
    return tested


def _named(names: list[str], known: StrArray, key: str, source: str) -> StrArray:
    wanted, composed = as_ids(names), as_ids(known)  # Names of folders may have either form.
    unknown = sorted(set(wanted.tolist()) - set(composed.tolist()))
    if unknown:
        pair = alike(unknown, known.tolist())
        hint = f"; it has {pair[1]!r}: {pair[2]}" if pair else ""
        raise DataConfigError(
            f"split.{key} names {(pair or unknown)[0]!r}, which {source} does not have (or which is tested){hint}",
            "Correct the name; subjects are compared as text.",
        )
    return known[np.isin(composed, wanted)]


def _check(parts: StrArray, subjects: StrArray, samples: Samples, source: str, any_subject: bool, given: bool) -> None:
    """Raise an error for unusable parts, about the data if these give the parts, else about the config."""
    for part in PARTS:
        if not np.any(parts == part):
            error = DataError if given else DataConfigError
            raise error(f"{source}: the {part} part is empty", "Change the split column or data.init_args.split.")
        if not np.any((parts == part) & samples.known):
            raise DataError(
                f"{source}: no sample of the {part} part has a target",
                "Give targets to some of them, or change the split.",
            )
    if any_subject:
        return
    home: dict[str, str] = {}
    for subject, part in zip(subjects.tolist(), parts.tolist(), strict=True):
        if home.setdefault(subject, part) != part:
            raise DataError(
                f"{source}: subject {subject!r} is in both {home[subject]} and {part}",
                "Keep all samples of a subject in one part, or let a split be made (split.scheme: kfold).",
            )
