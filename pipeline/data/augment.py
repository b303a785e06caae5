"""Augmentation: a pure function from one batch and a seed to another batch.

Flips, shifts and rotations as in Krizhevsky et al. 2012 ("ImageNet Classification with Deep CNNs", section 4.1) and
Simard et al. 2003 ("Best Practices for CNNs Applied to Visual Document Analysis"); noise as in Bishop 1995 ("Training
with Noise is Equivalent to Tikhonov Regularization"); mixup as in Zhang et al. 2018 ("mixup: Beyond Empirical Risk
Minimization", equation 1). Of sounds: masks as in Park et al. 2019 ("SpecAugment", arXiv:1904.08779, section 2), and
noise that is added where it costs no new features (`_add_background`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from edgedl.core import audio
from edgedl.core.config import InputPath
from edgedl.core.contract import InputContract
from edgedl.core.errors import ConfigError, DataError
from edgedl.pipeline.data.base import Section
from edgedl.pipeline.data.files import file_tree
from edgedl.pipeline.data.sound import read_wav, resampled

if TYPE_CHECKING:
    import tensorflow as tf


class SpecAugment(Section):
    """Bands of time and of frequency set to the mean (Park et al. 2019; without time warping, which helps little)."""

    time_masks: int = Field(default=2, ge=0, description="How many.")
    time_width: float = Field(default=0.15, gt=0.0, le=1.0, description="Each up to this fraction of the frames.")
    frequency_masks: int = Field(default=2, ge=0, description="How many.")
    frequency_width: float = Field(default=0.15, gt=0.0, le=1.0, description="Each up to this fraction of the bins.")


class Background(Section):
    """Noise in the background of sounds."""

    folder: InputPath | None = Field(
        default=None, description="WAV files of noise (folder or zip); by default white Gaussian noise."
    )
    snr_db: tuple[float, float] = Field(
        default=(5.0, 25.0), description="Lowest and highest signal-to-noise ratio, drawn evenly for each example."
    )
    share: float = Field(default=0.5, gt=0.0, le=1.0, description="Of the examples that get it.")

    @model_validator(mode="after")
    def _in_order(self) -> Background:
        if self.snr_db[0] > self.snr_db[1]:
            raise ConfigError("augment.background.snr_db", required="[lowest, highest]", received=str(self.snr_db))
        return self


class Augment(Section):
    """Random changes to the training examples. All off by default; drawn anew for each example."""

    flip: Literal["horizontal", "vertical", "both"] | None = Field(
        default=None, description="Mirror half of the images left-right, top-bottom, or each of them independently."
    )
    shift: float = Field(default=0.0, ge=0.0, lt=1.0, description="Move by up to this fraction of height and width.")
    rotate: float = Field(default=0.0, ge=0.0, le=180.0, description="Rotate by up to this many degrees, either way.")
    noise: float = Field(
        default=0.0, ge=0.0, description="Add Gaussian noise of this standard deviation to the normalised inputs."
    )
    mixup: float = Field(
        default=0.0,
        ge=0.0,
        description="Mix pairs of examples and targets, in shares from Beta(mixup, mixup); 0.2 is usual.",
    )
    time_shift: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Sounds: move by up to this fraction of the clip; silence comes in."
    )
    gain_db: float = Field(
        default=0.0, ge=0.0, description="Sounds: louder or softer by up to so many decibels, as other microphones."
    )
    background: Background | None = Field(default=None, description="Sounds: add noise.")
    spec_augment: SpecAugment | None = Field(default=None, description="Sounds: mask bands of time and frequency.")


def check_augment(augment: Augment, contract: InputContract) -> None:
    """Raise ConfigError if something is asked that makes no sense for the input."""
    kinds = {
        "images": (("flip", "shift", "rotate"), contract.content == "image"),
        "sounds": (("time_shift", "gain_db", "background", "spec_augment"), contract.content == "audio"),
        "numbers": (("noise", "mixup"), contract.dtype.startswith("float")),
    }
    for kind, (names, fits) in kinds.items():
        if (asked := [name for name in names if getattr(augment, name)]) and not fits:
            raise ConfigError(
                f"augment.{asked[0]} is for {kind}",
                required="none for this data" if kind == "numbers" else "augment.noise or augment.mixup for this data",
                received=f"inputs of shape {contract.shape} ({contract.content})",
                advice=f"Remove {' and '.join(asked)} from train.augment",
            )
    features = contract.audio.features if contract.audio else None
    if (augment.background or augment.gain_db) and features == "mfcc":
        raise ConfigError(
            f"augment.{'background' if augment.background else 'gain_db'} needs the bands' power, which MFCC have lost",
            required="data.features: log-mel, or none",
            received="mfcc",
        )
    if augment.spec_augment and features == "waveform":
        raise ConfigError("augment.spec_augment masks features", required="log-mel or mfcc", received="the waveform")


def augment_batch(
    inputs: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor | None,
    *,
    augment: Augment,
    contract: InputContract,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Change a batch at random; the same seed, the same change.

    inputs: (b, *shape) float32, normalised. targets: (b, k) float32, one-hot or values. weights: (b,) float32.
    seed: (2,) int32. All shapes stay as they are. What a shift or rotation uncovers is black (`raw_range[0]`).
    """
    import tensorflow as tf

    seeds = [fold_in(seed, use) for use in range(8)]
    if augment.flip:
        inputs = _flip(inputs, augment.flip, seeds[0])
    if augment.shift or augment.rotate:
        inputs = _move(inputs, augment.shift, math.radians(augment.rotate), contract, seeds[1])
    if augment.time_shift:
        inputs = _shift_in_time(inputs, augment.time_shift, contract, seeds[4])
    if augment.gain_db:
        inputs = _louder_or_softer(inputs, augment.gain_db, contract, seeds[7])
    if augment.background:
        inputs = _add_background(inputs, augment.background, contract, seeds[5])
    if augment.spec_augment:
        inputs = _mask(inputs, augment.spec_augment, seeds[6])
    if augment.noise:
        noise = tf.random.stateless_normal(tf.shape(inputs), seeds[2], stddev=augment.noise, alg="philox")
        inputs = inputs + noise
    if augment.mixup:
        inputs, targets, weights = _mixup(inputs, targets, weights, augment.mixup, seeds[3])
    return inputs, targets, weights


