"""Weight of the teachers' answers where few recordings have a label."""

import math
from collections.abc import Collection, Mapping

import numpy as np

from mtpkdot.data.base import BaseData
from mtpkdot.losses.weighting import Term
from mtpkdot.modules.teacher import JOINT


def level_weights(
    weights: Mapping[Term, float], data: BaseData, prevalent: str, teachers: Collection[str]
) -> dict[Term, float]:
    """Raise the weight of `output` until a row without a label counts no less in it than one with counts in `task`.

    A term is a mean over those rows of a batch that it speaks of: where few have a label, each would outweigh the
    many that only teachers know. A batch without any label has no `task`, which is allowed for by the share of batches
    that can have one. Labels that fall together leave fewer: where they are as many as batches, the expected share is
    0.63 of it, and the weight as much higher than level.

    Args:
        weights: of the loss terms; trust and schedules come on top of them.
        data: what the student is trained on.
        prevalent: its modality.
        teachers: names of its teachers; they teach rows without a label alone.
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
