"""What an app must do before and after the model: one typed contract, recorded at training.

It travels with every artifact and is embedded in every exported file, so that the app and the training agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

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


@dataclass(frozen=True)
class InputContract:
    """One input of the model.

    The model takes `(raw - mean) / std`, element by element, as `dtype`; `mean` and `std` hold one value, or one
    per channel (last axis). `raw` is what the app has: pixels, sensor readings, table columns.

    shape: without the batch axis; images are height × width × channels.
    raw_range: smallest and largest raw value the training data promised (0, 255 for 8-bit pixels), or None.
    resize: how an image of another size becomes `shape`: "stretch" (bilinear, aspect ratio not kept) or "none"
        (the data already has this size).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    content: Literal["image", "features"] = "features"
    color_space: Literal["grayscale", "rgb"] | None = None
    raw_range: tuple[float, float] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: Literal["none", "stretch"] = "none"
    feature_names: tuple[str, ...] = ()


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
