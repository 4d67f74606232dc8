"""Encoders of pictures and video: (3, H, W) per step, or a clip of F pictures (F, 3, H, W) per step.

Pictures have values in 0..255, uint8 or float. The encoders scale and normalise them as in the training of the network.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mtpkdot.models.encoder import Encoder, Steps
from mtpkdot.models.masking import Temporal, encode_real, encode_sequences, nearest_real
from mtpkdot.models.networks import image_network, video_network

# Statistics of Kinetics-400, which the video networks of torchvision were trained on.
_KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))


class Pictures(nn.Module):
    """Normalisation of pictures in 0..255 to the range that a network was trained on.

    Args:
        mean: mean per colour, for pictures in 0..1.
        scale: standard deviation per colour, for pictures in 0..1.
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
    """Encoder of pictures: a network of timm for every picture, optionally with attention over time.

    Args:
        steps: of shape (3, H, W), or (F, 3, H, W), whose feature is the mean over the F pictures.
        model: name in timm.
        dim: feature size; None for the network's own (512 for `resnet18`), else a linear projection if it differs.
        weights: None for random, `pretrained` for timm's own, or the path of a `.safetensors` or `.pth` file.
        temporal_layers: number of attention blocks over time; 0 encodes every step separately.
        heads: attention heads of these blocks.
        dropout: probability within these blocks.
        chunk: largest number of pictures encoded at once while no gradients are recorded; None for all.

    Example:
        >>> encoder = FrameEncoder(Steps((3, 32, 32)), model="test_resnet", dim=8)
        >>> pictures = torch.zeros(2, 5, 3, 32, 32, dtype=torch.uint8)
        >>> encoder(pictures, torch.ones(2, 5, dtype=torch.bool))[0].shape
        torch.Size([2, 5, 8])
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
        """Encode (B, T, 3, H, W) or (B, T, F, 3, H, W) to (B, T, dim), with zeros for masked steps."""
        per_step = 1 if len(self.steps.shape) == 3 else self.steps.shape[0]
        frames = x.reshape(-1, *x.shape[-3:])
        real = mask.flatten().repeat_interleave(per_step)
        encoded = encode_real(self, self._encode, x=frames, real=real, dim=self.dim, chunk=self.chunk)
        return self.temporal(encoded.view(*mask.shape, per_step, self.dim).mean(dim=2), mask), mask

    def _encode(self, frames: Tensor) -> Tensor:
        encoded: Tensor = self.project(self.network(self.pictures(frames)))
        return encoded


class VideoEncoder(Encoder):
    """Encoder of video by a video network of torchvision.

    Args:
        steps: of shape (3, H, W), all steps of a sample being one clip, encoded to one feature; or (F, 3, H, W), every
            step being a clip of F pictures with its own feature. `rate` is not used; the networks were trained on 15
            pictures per second.
        model: name in torchvision; the released recipes use `r3d_18` (BioVid) and `r2plus1d_18` (Aff-Wild2).
        dim: feature size; None for the network's own 512, else a linear projection.
        weights: None for random, `pretrained` for torchvision's own (Kinetics-400), or the path of a `.safetensors` or
            `.pth` file.
        chunk: largest number of clips encoded at once while no gradients are recorded; None for all.

    Example:
        >>> encoder = VideoEncoder(Steps((3, 16, 16)), dim=8)
        >>> features, mask = encoder(torch.zeros(2, 4, 3, 16, 16), torch.ones(2, 4, dtype=torch.bool))
        >>> features.shape, mask.shape
        (torch.Size([2, 1, 8]), torch.Size([2, 1]))
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

        If all steps are one clip, a masked picture is replaced by the last real one before it, or else by the first
        after it; masked pictures after the last real one are dropped.
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
    """Return a linear layer from `features` to `dim`, or the identity if they are equal."""
    return nn.Identity() if features == dim else nn.Linear(features, dim)


def _picture_size(encoder: str, steps: Steps) -> tuple[int, int]:
    if len(steps.shape) not in (3, 4) or steps.shape[-3] != 3:
        raise ValueError(f"{encoder} reads pictures (3, H, W) or clips (F, 3, H, W), not steps of shape {steps.shape}")
    return steps.shape[-2], steps.shape[-1]
