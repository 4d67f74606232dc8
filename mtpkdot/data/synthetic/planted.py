"""Planted data: generated features with a known gap between face and privileged signal.

For sample i of subject s, with latent state h in R^4:

    class   = which of `classes` directions of the plane h[:2] lies closest        (target)
    video   = W_v h * video_strength + b_s + noise                (weak, with a nuisance b_s per subject)
    signal  = W_p h * signal_strength + noise                     (strong; pure noise if `privileged_noise`)

The video shows the state under noise and an offset of the person; the signal shows it clearly. With an
`entanglement` e > 0 the video shows state and person (p_s in R^4, scaled by the nuisance) through one another, and it
takes many labels to be read, while the signal still takes few:

    video   = W tanh(e [h, p_s] A + c) * video_strength + noise
Regression uses h[:2] squashed to [-1, 1] as `valence` and `arousal`.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import BoolArray, IntArray, Samples
from mtpkdot.data.splits import Split, assign_parts

Values = npt.NDArray[np.float64]

_LATENT, _HIDDEN = 4, 64
_VERSION = "1"  # Part of a stage's identity: raise it whenever the same arguments give other numbers.


class PlantedData(BaseData):
    """Generated data with a planted privileged signal, for first runs and for tests of the method.

    Args:
        subjects: number of people.
        samples_per_subject: clips of each.
        steps: time steps of a clip.
        video_dim: features of the video.
        signal_dim: features of the privileged signal.
        classes: number of classes.
        video_strength: strength of the state in the video; the noise has standard deviation 1.
        signal_strength: strength of the state in the signal.
        nuisance: standard deviation of the per-subject offset of the video.
        entanglement: strength of the mixing of state and person in the video; 0 for a sum of both.
        labelled: share of the training samples that keep their target.
        label_noise: share of the targets of training and validation that are replaced: classes by another one at
            random, values by those of another sample. The test part keeps the truth.
        privileged_noise: make the privileged signal pure noise, so that it holds no information.
        generator_seed: seed of the data, apart from the training seed.
        prevalent: modality of the student.
        split: division of the data into parts; null for subject k-fold.
        options: see BaseData.

    Example:
        >>> data = PlantedData(subjects=10, samples_per_subject=6, classes=2)
        >>> data.modalities, data.targets
        ({'video': [32], 'signal': [16]}, ['state0', 'state1'])
    """

    def __init__(
        self,
        subjects: int = 40,
        samples_per_subject: int = 30,
        steps: int = 4,
        video_dim: int = 32,
        signal_dim: int = 16,
        classes: int = 4,
        video_strength: float = 0.45,
        signal_strength: float = 1.5,
        nuisance: float = 1.0,
        entanglement: float = 0.0,
        labelled: float = 1.0,
        label_noise: float = 0.0,
        privileged_noise: bool = False,
        generator_seed: int = 0,
        prevalent: str = "video",
        split: Split | None = None,
        **options: Any,
    ) -> None:
        if min(subjects, samples_per_subject, steps, video_dim, signal_dim) < 1 or classes < 2 or generator_seed < 0:
            raise ValueError("PlantedData needs sizes of 1 or more, 2 classes or more, and a seed of 0 or more")
        super().__init__(prevalent=prevalent, split=split or Split(scheme="kfold"), **options)
        if self.task == "ordinal":
            raise ValueError("the classes of PlantedData lie on a circle, without an order: task cannot be ordinal")
        self.subjects, self.samples_per_subject, self.steps = subjects, samples_per_subject, steps
        self.dims = {"video": video_dim, "signal": signal_dim}
        if not 0 <= label_noise <= 1:
            raise ValueError(f"PlantedData.label_noise must be a share from 0 to 1, not {label_noise}")
        self.classes, self.nuisance, self.labelled, self.label_noise = classes, nuisance, labelled, label_noise
        self.strengths = {"video": video_strength, "signal": 0.0 if privileged_noise else signal_strength}
        self.entanglement, self.generator_seed = entanglement, generator_seed

    @property
    def modality_names(self) -> list[str]:
        """Names of the video and of the privileged signal."""
        return list(self.dims)

    def contents(self) -> dict[str, str]:
        """Return the version of the generator, whose arguments are in the data section already."""
        return {"generator": _VERSION}

    def load(self) -> Samples:
        """Generate the data set."""
        random = np.random.default_rng(self.generator_seed)
        n = self.subjects * self.samples_per_subject
        who = np.repeat(np.arange(self.subjects), self.samples_per_subject)
        state = random.normal(size=(n, _LATENT))
        features = {}
        for name, dim in self.dims.items():
            if name == "video" and self.entanglement:
                clean = self._entangled(state, who, dim, random)
            else:
                mixing = random.normal(size=(_LATENT, dim)) / np.sqrt(_LATENT)
                offset = random.normal(size=(self.subjects, dim)) * (self.nuisance if name == "video" else 0.0)
                clean = state @ mixing * self.strengths[name] + offset[who]
            noise = random.normal(size=(n, self.steps, dim))
            features[name] = (clean[:, None, :] + noise).astype(np.float32)
        angle = np.arctan2(state[:, 1], state[:, 0])
        known = random.random(n) < self.labelled
        ids = np.array([f"s{s:03d}_{i % self.samples_per_subject:03d}" for i, s in enumerate(who)], dtype=np.str_)
        classification = self.task == "classification"
        samples = Samples(
            ids,
            np.array([f"s{s:03d}" for s in who], dtype=np.str_),
            target=(np.floor((angle + np.pi) / (2 * np.pi) * self.classes).astype(np.int64).clip(0, self.classes - 1))
            if classification
            else np.tanh(state[:, :2]).astype(np.float32),
            labelled=np.ones(n, dtype=np.bool_),
            target_names=["state"] if classification else ["valence", "arousal"],
            class_names=[f"state{c}" for c in range(self.classes)] if classification else [],
            features=features,
            masks={name: np.ones((n, self.steps), dtype=np.bool_) for name in self.dims},
        )
        parts = assign_parts(self.split, samples, self.source, self.clip_splits)
        # Only training samples lose their labels: the others are needed for evaluation.
        hidden = (parts == "train") & ~known
        samples.labelled[hidden] = False
        samples.target[hidden] = -1 if classification else np.nan
        if self.label_noise:
            self._mislabel(samples, (parts != "test") & samples.labelled, random)
        return samples

    @property
    def _divided(self) -> Samples:
        # Labels are hidden once the training part is known.
        return replace(self._loaded, labelled=np.ones(len(self._loaded), dtype=np.bool_))

    def _entangled(self, state: Values, who: IntArray, dim: int, random: np.random.Generator) -> Values:
        """Return state and person (n, dim), mixed nonlinearly."""
        person = random.normal(size=(self.subjects, _LATENT)) * self.nuisance
        both = np.concatenate([state, person[who]], axis=1)
        mixing, shift = random.normal(size=(2 * _LATENT, _HIDDEN)) / np.sqrt(2 * _LATENT), random.normal(size=_HIDDEN)
        shown = np.tanh(self.entanglement * both @ mixing + shift)
        return np.asarray(shown @ random.normal(size=(_HIDDEN, dim)) / np.sqrt(_HIDDEN) * self.strengths["video"])

    def _mislabel(self, samples: Samples, where: BoolArray, random: np.random.Generator) -> None:
        """Replace a share of the targets by wrong ones."""
        wrong = np.flatnonzero(where & (random.random(len(where)) < self.label_noise))
        if samples.class_names:
            step = random.integers(1, self.classes, len(wrong))
            samples.target[wrong] = (samples.target[wrong].astype(np.int64) + step) % self.classes
        else:
            samples.target[wrong] = samples.target[random.permutation(wrong)]
