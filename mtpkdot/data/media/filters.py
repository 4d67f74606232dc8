"""Zero-phase filters for recorded signals; frequencies are in Hz."""

import numpy as np
from numpy.typing import NDArray

Sections = NDArray[np.float64]
"""Second-order sections (n, 6), as scipy.signal has them."""


def design_filter(rate: float, highpass: float | None = None, lowpass: float | None = None, order: int = 4) -> Sections:
    """Design a Butterworth filter.

    Args:
        rate: sampling rate in Hz.
        highpass: lower edge in Hz; None for none.
        lowpass: upper edge in Hz; None for none. With both edges the filter is a band-pass.
        order: order of one pass; `clean` filters forwards and backwards, which squares the gain (-6 dB at the edges).

    Raises:
        ValueError: both edges are None, or they are not in order between 0 and half the rate.
    """
    from scipy.signal import butter

    if highpass is None and lowpass is None:
        raise ValueError("a filter needs an edge: `highpass`, `lowpass` or both")
    for name, edge in (("highpass", highpass), ("lowpass", lowpass)):
        _check_frequency(name, edge, rate)
    if order < 1:
        raise ValueError(f"the order of a filter must be at least 1, not {order}")
    if highpass is not None and lowpass is not None:
        if highpass >= lowpass:
            raise ValueError(f"the filter lets nothing through: highpass {highpass:g} Hz, lowpass {lowpass:g} Hz")
        return np.asarray(butter(order, (highpass, lowpass), "bandpass", fs=rate, output="sos"))
    if highpass is not None:
        return np.asarray(butter(order, highpass, "highpass", fs=rate, output="sos"))
    return np.asarray(butter(order, lowpass, "lowpass", fs=rate, output="sos"))


def design_notch(rate: float, notch: float, quality: float = 30.0) -> Sections:
    """Design a filter that removes one frequency, such as the 50 or 60 Hz of the mains.

    Args:
        rate: sampling rate in Hz.
        notch: frequency to remove in Hz.
        quality: ratio of the frequency and the width of the gap at -3 dB.

    Raises:
        ValueError: `notch` does not lie between 0 and half the rate.
    """
    from scipy.signal import iirnotch, tf2sos

    _check_frequency("notch", notch, rate)
    return np.asarray(tf2sos(*iirnotch(notch, quality, fs=rate)))


def clean(
    signal: NDArray[np.floating],
    rate: float,
    highpass: float | None = None,
    lowpass: float | None = None,
    notch: float | None = None,
    order: int = 4,
) -> NDArray[np.float32]:
    """Filter a recording forwards and backwards, so that nothing is shifted in time.

    Args:
        signal: (n, C) samples of C channels. Missing samples (NaN) stay missing; the filter reads a straight line
            across them, since one of them would otherwise erase its whole channel.
        rate: sampling rate in Hz.
        highpass: lower edge in Hz, or None.
        lowpass: upper edge in Hz, or None.
        notch: frequency to remove in Hz, or None.
        order: order of the Butterworth filter.

    Returns:
        (n, C). Without any filter this is the signal itself.

    Raises:
        ValueError: `signal` is no (n, C) array or holds infinite values, or a frequency does not fit the rate.
    """
    from scipy.signal import sosfiltfilt

    samples = np.array(signal, dtype=np.float64)
    if samples.ndim != 2:
        raise ValueError(f"a signal must be an array (samples, channels), not one of shape {samples.shape}")
    if np.isinf(samples).any():
        raise ValueError("the signal holds infinite values")
    filters = []
    if highpass is not None or lowpass is not None:
        filters.append(design_filter(rate, highpass, lowpass, order))
    if notch is not None:
        filters.append(design_notch(rate, notch))
    missing = np.isnan(samples)
    _bridge(samples, missing)
    for sections in filters if len(samples) else []:
        # Padding of scipy, as far as a short recording can be mirrored.
        padding = min(3 * (2 * len(sections) + 1), len(samples) - 1)
        samples = sosfiltfilt(sections, samples, axis=0, padlen=padding)
    samples[missing] = np.nan
    return samples.astype(np.float32)


def _bridge(samples: NDArray[np.float64], missing: NDArray[np.bool_]) -> None:
    """Replace missing samples by straight lines, in place; a channel without any sample by zeros."""
    positions = np.arange(len(samples))
    for channel in np.flatnonzero(missing.any(axis=0)):
        gap = missing[:, channel]
        known = samples[~gap, channel]
        samples[gap, channel] = np.interp(positions[gap], positions[~gap], known) if len(known) else 0.0


def _check_frequency(name: str, frequency: float | None, rate: float) -> None:
    if not (np.isfinite(rate) and rate > 0):
        raise ValueError(f"the rate {rate} Hz is not a sampling rate")
    if frequency is not None and not 0 < frequency < rate / 2:
        raise ValueError(f"{name} {frequency:g} Hz does not lie between 0 and {rate / 2:g} Hz, half the rate")
