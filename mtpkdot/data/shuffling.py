"""Privileged modalities that are shuffled within people: a control without knowledge of the recording."""

from dataclasses import replace
from typing import Self

import numpy as np
from torch import Tensor

from mtpkdot.data.batch import BoolArray, Clips, IntArray, Samples, StrArray


class Reordered(Clips):
    """Clips in another order.

    Args:
        clips: the clips.
        order: (n,) position of the clip that stands at each position.
    """

    def __init__(self, clips: Clips, order: IntArray) -> None:
        self.clips, self.order = clips, order
        self.shape, self.media = (len(order), *clips.shape[1:]), clips.media

    def read(self, positions: IntArray, views: IntArray) -> Tensor:
        """Return the steps of the clips that stand at the positions; see Clips."""
        return self.clips.read(self.order[positions], views)

    def keep(self, kept: BoolArray) -> Self:
        """Return the clips at some positions; see Clips."""
        return type(self)(self.clips, self.order[kept])


def shuffle_privileged(samples: Samples, parts: StrArray, prevalent: str, seed: int) -> Samples:
    """Return the samples with the privileged modalities of the training part permuted within each person.

    All privileged modalities of a recording move together, so that only their bond to the prevalent modality and to the
    label is lost. Without known people the whole training part is permuted.

    Args:
        samples: the data set.
        parts: (n,) part of every sample.
        prevalent: name of the student's modality.
        seed: seed of the permutation.
    """
    random = np.random.default_rng(seed)
    order = np.arange(len(samples))
    training = parts == "train"
    people = samples.subjects if samples.knows_subjects else np.zeros(len(samples), dtype=np.str_)
    for person in np.unique(people[training]):
        own = np.flatnonzero(training & (people == person))
        order[own] = random.permutation(own)
    features = {
        name: values
        if name == prevalent
        else (Reordered(values, order) if isinstance(values, Clips) else values[order])
        for name, values in samples.features.items()
    }
    masks = {name: mask if name == prevalent else mask[order] for name, mask in samples.masks.items()}
    return replace(samples, features=features, masks=masks)
