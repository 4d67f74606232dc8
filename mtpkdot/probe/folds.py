"""Inner folds over people: who is tested, who selects, and who is labelled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mtpkdot.data.batch import BoolArray
from mtpkdot.data.labels import hide_labels
from mtpkdot.errors import ConfigError
from mtpkdot.probe.reading import Material
from mtpkdot.teachers import Rows

_NUMBERS = [step * 10**power for power in range(7) for step in (1, 2, 5)]
_POINTS = 4  # Points of a curve by default.


@dataclass(frozen=True)
class Cell:
    """Rows of one fold, one draw of the labelled people, and one number of them.

    Attributes:
        training: the training rows, with the labels of the labelled people alone.
        known: the same rows, with every label that may be used.
        held_out: rows of people that select.
        tested: rows of other people, all with a label and with the prevalent modality.
    """

    training: Rows
    known: Rows
    held_out: Rows
    tested: Rows


@dataclass(frozen=True)
class Sizes:
    """Numbers of people in every fold.

    Attributes:
        folds: number of folds.
        held_out: people that select.
        labelled: largest number of labelled people.
    """

    folds: int
    held_out: int
    labelled: int

    @classmethod
    def of(cls, material: Material, folds: int) -> "Sizes":
        """Return the sizes, with the config's proportion of people that select."""
        people = len(material.people)
        folds = min(folds, people)
        rest = people - -(-people // folds)
        held_out = min(max(1, round(rest * material.held_out)), rest - 1)
        return cls(folds, held_out, rest - held_out)

    def points(self, least: int, asked: Sequence[int] = ()) -> list[int]:
        """Return numbers of labelled people, in order, of which the last is the largest possible.

        Args:
            least: smallest number by default.
            asked: numbers that are asked for; empty for a few round ones.

        Raises:
            ConfigError: more people are asked for than there are.
        """
        if too_many := [number for number in asked if number > self.labelled]:
            raise ConfigError(
                f"--labelled {too_many[0]} is more than the {self.labelled} that train in a fold", "Choose fewer."
            )
        some = [number for number in _NUMBERS if least <= number <= 0.75 * self.labelled]
        return sorted({*(asked or some[-(_POINTS - 1) :]), self.labelled})


def cells(
    material: Material, prevalent: str, sizes: Sizes, numbers: Sequence[int], draw: int, seed: int
) -> Iterator[tuple[int, Cell]]:
    """Yield the cells of a draw with their numbers of labelled people; every person with a label is tested once.

    The labelled people of a small number are among those of a larger one, see `mtpkdot.data.labels.hide_labels`.

    Args:
        material: the data.
        prevalent: name of the student's modality.
        sizes: sizes of the folds.
        numbers: numbers of labelled people.
        draw: number of the draw; each has folds and labelled people of its own.
        seed: seed of all draws.
    """
    samples = material.samples
    order = np.random.default_rng([seed, draw]).permutation(np.array(material.people))
    testable = material.rows.labelled & material.rows.present[prevalent]
    for fold, tested in enumerate(np.array_split(order, sizes.folds)):
        rest = order[~np.isin(order, tested)]
        selecting = np.isin(samples.subjects, rest[: sizes.held_out])
        parts = np.full(len(samples), "train", dtype="<U10")
        parts[selecting] = "validation"
        parts[np.isin(samples.subjects, tested)] = "test"
        in_training = _of_rows(material, parts == "train")
        held_out, judged = (_of_rows(material, parts == part) for part in ("validation", "test"))
        for number in numbers:
            few = hide_labels(samples, parts, "all" if number == sizes.labelled else number, (seed, draw, fold))
            labelled = torch.from_numpy(few.labelled.reshape(-1))
            yield (
                number,
                Cell(
                    replace(material.rows, labelled=labelled).keep(in_training),
                    material.rows.keep(in_training),
                    held_out=material.rows.keep(held_out & material.rows.labelled),
                    tested=material.rows.keep(judged & testable),
                ),
            )


def _of_rows(material: Material, recordings: BoolArray) -> torch.Tensor:
    return torch.from_numpy(recordings[material.recording])
