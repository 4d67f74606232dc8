"""Augmentation: a view of a sample is a function of the sample and the number of the view alone."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augment:
    """Augmentation of the views of a sample. View 0 is the sample itself.

    All frames of a view are changed alike, so that a face does not flip between frames.

    Args:
        flip: probability of a mirror image.
        zoom: the picture is cut to a random share of its sides, at least `1 - zoom`, at a random place.
        brightness: largest change, as a share.
        contrast: largest change, as a share.
        gain: largest change of the amplitude of signals and sound, as a share.
        noise: standard deviation of noise added to signals, as a share of each channel's own.
    """

    flip: float = 0.5
    zoom: float = 0.15
    brightness: float = 0.2
    contrast: float = 0.2
    gain: float = 0.1
    noise: float = 0.05

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"augment.{name} is {value}; choose a number from 0 to 1")

    def pictures(self, frames: Tensor, sample: str, view: int) -> Tensor:
        """Return a view of frames (N, 3, H, W) uint8, of the same shape."""
        random = generator(sample, view)
        height, width = frames.shape[-2:]
        side = 1 - self.zoom * random.random()
        top, left = (int(random.random() * (1 - side) * length) for length in (height, width))
        rows, columns = (max(1, round(side * length)) for length in (height, width))
        picture = frames[..., top : top + rows, left : left + columns]
        if random.random() < self.flip:
            picture = picture.flip(-1)
        brightness, contrast = (1 + amount * random.uniform(-1, 1) for amount in (self.brightness, self.contrast))
        if picture.shape[-2:] != (height, width):
            values = F.interpolate(picture.float(), (height, width), mode="bilinear", align_corners=False)
        else:
            values = picture.float()
        mean = values.mean(dim=(-3, -2, -1), keepdim=True)
        return ((values - mean) * contrast + mean).mul(brightness).round().clamp(0, 255).to(torch.uint8)

    def signal(self, values: Tensor, sample: str, view: int) -> Tensor:
        """Return a view of signals (..., C) of any shape."""
        random = generator(sample, view)
        noise = torch.from_numpy(random.standard_normal(values.shape).astype(np.float32))
        return values * self._gain(random) + noise * self.noise * values.flatten(0, -2).std(dim=0, unbiased=False)

    def sound(self, values: Tensor, sample: str, view: int) -> Tensor:
        """Return a view of sound of any shape, in [-1, 1]."""
        return (values * self._gain(generator(sample, view))).clamp(-1, 1)

    def _gain(self, random: np.random.Generator) -> float:
        return 1 + self.gain * random.uniform(-1, 1)


def generator(sample: str, view: int) -> np.random.Generator:
    """Return the random generator of a view of a sample."""
    return np.random.default_rng([view, *sample.encode()])
