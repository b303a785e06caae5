"""What an app must do before and after the model: one typed contract, recorded at training.

It travels with every artifact and is embedded in every exported file, so that the app and the training agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Task = Literal[
    "classification",  # one class per example
    "regression",  # values
    "segmentation",  # one class per pixel
    "next-token",  # a language model
    "policy-value",  # the best move and who wins
    "reconstruction",  # the input again, through a bottleneck
    "anomaly-detection",  # how badly an input is reconstructed
    "generation",  # new examples from noise, in one step
    "denoising",  # the noise in an example: new examples in many steps
]


Resize = Literal["none", "stretch", "fit-pad", "center-crop"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "box"]


@dataclass(frozen=True)
class AudioFrontEnd:
    """What becomes of a sound before the model; `core.audio` says it to the coefficient.

    The waveform has `samples` values from -1 to 1 (`raw_range` of 16-bit PCM / 32768), one channel.
    features: "log-mel", "mfcc", or "waveform" (nothing below `align` applies then).
    align: where a shorter clip stands among zeros, and what a longer one is cut to.
    """

    sample_rate_hz: int
    samples: int
    align: Literal["start", "center"] = "center"
    features: Literal["log-mel", "mfcc", "waveform"] = "log-mel"
    window: int = 480
    hop: int = 320
    fft_length: int = 512
    mel_bins: int = 40
    low_hz: float = 20.0
    high_hz: float = 7600.0
    mel_scale: Literal["htk", "slaney"] = "htk"
    log_offset: float = 1e-6
    coefficients: int = 13

    @property
    def frames(self) -> int:
        """Windows that fit: 1 + ⌊(samples − window) / hop⌋."""
        return 1 + (self.samples - self.window) // self.hop

    @property
    def bins(self) -> int:
        """Values a frame."""
        return self.coefficients if self.features == "mfcc" else self.mel_bins


@dataclass(frozen=True)
class TextTokens:
    """How text becomes the model's integers; `core.text` does it.

    kind: "bytes" of UTF-8, or "wordpiece" (greedy longest match in `vocabulary`, as BERT).
    length: tokens a text is cut or padded to, at its end, with `padding_id`. lowercase: fold before matching.
    vocabulary: the tokens by their number.
    """

    kind: Literal["bytes", "wordpiece"]
    length: int
    vocabulary: tuple[str, ...]
    padding_id: int = 0
    unknown_id: int = 2
    lowercase: bool = False


@dataclass(frozen=True)
class InputContract:
    """One input of the model.

    The model takes `(raw - mean) / std`, element by element, as `dtype`; `mean` and `std` hold one value, or one
    per channel (last axis), or one per bin of a sound's features (frames, bins, 1). `raw` is what the app has:
    pixels, sensor readings, table columns; of a sound its features, of a text its tokens.

    shape: without the batch axis; images are height × width × channels.
    raw_range: smallest and largest raw value the training data promised (0, 255 for 8-bit pixels), or None.
    resize: how an image of another size becomes `shape`: "stretch" (aspect ratio not kept), "fit-pad" (the whole
        image, centred, on black), "center-crop" (the middle, filling the shape) or "none" (it has this size already).
    interpolation, antialias: by which filter, and whether it averages over all it covers when an image shrinks.
    audio, text: how a sound or a text becomes `raw`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    content: Literal["image", "features", "audio", "text"] = "features"
    color_space: Literal["grayscale", "rgb"] | None = None
    raw_range: tuple[float, float] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: Resize = "none"
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    feature_names: tuple[str, ...] = ()
    audio: AudioFrontEnd | None = None
    text: TextTokens | None = None

    def scaling(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`mean` and `std` as arrays that fit an input of this shape."""
        import numpy as np

        per_bin = self.audio is not None and self.shape[-1:] == (1,) and len(self.mean) > 1
        mean, std = (np.asarray(values, np.float64) for values in (self.mean, self.std))
        return (mean[:, None], std[:, None]) if per_bin else (mean, std)


@dataclass(frozen=True)
class OutputContract:
    """One output of the model.

    content: "probabilities" (softmax done in the model), "logits" (softmax left to the app) or "values".
    labels: for a classifier, the name of each element of the last axis.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    content: Literal["probabilities", "logits", "values"] = "values"
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoiseSchedule:
    """The variances β_1 … β_T that a diffusion model was trained with (Ho et al. 2020, §2): its sampler needs them.

    kind: "linear" from `first` to `last`, or "cosine" (Nichol & Dhariwal 2021, eq. 17; first and last unused).
    """

    kind: Literal["linear", "cosine"] = "linear"
    steps: int = 1000
    first: float = 1e-4
    last: float = 0.02


@dataclass(frozen=True)
class Contract:
    """All inputs and outputs, by the names that the exported signature uses.

    noise: of a denoiser.
    """

    task: Task
    inputs: tuple[InputContract, ...]
    outputs: tuple[OutputContract, ...]
    description: str = ""
    noise: NoiseSchedule | None = None
    notes: tuple[str, ...] = field(default=())
