"""Encoders of standardised signals: T samples of C channels, or steps that are pieces of L samples."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtpkdot.models.encoder import Encoder, Steps
from mtpkdot.models.masking import encode_real, encode_sequences
from mtpkdot.models.networks import image_network
from mtpkdot.models.visual import projection

# A standardised signal is clipped at 10 standard deviations; 80 dB below one standard deviation is noise.
_FLOOR_DB = -80.0


def decibels(power: Tensor, floor: float) -> Tensor:
    """Return power in decibels, with `floor`..0 dB mapped linearly to -2..2, the range of a normalised picture.

    Args:
        power: power of any shape, not negative.
        floor: lower limit in decibels, negative; lower values, silence included, become -2.
    """
    level = 10.0 * power.clamp_min(10.0 ** (floor / 10.0)).log10()
    return 2.0 - 4.0 * level / floor


class SpectrogramEncoder(Encoder):
    """Encoder of signals: a network of timm on the log-magnitude spectrogram, a picture with C channels.

    The released recipe (BioVid, 512 Hz) has 65 bins by 127 frames of 3 s of one channel: `n_fft: 128`, `window: 16`,
    `hop: 12`, `centre: false`. It uses a spectral density with a Tukey window; here it is decibels with a Hann window.

    Args:
        steps: of shape (C,), samples at `rate` Hz; or (L, C), pieces of L samples, each of which gets a feature.
        model: name in timm; it must accept pictures of any size.
        dim: feature size; None for the network's own (512 for `resnet18`), else a linear projection if it differs.
        window_ms: window in milliseconds, if `n_fft` is not given.
        hop_ms: hop in milliseconds, if `hop` is not given; None for a quarter of the window.
        n_fft: length of the transform in samples, in place of `window_ms`; there are `n_fft // 2 + 1` bins.
        window: length of the window in samples, padded with zeros to `n_fft`; None for `n_fft`.
        hop: hop in samples, in place of `hop_ms`.
        centre: True to centre windows on every `hop`-th of T samples, in `1 + T // hop` frames, with silence beyond the
            ends; False to keep them within the signal, in `1 + (T - window) // hop` frames.
        weights: None for random, `pretrained` for timm's own (for pictures, adapted to C channels), or the path of a
            `.safetensors` or `.pth` file.
        chunk: largest number of signals encoded at once while no gradients are recorded; None for all.

    Example:
        >>> encoder = SpectrogramEncoder(Steps((1,), rate=64.0), model="test_resnet", dim=8, n_fft=32)
        >>> features, mask = encoder(torch.zeros(2, 256, 1), torch.ones(2, 256, dtype=torch.bool))
        >>> features.shape, mask.shape
        (torch.Size([2, 1, 8]), torch.Size([2, 1]))
    """

    window: Tensor

    def __init__(
        self,
        steps: Steps,
        model: str = "resnet18",
        dim: int | None = None,
        window_ms: float = 250.0,
        hop_ms: float | None = None,
        n_fft: int | None = None,
        window: int | None = None,
        hop: int | None = None,
        centre: bool = True,
        weights: str | None = None,
        chunk: int | None = 256,
    ) -> None:
        _check_signals("SpectrogramEncoder", steps)
        samples = n_fft or _samples(steps, window_ms, "n_fft")
        length = window or samples
        hop = hop or (_samples(steps, hop_ms, "hop") if hop_ms else max(1, length // 4))
        if not 2 <= length <= samples:
            raise ValueError(f"a window of {length} samples is too short, or longer than a transform of {samples}")
        network, features = image_network(model, weights, steps.shape[-1])
        super().__init__(steps, dim or features)
        self.n_fft, self.hop, self.centre, self.chunk = samples, hop, centre, chunk
        self.register_buffer("window", torch.hann_window(length))
        self.network = network
        self.project = projection(features, self.dim)

    def spectrogram(self, signal: Tensor) -> Tensor:
        """Return spectrograms (N, C, n_fft // 2 + 1, frames), in about -2..2, of signals (N, T, C).

        0 dB corresponds to a sine with an amplitude of one standard deviation of the signal.
        """
        # The transform needs complex numbers, which half precision does not have.
        with torch.autocast(signal.device.type, enabled=False):
            rows = signal.float().transpose(1, 2).flatten(0, 1)
            length = len(self.window)
            if not self.centre:
                # The transform pads its window on both sides; a signal shorter than the window is padded here.
                before = (self.n_fft - length) // 2
                behind = self.n_fft - length - before + max(0, length - rows.shape[1])
                rows = F.pad(rows, (before, behind))
            bins = torch.stft(
                rows,
                self.n_fft,
                self.hop,
                length,
                self.window,
                center=self.centre,
                pad_mode="constant",
                return_complex=True,
            )
            # From real and imaginary part: the gradient of a magnitude is not defined in silence.
            power = torch.view_as_real(bins).square().sum(dim=-1) * (2.0 / self.window.sum()) ** 2
            return decibels(power, _FLOOR_DB).view(signal.shape[0], signal.shape[2], *power.shape[1:])

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, T, C) to (B, 1, dim), and steps (B, T, L, C) to (B, T, dim).

        Masked samples count as 0; those after the last real one are dropped.
        """
        if len(self.steps.shape) == 2:
            encoded = encode_real(
                self, self._encode, x=x.flatten(0, 1), real=mask.flatten(), dim=self.dim, chunk=self.chunk
            )
            return encoded.view(*mask.shape, self.dim), mask
        return encode_sequences(self, self._encode, x=_real(x, mask), mask=mask, dim=self.dim, chunk=self.chunk)

    def _encode(self, signal: Tensor) -> Tensor:
        encoded: Tensor = self.project(self.network(self.spectrogram(signal)))
        return encoded


class SignalEncoder(Encoder):
    """Encoder of signals by strided 1-D convolutions over time, each with normalisation over channels and GELU.

    Args:
        steps: of shape (C,), samples of a signal; or (L, C), pieces of L samples, each of which gets a feature, the
            mean over its time.
        channels: output channels of the layers.
        kernel: kernel size of a layer, odd and at least `2 * stride - 1`.
        stride: factor by which every layer shortens the sequence: 3 layers of stride 4 turn 512 Hz into 8 Hz.
        dim: feature size.
        dropout: probability after every layer.

    Example:
        >>> encoder = SignalEncoder(Steps((1,), rate=512.0), dim=8)
        >>> features, mask = encoder(torch.zeros(2, 512, 1), torch.ones(2, 512, dtype=torch.bool))
        >>> features.shape, mask.shape
        (torch.Size([2, 8, 8]), torch.Size([2, 8]))
    """

    def __init__(
        self,
        steps: Steps,
        channels: Sequence[int] = (32, 64, 128),
        kernel: int = 7,
        stride: int = 4,
        dim: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(steps, dim)
        _check_signals("SignalEncoder", steps)
        if not channels or kernel % 2 == 0 or kernel < 2 * stride - 1:
            raise ValueError(
                f"SignalEncoder needs layers with an odd kernel of at least 2 * stride - 1 (here {2 * stride - 1}), "
                f"not {len(channels)} layers with kernel {kernel}"
            )
        self.stride = stride
        sizes = [steps.shape[-1], *channels]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(size, following, kernel, stride, padding=kernel // 2) for size, following in pairwise(sizes)
        )
        # Over the channels of one step, since statistics over time would include the padding.
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in channels)
        self.dropout = nn.Dropout(dropout)
        self.project = projection(sizes[-1], dim)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, T, C) to (B, T', dim); each layer divides the length by the stride and rounds up.

        A reduced step is real if any of the steps that it covers is. Masked steps are 0 for every layer. Steps
        (B, T, L, C) are encoded separately, to (B, T, dim).
        """
        if len(self.steps.shape) == 2:
            pieces = mask.flatten().unsqueeze(1).expand(-1, x.shape[2])
            feature = self._encode(x.flatten(0, 1), pieces)[0].mean(dim=1)
            return _real(feature.view(*mask.shape, self.dim), mask), mask
        return self._encode(x, mask)

    def _encode(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = _real(x, mask)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(convolution(x.transpose(1, 2)).transpose(1, 2))
            mask = _reduced(mask, self.stride, x.shape[1])
            x = _real(self.dropout(F.gelu(x)), mask)
        return _real(self.project(x), mask), mask


def _reduced(mask: Tensor, stride: int, length: int) -> Tensor:
    """Return which of `length` reduced steps cover a real one; by a size that an exported network need not guess."""
    covered = torch.arange(stride * length, device=mask.device)
    real = mask[:, covered.clamp_max(mask.shape[1] - 1)] & (covered < mask.shape[1])
    return real.view(mask.shape[0], length, stride).any(dim=2)


def _real(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask.unsqueeze(2), x, 0.0)


def _check_signals(encoder: str, steps: Steps) -> None:
    if len(steps.shape) not in (1, 2):
        raise ValueError(f"{encoder} reads signals (C,) or pieces of them (L, C), not steps of shape {steps.shape}")


def _samples(steps: Steps, milliseconds: float, instead: str) -> int:
    if steps.rate is None:
        raise ValueError(f"the data do not give the rate of the signal: set `{instead}` in samples")
    return max(1, round(steps.rate * milliseconds / 1000.0))
