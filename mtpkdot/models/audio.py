"""Encoders of sound."""

import warnings
from typing import Any

import torch
from torch import Tensor

from mtpkdot.models.encoder import Encoder, Steps
from mtpkdot.models.masking import Temporal, encode_real
from mtpkdot.models.networks import image_network
from mtpkdot.models.signal import decibels
from mtpkdot.models.visual import projection

# The quietest sound that 16 bits can hold lies at -96 dB.
_FLOOR_DB = -100.0


class LogMelEncoder(Encoder):
    """Log-mel spectrogram of every step, read by a network of timm as a picture with one channel.

    The spectrogram is in decibels against a sine of full scale, and -100..0 dB become -2..2, the range of a normalised
    picture. This mapping is fixed: normalising every spectrogram by itself would hide how loud a voice is and turn the
    noise of silence into a picture.

    Args:
        steps: of shape (L,), L samples of sound in -1..1, at `rate` Hz.
        model: name in timm.
        dim: feature size; None for the network's own (512 for `resnet18`), else a linear projection if it differs.
        n_mels: mel bands.
        window_ms: window in milliseconds.
        hop_ms: hop in milliseconds; a step has `1 + L // hop` frames.
        f_min: lower edge of the bands in Hz.
        f_max: upper edge; None for half the rate.
        weights: null for random, `pretrained` for timm's own (of pictures, summed over the colours), or the path of a
            `.safetensors` or `.pth` file.
        temporal_layers: attention blocks over time; 0 treats the steps one by one.
        heads: attention heads of these blocks.
        dropout: probability within these blocks.
        chunk: most steps at once where no gradients are recorded; null for all.
    """

    standardize = False

    def __init__(
        self,
        steps: Steps,
        model: str = "resnet18",
        dim: int | None = None,
        n_mels: int = 64,
        window_ms: float = 20.0,
        hop_ms: float = 10.0,
        f_min: float = 0.0,
        f_max: float | None = None,
        weights: str | None = None,
        temporal_layers: int = 0,
        heads: int = 2,
        dropout: float = 0.1,
        chunk: int | None = 256,
    ) -> None:
        if len(steps.shape) != 1:
            raise ValueError(f"LogMelEncoder reads sound (L,), not steps of shape {steps.shape}")
        if steps.rate is None:
            raise ValueError("LogMelEncoder needs the rate of the sound in Hz, and the data does not tell it")
        rate, high = round(steps.rate), f_max or steps.rate / 2
        if not 0 <= f_min < high <= steps.rate / 2:
            raise ValueError(f"the bands {f_min}..{high} Hz do not lie between 0 and half the rate {steps.rate:g} Hz")
        window, hop = round(steps.rate * window_ms / 1000), round(steps.rate * hop_ms / 1000)
        if window < 2 or hop < 1:
            raise ValueError(f"at {steps.rate:g} Hz a window of {window_ms} ms or a hop of {hop_ms} ms is too short")
        spectrogram: Any = _mel_spectrogram(rate, window, hop=hop, n_mels=n_mels, f_min=f_min, f_max=high)
        network, features = image_network(model, weights, 1, (n_mels, 1 + steps.shape[0] // hop))
        super().__init__(steps, dim or features)
        self.spectrogram = spectrogram
        # With it the bins of a sine of full scale add up to 1, whatever the window and the transform (Parseval).
        transform = spectrogram.spectrogram
        self.gain = 4.0 / (transform.n_fft * float(transform.window.square().sum()))
        self.network = network
        self.project = projection(features, self.dim)
        self.temporal = Temporal(self.dim, temporal_layers, heads, dropout)
        self.chunk = chunk

    def log_mel(self, sound: Tensor) -> Tensor:
        """Log-mel spectrograms (N, 1, n_mels, frames) in about -2..2 of sound (N, L)."""
        # Squares of quiet sounds vanish in half precision.
        with torch.autocast(sound.device.type, enabled=False):
            power: Tensor = self.spectrogram(sound.float()).unsqueeze(1) * self.gain
            return decibels(power, _FLOOR_DB)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, T, L) to (B, T, dim); masked steps come out as zeros."""
        encoded = encode_real(
            self, self._encode, x=x.flatten(0, 1), real=mask.flatten(), dim=self.dim, chunk=self.chunk
        )
        return self.temporal(encoded.view(*mask.shape, self.dim), mask), mask

    def _encode(self, sound: Tensor) -> Tensor:
        encoded: Tensor = self.project(self.network(self.log_mel(sound)))
        return encoded


def _mel_spectrogram(rate: int, window: int, hop: int, n_mels: int, f_min: float, f_max: float) -> Any:
    from torchaudio.functional import melscale_fbanks  # type: ignore[import-untyped]
    from torchaudio.transforms import MelSpectrogram  # type: ignore[import-untyped]

    # Low bands are narrower than the bins of a short window; a longer transform of the same window fills them.
    n_fft = 1 << (window - 1).bit_length()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the empty bands that are looked for
        while not bool((melscale_fbanks(n_fft // 2 + 1, f_min, f_max, n_mels, rate) > 0).any(dim=0).all()):
            n_fft *= 2
            if n_fft > 32 * window:
                raise ValueError(f"{n_mels} mel bands between {f_min:g} and {f_max:g} Hz are too narrow")
    return MelSpectrogram(
        rate, n_fft, window, hop, f_min=f_min, f_max=f_max, n_mels=n_mels, power=2.0, pad_mode="constant"
    )
