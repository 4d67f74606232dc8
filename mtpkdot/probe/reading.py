"""Reading of the training and validation parts as rows of people."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.decomposition import PCA

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import BoolArray, Clips, FloatArray, IntArray, Samples
from mtpkdot.errors import ConfigError, DataError
from mtpkdot.modules.pool import moments_of_steps
from mtpkdot.teachers import Rows
from mtpkdot.teachers.rows import Scaling

# Sizes for which a minute or two are enough.
_MOST_ROWS = 2000
_MOST_FEATURES = 150  # of a modality
_LEAST = 4  # People with labels: one is tested, one selects, and two train.
_CHUNK = 1024  # Recordings read at a time.


@dataclass(frozen=True)
class Material:
    """Training and validation parts of a data set; the test part is left out.

    Attributes:
        rows: the rows, N; labelled where a label may be used.
        samples: the recordings that the rows belong to, n, without their features.
        recording: (N,) position of the recording of every row.
        people: people with a label, P; recordings if the data set does not name people.
        held_out: share of these people in the validation part.
        unlabelled: number of recordings of the training part without a label.
        training: number of recordings of the training part.
        left_out: number of recordings that were left out because there are too many.
        reduced: modalities with so many features that their first principal components stand for them.
    """

    rows: Rows
    samples: Samples
    recording: IntArray
    people: list[str]
    held_out: float
    unlabelled: int
    training: int
    left_out: int
    reduced: list[str]

    @property
    def size(self) -> int:
        """Number of rows times number of features, which decides how long fits take."""
        return sum(values.numel() for values in self.rows.values.values())

    @property
    def unit(self) -> str:
        """Unit of sampling, in words."""
        return "people" if self.samples.knows_subjects else "recordings"


def read(data: BaseData, command: str) -> Material:
    """Read the features of a data set, without its test part.

    Args:
        data: the data set.
        command: command that compares methods by training, for data that cannot be probed.

    Raises:
        ConfigError: a modality has no vectors as steps.
        DataError: too few people have labels.
    """
    media = [name for name, steps in data.samples.features.items() if isinstance(steps, Clips) or steps.ndim != 3]
    if media:
        raise ConfigError(
            f"{data.source}: the probe reads vectors, and {', '.join(media)} has pictures, sound or signals as steps",
            "Probe a FeatureData config of features that an encoder has computed (docs/own-data.md), "
            f"or compare by training: `{command}`.",
        )
    parts = {part: data.positions(part) for part in ("train", "validation")}
    whole = np.concatenate(list(parts.values()))
    steps = data.samples.labelled.shape[1] if data.per_step else 1
    count = max(_MOST_ROWS // steps, 1)
    kept = _thinned(whole, data.samples.known[whole], count)
    chosen = np.zeros(len(data.samples), dtype=np.bool_)
    chosen[kept] = True
    samples = data.samples.keep(chosen)
    people = np.unique(samples.subjects[samples.known]).tolist()
    if len(people) < _LEAST:
        raise DataError(
            f"{data.source}: {len(people)} people of the training and validation parts have labels",
            f"The probe needs {_LEAST} of them; label more people, or raise data.init_args.labelled_subjects.",
        )
    selecting = np.unique(data.samples.subjects[parts["validation"]][data.samples.known[parts["validation"]]])
    known = data.samples.known[parts["train"]]
    rows = rows_of(samples)
    reduced = [name for name, values in rows.values.items() if values.shape[1] > _MOST_FEATURES]
    return Material(
        replace(rows, values={**rows.values, **{name: _components(rows, name) for name in reduced}}),
        replace(samples, features={}, masks={}),
        recording=np.repeat(np.arange(len(samples)), steps),
        people=people,
        held_out=float(np.isin(people, selecting).mean()),
        unlabelled=int((~known).sum()),
        training=len(known),
        left_out=len(whole) - len(kept),
        reduced=reduced,
    )


def rows_of(samples: Samples) -> Rows:
    """Return the rows of recordings as the members of a pool read them, see `mtpkdot.modules.pool.PoolModule`.

    Args:
        samples: recordings whose steps are vectors.
    """
    values, present = {}, {}
    for name, steps in samples.features.items():
        assert not isinstance(steps, Clips)
        values[name] = torch.cat(
            [
                moments_of_steps(_tensor(steps[start : start + _CHUNK]), torch.from_numpy(mask), samples.per_step)
                for start in range(0, len(samples), _CHUNK)
                for mask in (samples.masks[name][start : start + _CHUNK],)
            ]
        )
        present[name] = torch.from_numpy(samples.present(name).reshape(-1))
    people = np.unique(samples.subjects, return_inverse=True)[1].astype(np.int64)
    labelled = torch.from_numpy(samples.labelled.reshape(-1))
    target = torch.from_numpy(samples.target)
    return Rows(
        values,
        present,
        target=target.flatten(0, 1) if samples.per_step else target,
        labelled=labelled,
        people=torch.from_numpy(people).repeat_interleave(len(labelled) // max(len(samples), 1)),
    )


def _thinned(recordings: IntArray, known: BoolArray, most: int) -> IntArray:
    """Return at most `most` recordings, spread evenly; those without a label are left out first."""
    if known.sum() > most:
        return _spread(recordings, most)
    return np.concatenate([recordings[known], _spread(recordings[~known], most - int(known.sum()))])


def _spread(recordings: IntArray, most: int) -> IntArray:
    count = min(len(recordings), most)
    return recordings[np.arange(count) * len(recordings) // max(count, 1)]


def _components(rows: Rows, name: str) -> torch.Tensor:
    """Return the first principal components (N, D) of the standardised features of a modality."""
    x = Scaling.fit(rows, [name])(rows.only([name])).numpy()
    found = PCA(min(_MOST_FEATURES, len(x)), svd_solver="randomized", random_state=0).fit_transform(x)
    return torch.from_numpy(found.astype(np.float32))


def _tensor(steps: FloatArray) -> torch.Tensor:
    return torch.from_numpy(steps)
