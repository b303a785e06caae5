"""WAV files as waveforms of one rate, one channel and one length."""

from __future__ import annotations

import io
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.contract import AudioFrontEnd


def read_wav(content: bytes) -> tuple[int, NDArray[np.float32]]:
    """Sampling rate in Hz and samples (n,) from −1 to 1 of a WAV file: PCM of 8, 16, 24 or 32 bits, or float.

    Integers are divided by their range's upper end (2^15 for 16 bits); channels are averaged.
    Raises ValueError when the file is no such WAV, or cut off.
    """
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Chunk .non-data. not understood")
            warnings.filterwarnings("error", message="Reached EOF prematurely")
            rate, samples = wavfile.read(io.BytesIO(content))
    except wavfile.WavFileWarning as warning:
        raise ValueError("it ends before its last sample") from warning
    except ValueError:
        raise
    except Exception as error:  # SciPy's reader fails in many ways on damaged headers
        raise ValueError(f"damaged header ({type(error).__name__})") from error
    wave = _as_float(np.asarray(samples))
    wave = wave.mean(axis=1) if wave.ndim == 2 else wave
    if not len(wave) or rate <= 0:
        raise ValueError("it has no samples")
    if not np.isfinite(wave).all():
        raise ValueError("it has samples that are not finite")
    return int(rate), wave.astype(np.float32)


def _as_float(samples: NDArray[Any]) -> NDArray[np.float64]:
    match samples.dtype.kind:
        case "u":
            return (samples.astype(np.float64) - 128.0) / 128.0
        case "i":  # SciPy gives 24 bits as the upper ones of 32
            return samples / -float(np.iinfo(samples.dtype).min)
        case _:
            return samples.astype(np.float64)


def resampled(wave: NDArray[np.float32], rate_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Another sampling rate by polyphase filtering: SciPy's `resample_poly`, whose low-pass is a Kaiser window, β 5."""
    if rate_hz == to_hz:
        return wave
    from scipy.signal import resample_poly

    ratio = Fraction(to_hz, rate_hz)
    found: Any = resample_poly(wave.astype(np.float64), ratio.numerator, ratio.denominator)
    return found.astype(np.float32)


def fixed_length(wave: NDArray[np.float32], front_end: AudioFrontEnd) -> NDArray[np.float32]:
    """Exactly `samples` values: zeros around a short clip, the middle (or the start) of a long one."""
    length, n = front_end.samples, len(wave)
    centred = front_end.align == "center"
    if n >= length:
        start = (n - length) // 2 if centred else 0
        return wave[start : start + length]
    before = (length - n) // 2 if centred else 0
    return np.pad(wave, (before, length - n - before))
