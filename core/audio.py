"""Sound features, to the coefficient: the reference that the Keras layer and the C file are compared with.

For a clip x[0 … samples) with values from −1 to 1, and frame k = 0 … frames:

1. windows        x[k·hop + n] · w[n],  w[n] = 0.5 − 0.5·cos(2πn / window),  n = 0 … window (Hann, periodic);
                  only whole windows: nothing is padded at the clip's ends
2. power          P[f] = |Σ_n … e^(−2πi·f·n / fft_length)|²,  f = 0 … fft_length/2; not divided by anything
3. mel bands      E[m] = Σ_f M[f, m]·P[f]: triangles over Hz, corners evenly spaced in mel from low_hz to high_hz.
                  htk: mel = 2595·log₁₀(1 + hz/700), triangles of height 1 (O'Shaughnessy 1987; HTK book, eq. 5.13);
                  slaney: 200/3 Hz a mel below 1000 Hz, then 27 mels a factor of 6.4, triangles of area 1
                  (Slaney 1998, Auditory Toolbox). These are librosa's `htk=True, norm=None` and its default.
4. log-mel        ln(E[m] + log_offset)
5. mfcc           DCT-II of 4, orthonormal, the first `coefficients`:
                  D[m, c] = s_c·√(2/mel_bins)·cos(πc(m + ½)/mel_bins), s_0 = √½, else 1;
                  no liftering (Davis & Mermelstein 1980)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedl.core.contract import AudioFrontEnd

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SLANEY_HZ_PER_MEL = 200.0 / 3
_SLANEY_KNEE_HZ = 1000.0
_SLANEY_STEP = 0.06875177742094912  # ln(6.4) / 27


@dataclass(frozen=True)
class Tables:
    """The coefficients. window (window,), mel (fft_length/2 + 1, mel_bins), dct (mel_bins, coefficients); float64."""

    window: NDArray[np.float64]
    mel: NDArray[np.float64]
    dct: NDArray[np.float64]


def tables(front_end: AudioFrontEnd) -> Tables:
    """Steps 1, 3 and 5 of this front end."""
    import numpy as np

    n = np.arange(front_end.window)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / front_end.window)
    m, c = np.arange(front_end.mel_bins)[:, None], np.arange(front_end.coefficients)[None]
    dct = np.sqrt(2 / front_end.mel_bins) * np.cos(np.pi * c * (m + 0.5) / front_end.mel_bins)
    dct[:, 0] *= np.sqrt(0.5)
    return Tables(window, _mel_filters(front_end), dct)


def empty_bands(front_end: AudioFrontEnd) -> list[int]:
    """Mel bands so narrow that no frequency of the transform falls into them: their feature never changes."""
    return [int(m) for m in (_mel_filters(front_end).sum(axis=0) == 0).nonzero()[0]]


def features(front_end: AudioFrontEnd, waves: NDArray[Any]) -> NDArray[np.float32]:
    """Features (n, frames, bins) of waves (n, samples); the waves themselves, (n, samples, 1), for "waveform"."""
    import numpy as np

    if front_end.features == "waveform":
        return waves[..., None].astype(np.float32)
    found = np.log(mel_power(front_end, waves) + front_end.log_offset)
    if front_end.features == "mfcc":
        found = found @ tables(front_end).dct
    return found.astype(np.float32)


def mel_power(front_end: AudioFrontEnd, waves: NDArray[Any]) -> NDArray[np.float64]:
    """E[m] of step 3, shape (n, frames, mel_bins), of waves (n, at least `window` samples)."""
    import numpy as np

    coefficients = tables(front_end)
    windows = np.lib.stride_tricks.sliding_window_view(waves.astype(np.float64), front_end.window, axis=-1)
    spectra = np.fft.rfft(windows[:, :: front_end.hop] * coefficients.window, front_end.fft_length)
    return (spectra.real**2 + spectra.imag**2) @ coefficients.mel


def _mel_filters(front_end: AudioFrontEnd) -> NDArray[np.float64]:
    import numpy as np

    to_mel, to_hz = (_hz_to_htk, _htk_to_hz) if front_end.mel_scale == "htk" else (_hz_to_slaney, _slaney_to_hz)
    ends = to_mel(np.array([front_end.low_hz, front_end.high_hz]))
    mels: NDArray[np.float64] = np.linspace(float(ends[0]), float(ends[1]), front_end.mel_bins + 2)
    corners = to_hz(mels)
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    hz = np.arange(front_end.fft_length // 2 + 1)[:, None] * front_end.sample_rate_hz / front_end.fft_length
    filters = np.maximum(0.0, np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)))
    return filters if front_end.mel_scale == "htk" else filters * (2.0 / (high - low))


def _hz_to_htk(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return 2595.0 * np.log10(1.0 + hz / 700.0)


def _htk_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def _hz_to_slaney(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    knee = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL
    above = knee + np.log(np.maximum(hz, _SLANEY_KNEE_HZ) / _SLANEY_KNEE_HZ) / _SLANEY_STEP
    return np.where(hz < _SLANEY_KNEE_HZ, hz / _SLANEY_HZ_PER_MEL, above)


def _slaney_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    knee = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL
    above = _SLANEY_KNEE_HZ * np.exp(_SLANEY_STEP * (np.maximum(mel, knee) - knee))
    return np.where(mel < knee, mel * _SLANEY_HZ_PER_MEL, above)