def fold_in(seed: tf.Tensor, number: tf.Tensor | int) -> tf.Tensor:
    """Another seed (2,), independent of the one that any other number gives."""
    import tensorflow as tf

    random: Any = tf.random
    return random.fold_in(seed, number, alg="philox")


def _flip(images: tf.Tensor, which: str, seed: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    shape = tf.stack([2, tf.shape(images)[0], 1, 1, 1])
    coins = tf.random.stateless_uniform(shape, seed, alg="philox") < 0.5
    if which in ("horizontal", "both"):
        images = tf.where(coins[0], tf.reverse(images, [2]), images)
    if which in ("vertical", "both"):
        images = tf.where(coins[1], tf.reverse(images, [1]), images)
    return images


def _move(images: tf.Tensor, shift: float, angle: float, contract: InputContract, seed: tf.Tensor) -> tf.Tensor:
    """Rotate about the centre by up to ±angle (radians, bilinear), move by whole pixels up to ±shift of each side.

    Moving by parts of pixels would blur what the model is trained on, and not what it is asked later.
    """
    import numpy as np
    import tensorflow as tf

    n, (height, width) = tf.shape(images)[0], contract.shape[:2]
    random = tf.random.stateless_uniform(tf.stack([3, n]), seed, minval=-1.0, maxval=1.0, alg="philox")
    dx, dy = tf.round(random[0] * (shift * width)), tf.round(random[1] * (shift * height))
    turn = random[2] * angle
    cos, sin = tf.cos(turn), tf.sin(turn)
    cx, cy = (width - 1) / 2, (height - 1) / 2
    # Each output point (x, y) looks at the input point (cos·u − sin·v + cx, sin·u + cos·v + cy), u = x − cx − dx, …
    u, v = cx + dx, cy + dy
    zeros = tf.zeros_like(turn)
    transforms = tf.stack([cos, -sin, cx - cos * u + sin * v, sin, cos, cy - sin * u - cos * v, zeros, zeros], axis=1)
    low = contract.raw_range[0] if contract.raw_range else 0.0
    black = ((low - np.asarray(contract.mean)) / np.asarray(contract.std)).astype(np.float32)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images - black,
        transforms=transforms,
        output_shape=tf.constant([height, width], tf.int32),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return moved + black


def _shift_in_time(sounds: tf.Tensor, share: float, contract: InputContract, seed: tf.Tensor) -> tf.Tensor:
    """Move features by whole frames (waveforms by samples) either way, up to `share` of the clip."""
    import tensorflow as tf

    assert contract.audio is not None
    length, n = contract.shape[0], tf.shape(sounds)[0]
    most = int(share * length)
    moves = tf.random.stateless_uniform(tf.stack([n, 1]), seed, -most, most + 1, tf.int32, alg="philox")
    origins = tf.range(length)[None] - moves
    silence = audio.features(contract.audio, np.zeros((1, contract.audio.samples), np.float32))[0, 0]
    mean, std = contract.scaling()
    silence = ((silence.reshape(contract.shape[1:]) - mean) / std).astype(np.float32)
    outside = tf.reshape((origins < 0) | (origins >= length), [n, length, *[1] * (len(contract.shape) - 1)])
    moved = tf.gather(sounds, tf.clip_by_value(origins, 0, length - 1), axis=1, batch_dims=1)
    return tf.where(outside, tf.constant(silence[None, None]), moved)


def _louder_or_softer(sounds: tf.Tensor, most_db: float, contract: InputContract, seed: tf.Tensor) -> tf.Tensor:
    """Waveforms are multiplied; of log-mel features the powers are."""
    import tensorflow as tf

    shape = tf.stack([tf.shape(sounds)[0], *[1] * len(contract.shape)])
    gain_db: Any = tf.random.stateless_uniform(shape, seed, -most_db, most_db, alg="philox")
    power_gain = tf.pow(10.0, gain_db / 10.0)
    if contract.audio is not None and contract.audio.features == "waveform":
        return sounds * tf.sqrt(power_gain)
    return _as_features(_band_power(sounds, contract) * power_gain, contract)


def _band_power(features: tf.Tensor, contract: InputContract) -> tf.Tensor:
    """E of `core.audio`, step 3, of standardised log-mel features."""
    import tensorflow as tf

    assert contract.audio is not None
    mean, std = (values.astype(np.float32) for values in contract.scaling())
    return tf.nn.relu(tf.exp(features * std + mean) - contract.audio.log_offset)


def _as_features(power: tf.Tensor, contract: InputContract) -> tf.Tensor:
    """Standardised log-mel features of the bands' power."""
    import tensorflow as tf

    assert contract.audio is not None
    mean, std = (values.astype(np.float32) for values in contract.scaling())
    return (tf.math.log(power + contract.audio.log_offset) - mean) / std


def _add_background(sounds: tf.Tensor, how: Background, contract: InputContract, seed: tf.Tensor) -> tf.Tensor:
    """Mix every sound with a random stretch of noise at a random ratio.

    Waveforms are added. For log-mel features the powers in the bands are: E|X + N|² = |X|² + |N|², as the phases of
    sound and noise have nothing to do with each other; so no feature is computed anew in training.
    """
    import tensorflow as tf

    assert contract.audio is not None
    bank = noise_bank(how, contract)
    length, n = contract.shape[0], tf.shape(sounds)[0]
    ones = [1] * (len(contract.shape) - 1)
    starts = tf.random.stateless_uniform(
        tf.stack([n, 1]), fold_in(seed, 0), 0, len(bank) - length + 1, tf.int32, alg="philox"
    )
    noise = tf.reshape(tf.gather(tf.constant(bank), starts + tf.range(length)[None]), tf.shape(sounds))
    snr_db: Any = tf.random.stateless_uniform(tf.stack([n, 1, *ones]), fold_in(seed, 1), *how.snr_db, alg="philox")
    chosen = tf.random.stateless_uniform(tf.stack([n, 1, *ones]), fold_in(seed, 2), alg="philox") < how.share
    axes = list(range(1, len(contract.shape) + 1))

    def strength(power_of_sound: tf.Tensor, power_of_noise: tf.Tensor) -> tf.Tensor:
        total = tf.reduce_mean(power_of_sound, axes, keepdims=True)
        noise_total = tf.reduce_mean(power_of_noise, axes, keepdims=True)
        return tf.math.divide_no_nan(total, noise_total) * tf.pow(10.0, -snr_db / 10.0)

    if contract.audio.features == "waveform":
        mixed = sounds + tf.sqrt(strength(tf.square(sounds), tf.square(noise))) * noise
    else:
        power = _band_power(sounds, contract)
        mixed = _as_features(power + strength(power, noise) * noise, contract)
    return tf.where(chosen, mixed, sounds)


_BANK_S = 60.0


def noise_bank(how: Background, contract: InputContract) -> NDArray[np.float32]:
    """Noise to take stretches of: samples (n, 1) of waveforms, or power in the mel bands (frames, bins).

    At most a minute of each file, at least one clip in all. Raises DataError.
    """
    assert contract.audio is not None
    rate, clip = contract.audio.sample_rate_hz, contract.audio.samples
    if how.folder is None:
        noise = np.random.default_rng(0).standard_normal(max(2 * clip, int(_BANK_S * rate))).astype(np.float32)
    else:
        tree = file_tree(how.folder, "noise folder")
        names = [name for name in tree.files if name.lower().endswith((".wav", ".wave"))]
        if not names:
            raise DataError(f"noise folder {tree.root} has no WAV files")
        pieces: list[NDArray[np.float32]] = []
        for name in names:
            try:
                heard, wave = read_wav(tree.read(name))
            except (ValueError, OSError) as error:
                raise DataError(f"cannot read sound {tree.path(name)}: {error}", advice="Remove it") from None
            pieces.append(resampled(wave[: int(_BANK_S * heard)], heard, rate))
        noise = np.concatenate(pieces)
        noise = np.tile(noise, -(-2 * clip // len(noise)))
    if contract.audio.features == "waveform":
        return noise[:, None]
    return audio.mel_power(contract.audio, noise[None])[0].astype(np.float32)


def _mask(sounds: tf.Tensor, how: SpecAugment, seed: tf.Tensor) -> tf.Tensor:
    """Set bands to 0, the mean of standardised features: width from U[0, W], start from U[0, length − width]."""
    import tensorflow as tf

    n, ones = tf.shape(sounds)[0], [1] * (len(sounds.shape) - 3)
    for axis, count, share in ((1, how.time_masks, how.time_width), (2, how.frequency_masks, how.frequency_width)):
        length = int(sounds.shape[axis] or 0)
        for mask in range(count):
            random = tf.random.stateless_uniform(tf.stack([2, n, 1]), fold_in(seed, 2 * mask + axis - 1), alg="philox")
            width = tf.floor(random[0] * (share * length + 1))
            start = tf.floor(random[1] * (length - width + 1))
            places = tf.range(float(length))[None]
            hidden = (places >= start) & (places < start + width)
            shape = [n, length, 1, *ones] if axis == 1 else [n, 1, length, *ones]
            sounds = tf.where(tf.reshape(hidden, shape), 0.0, sounds)
    return sounds


def _mixup(
    inputs: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor | None, alpha: float, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Mix each example with its neighbour in the batch (which is in random order already).

    With weights w, loss (linear in the target, as cross-entropy is) must become λ·wᵢ·loss(yᵢ) + (1−λ)·wⱼ·loss(yⱼ):
    the mixed weight is w = λ·wᵢ + (1−λ)·wⱼ and the mixed target (λ·wᵢ·yᵢ + (1−λ)·wⱼ·yⱼ) / w.
    """
    import tensorflow as tf

    n = tf.shape(inputs)[0]
    # For a, b from Gamma(α), a / (a + b) is from Beta(α, α).
    gammas = tf.random.stateless_gamma(tf.stack([2, n]), seed, tf.constant(alpha))
    share = tf.math.divide_no_nan(gammas[0], gammas[0] + gammas[1])
    share_x = tf.reshape(share, tf.concat([[n], tf.ones([tf.rank(inputs) - 1], tf.int32)], axis=0))
    mixed = share_x * inputs + (1.0 - share_x) * tf.roll(inputs, 1, axis=0)
    if weights is None:
        own = share[:, None]
        return mixed, own * targets + (1.0 - own) * tf.roll(targets, 1, axis=0), None
    own, other = share * weights, (1.0 - share) * tf.roll(weights, 1, axis=0)
    total = own + other
    both = own[:, None] * targets + other[:, None] * tf.roll(targets, 1, axis=0)
    return mixed, tf.math.divide_no_nan(both, total[:, None]), total
