"""Weight of the term `output` for data in which few recordings have a label."""

import math
from collections.abc import Collection, Mapping

import numpy as np

from mtpkdot.data.base import BaseData
from mtpkdot.losses.weighting import Term
from mtpkdot.modules.teacher import JOINT


def level_weights(
    weights: Mapping[Term, float], data: BaseData, prevalent: str, teachers: Collection[str]
) -> dict[Term, float]:
    """Raise the weight of `output` so that unlabelled rows weigh at least as much in it as labelled rows in `task`.

    A term is a mean over the rows that it applies to: if few rows have a label, each of them would outweigh the many
    that only the teachers predict. Batches without labels have no `task` term; the weight is therefore multiplied by
    the largest possible share of batches with a label. Several labels may fall into one batch, which makes the actual
    share smaller and the weight higher than needed: with as many labels as batches the expected share is 0.63 of it.

    Args:
        weights: weights of the loss terms, before trust and schedules.
        data: data that the student is trained on.
        prevalent: name of the student's modality.
        teachers: names of its teachers, which teach unlabelled rows only.

    Returns:
        The weights, with that of `output` raised if needed.
    """
    rows, samples = data.positions("train"), data.samples
    seen = samples.present(prevalent)[rows]
    read = list(samples.masks) if JOINT in teachers else [name for name in samples.masks if name in teachers]
    taught = np.any([samples.present(name)[rows] for name in read], axis=0)
    labelled = samples.labelled[rows] & seen
    count = int(labelled.sum())
    if "output" not in weights or not count:
        return dict(weights)
    recordings = int((labelled.any(axis=1) if samples.per_step else labelled).sum())
    share = min(1.0, recordings / math.ceil(len(rows) / data.batch_size))
    level = int((seen & taught & ~samples.labelled[rows]).sum()) / count * share
    return {**weights, "output": max(weights["output"], weights.get("task", 0.0) * level)}
