"""Encoders of pictures and video: (3, H, W) per step, or a clip of F pictures (F, 3, H, W) per step.

Pictures hold 0..255, as uint8 or float. The encoders scale and normalise them as their network was trained.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mtpkdot.models.encoder import Encoder, Steps
from mtpkdot.models.masking import Temporal, encode_real, encode_sequences, nearest_real
from mtpkdot.models.networks import image_network, video_network

# Of Kinetics-400, which the video networks of torchvision were trained on.
_KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))


class Pictures(nn.Module):
    """0..255 to the range that a network was trained on.

    Args:
        mean: per colour, for pictures in 0..1.
        scale: standard deviation per colour.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).mul(255.0).view(-1, 1, 1))
        self.register_buffer("scale", torch.tensor(scale).mul(255.0).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., 3, H, W), uint8 or float, to float of the same shape."""
        return (x.to(self.mean.dtype) - self.mean) / self.scale


class FrameEncoder(Encoder):
    """A network of timm for every picture, and attention over time on request.

    Args:
        steps: of shape (3, H, W), or (F, 3, H, W): then a step's feature is the mean over its F pictures.
        model: name in timm.
        dim: feature size; None for the network's own (512 for `resnet18`), else a linear projection if it differs.
        weights: null for random, `pretrained` for timm's own, or the path of a `.safetensors` or `.pth` file.
        temporal_layers: attention blocks over time; 0 treats the steps one by one.
        heads: attention heads of these blocks.
        dropout: probability within these blocks.
        chunk: most pictures at once where no gradients are recorded; null for all.
    """

    standardize = False

    def __init__(
        self,
        steps: Steps,
        model: str = "resnet18",
        dim: int | None = None,
        weights: str | None = None,
        temporal_layers: int = 0,
        heads: int = 2,
        dropout: float = 0.1,
        chunk: int | None = 256,
    ) -> None:
        size = _picture_size("FrameEncoder", steps)
        network, features = image_network(model, weights, 3, size)
        super().__init__(steps, dim or features)
        config = network.pretrained_cfg
        self.pictures = Pictures(config["mean"], config["std"])  # type: ignore[index, arg-type] # a dict
        self.network = network
        self.project = projection(features, self.dim)
        self.temporal = Temporal(self.dim, temporal_layers, heads, dropout)
        self.chunk = chunk

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, T, 3, H, W) or (B, T, F, 3, H, W) to (B, T, dim); masked steps come out as zeros."""
        per_step = 1 if len(self.steps.shape) == 3 else self.steps.shape[0]
        frames = x.reshape(-1, *x.shape[-3:])
        real = mask.flatten().repeat_interleave(per_step)
        encoded = encode_real(self, self._encode, x=frames, real=real, dim=self.dim, chunk=self.chunk)
        return self.temporal(encoded.view(*mask.shape, per_step, self.dim).mean(dim=2), mask), mask

    def _encode(self, frames: Tensor) -> Tensor:
        encoded: Tensor = self.project(self.network(self.pictures(frames)))
        return encoded


class VideoEncoder(Encoder):
    """A video network of torchvision.

    Args:
        steps: of shape (3, H, W): all steps of a sample are one clip, encoded to one feature; or (F, 3, H, W): every
            step is a clip of F pictures with a feature of its own. `rate` is not read: the network was trained on 15
            pictures per second.
        model: name in torchvision; the released recipes use `r3d_18` (BioVid) and `r2plus1d_18` (Aff-Wild2).
        dim: feature size; None for the network's own 512, else a linear projection.
        weights: null for random, `pretrained` for torchvision's own (Kinetics-400), or the path of a `.safetensors` or
            `.pth` file.
        chunk: most clips at once where no gradients are recorded; null for all.
    """

    standardize = False

    def __init__(
        self,
        steps: Steps,
        model: Literal["r3d_18", "r2plus1d_18", "mc3_18"] = "r3d_18",
        dim: int | None = None,
        weights: str | None = None,
        chunk: int | None = 32,
    ) -> None:
        _picture_size("VideoEncoder", steps)
        super().__init__(steps, dim or 512)
        self.pictures = Pictures(*_KINETICS)
        self.network = video_network(model, weights)
        self.project = projection(512, self.dim)
        self.chunk = chunk

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, T, 3, H, W) to (B, 1, dim), or (B, T, F, 3, H, W) to (B, T, dim).

        Where all steps are one clip, a masked picture is replaced by the nearest earlier real one, or else by the next
        later; those after the last real one are dropped.
        """
        if len(self.steps.shape) == 4:
            encoded = encode_real(
                self, self._encode, x=x.flatten(0, 1), real=mask.flatten(), dim=self.dim, chunk=self.chunk
            )
            return encoded.view(*mask.shape, self.dim), mask
        samples = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
        filled = x[samples, nearest_real(mask)]
        return encode_sequences(self, self._encode, x=filled, mask=mask, dim=self.dim, chunk=self.chunk)

    def _encode(self, clips: Tensor) -> Tensor:
        encoded: Tensor = self.project(self.network(self.pictures(clips).transpose(1, 2)))
        return encoded


def projection(features: int, dim: int) -> nn.Module:
    """Linear layer from `features` to `dim`, or nothing where they are equal."""
    return nn.Identity() if features == dim else nn.Linear(features, dim)


def _picture_size(encoder: str, steps: Steps) -> tuple[int, int]:
    if len(steps.shape) not in (3, 4) or steps.shape[-3] != 3:
        raise ValueError(f"{encoder} reads pictures (3, H, W) or clips (F, 3, H, W), not steps of shape {steps.shape}")
    return steps.shape[-2], steps.shape[-1]
