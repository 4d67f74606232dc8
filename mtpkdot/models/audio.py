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

# The quietest sound that 16 bits can represent is at -96 dB.
_FLOOR_DB = -100.0


class LogMelEncoder(Encoder):
    """Encoder of sound: a network of timm on the log-mel spectrogram of every step, a picture with one channel.

    The spectrogram is in decibels relative to a full-scale sine, and -100..0 dB are mapped to -2..2, the range of a
    normalised picture. The mapping is fixed: normalising each spectrogram separately would hide the loudness of a voice
    and amplify the noise of silence.

    Args:
        steps: of shape (L,), L samples of sound in -1..1, at `rate` Hz.
        model: name in timm.
        dim: feature size; None for the network's own (512 for `resnet18`), else a linear projection if it differs.
        n_mels: number of mel bands.
        window_ms: window in milliseconds.
        hop_ms: hop in milliseconds; a step has `1 + L // hop` frames.
        f_min: lower edge of the bands in Hz.
        f_max: upper edge; None for half the rate.
        weights: None for random, `pretrained` for timm's own (for pictures, summed over the colours), or the path of a
            `.safetensors` or `.pth` file.
        temporal_layers: number of attention blocks over time; 0 encodes every step separately.
        heads: attention heads of these blocks.
        dropout: probability within these blocks.
        chunk: largest number of steps encoded at once while no gradients are recorded; None for all.

    Raises:
        ValueError: the steps are not sound with a known rate, or the bands or the window do not fit the rate.

    Example:
        >>> encoder = LogMelEncoder(Steps((1600,), rate=16000), model="test_resnet", n_mels=16, dim=8)
        >>> features, mask = encoder(torch.zeros(2, 3, 1600), torch.ones(2, 3, dtype=torch.bool))
        >>> features.shape
        torch.Size([2, 3, 8])
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
            raise ValueError("LogMelEncoder needs the rate of the sound in Hz, which the data do not give")
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
        # Makes the bins of a full-scale sine sum to 1 for every window and transform (Parseval).
        transform = spectrogram.spectrogram
        self.gain = 4.0 / (transform.n_fft * float(transform.window.square().sum()))
        self.network = network
        self.project = projection(features, self.dim)
        self.temporal = Temporal(self.dim, temporal_layers, heads, dropout)
        self.chunk = chunk

    def log_mel(self, sound: Tensor) -> Tensor:
        """Return log-mel spectrograms (N, 1, n_mels, frames), in about -2..2, of sound (N, L)."""
        # The power of quiet sound underflows in half precision.
        with torch.autocast(sound.device.type, enabled=False):
            power: Tensor = self.spectrogram(sound.float()).unsqueeze(1) * self.gain
            return decibels(power, _FLOOR_DB)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, T, L) to (B, T, dim), with zeros for masked steps."""
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

    # Low bands may be narrower than the bins of a short window; a longer transform of the same window has finer bins.
    n_fft = 1 << (window - 1).bit_length()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about empty bands, which the loop looks for
        while not bool((melscale_fbanks(n_fft // 2 + 1, f_min, f_max, n_mels, rate) > 0).any(dim=0).all()):
            n_fft *= 2
            if n_fft > 32 * window:
                raise ValueError(f"{n_mels} mel bands between {f_min:g} and {f_max:g} Hz are too narrow")
    return MelSpectrogram(
        rate, n_fft, window, hop, f_min=f_min, f_max=f_max, n_mels=n_mels, power=2.0, pad_mode="constant"
    )
