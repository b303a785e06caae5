"""`audio-folder`: WAV files by class, heard once and kept as features.

Features are computed when the data is read, not in every epoch; augmentation works on them. How they are computed is in
`core/audio.py`; the exported model carries every number of it, and the format `front-end` the code.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from edgedl.core import audio
from edgedl.core.config import InputPath
from edgedl.core.console import reporter
from edgedl.core.contract import AudioFrontEnd, InputContract
from edgedl.core.errors import ConfigError, DataError
from edgedl.pipeline.data.base import ArrayExamples, RawData, Source
from edgedl.pipeline.data.checks import listed, one_class_only
from edgedl.pipeline.data.files import FileTree, Pattern, file_tree, has_group
from edgedl.pipeline.data.sound import fixed_length, read_wav, resampled

_CHUNK = 64  # clips whose features are computed at once


class AudioFolder(Source):
    """WAV files (PCM of 8 to 32 bits, or float), a folder for each class; a zip of that is read in place."""

    source: Literal["audio-folder"] = Field(default="audio-folder", description="WAV files by class, folder or zip.")
    folder: InputPath = Field(description="The folder, or the zip, that holds the classes' folders.")
    pattern: Pattern | None = Field(
        default=None,
        description="A regular expression searched in each file's path. (?P<label>…) is the class, instead of the "
        "folder; what shares a (?P<group>…), the speaker say, is never divided between training and test.",
    )
    sample_rate_hz: PositiveInt | None = Field(
        default=None, description="Rate of the model's input; needed if the files differ. Others are resampled."
    )
    clip_s: PositiveFloat = Field(default=1.0, description="Length of every clip: zeros are added, or it is cut.")
    align: Literal["start", "center"] = Field(
        default="center", description="Where short clips stand among the zeros, and what is kept of long ones."
    )
    features: Literal["log-mel", "mfcc", "none"] = Field(default="log-mel", description="none: the waveform itself.")
    layout: Literal["map", "sequence"] = Field(
        default="map",
        description="map: (frames, bins, 1), for convolutions over both; sequence: (frames, bins), for recurrent "
        "networks and Transformers.",
    )
    window_ms: PositiveFloat = Field(default=30.0, description="Length of a frame.")
    hop_ms: PositiveFloat = Field(default=20.0, description="From one frame to the next.")
    mel_bins: PositiveInt = Field(default=40, description="Bands of the mel scale.")
    low_hz: float = Field(default=20.0, ge=0.0, description="Where the lowest band begins.")
    high_hz: PositiveFloat | None = Field(
        default=None, description="Where the highest band ends; by default 95 % of half the sampling rate."
    )
    mel_scale: Literal["htk", "slaney"] = Field(default="htk", description="Formula of the bands (core/audio.py).")
    log_offset: PositiveFloat = Field(default=1e-6, description="Added to a band's power before the logarithm.")
    coefficients: PositiveInt = Field(default=13, description="mfcc only: how many cepstral coefficients are kept.")
    normalize: Literal["none", "standard"] = Field(
        default="standard",
        description="standard: mean 0 and standard deviation 1 for each bin. Waveforms stay as they are.",
    )
    skip_bad: bool = Field(default=False, description="Leave out files that cannot be read, and record them.")

    def load(self) -> RawData:
        """Read all clips, to be sure that all can be and of their rates, and again for the features: never are all
        held at once. Raises DataError."""
        tree = file_tree(self.folder, "audio folder")
        clips = find_clips(tree, self.pattern)
        rates, bad = _rates(tree, clips, self.skip_bad)
        clips = [clip for clip in clips if clip.name in rates]
        front_end = self._front_end(tree, rates)
        labels = tuple(sorted({clip.label for clip in clips}))
        if len(labels) < 2:
            raise one_class_only(f"audio folder {tree.root}", labels[0] if labels else "none", len(clips))
        inputs = _features(front_end, tree, [clip.name for clip in clips])
        if self.layout == "map" and self.features != "none":
            inputs = inputs[..., None]
        groups = sorted({clip.group for clip in clips})
        return RawData(
            examples=ArrayExamples(inputs, np.array([labels.index(clip.label) for clip in clips], np.int64)),
            task="classification",
            input=InputContract(
                name="waveform" if self.features == "none" else "features",
                shape=inputs.shape[1:],
                content="audio",
                raw_range=(-1.0, 1.0) if self.features == "none" else None,
                audio=front_end,
            ),
            normalize="none" if self.features == "none" else self.normalize,
            labels=labels,
            skipped=bad,
            groups=np.array([groups.index(clip.group) for clip in clips], np.int64)
            if has_group(self.pattern)
            else None,
        )

    def _front_end(self, tree: FileTree, rates: dict[str, int]) -> AudioFrontEnd:
        """The front end for the files' rate. Raises DataError, ConfigError."""
        found = Counter(rates.values())
        if not found:
            raise DataError(f"audio folder {tree.root} has no clip that can be read", advice="Copy the files again")
        if self.sample_rate_hz is None and len(found) > 1:
            raise DataError(
                f"the sounds in {tree.root} differ in sampling rate",
                required="data.sample_rate_hz, to which the others are then resampled",
                received=listed(f"{count} × {rate} Hz" for rate, count in found.most_common()),
                advice=f"Most would fit data.sample_rate_hz: {found.most_common(1)[0][0]}",
            )
        rate = self.sample_rate_hz or next(iter(found))
        window, hop = round(self.window_ms * rate / 1000), round(self.hop_ms * rate / 1000)
        front_end = AudioFrontEnd(
            sample_rate_hz=rate,
            samples=round(self.clip_s * rate),
            align=self.align,
            features="waveform" if self.features == "none" else self.features,
            window=window,
            hop=hop,
            fft_length=1 << max(1, window - 1).bit_length(),
            mel_bins=self.mel_bins,
            low_hz=self.low_hz,
            high_hz=self.high_hz or 0.95 * rate / 2,
            mel_scale=self.mel_scale,
            log_offset=self.log_offset,
            coefficients=self.coefficients,
        )
        _check(front_end, self)
        return front_end


def _check(front_end: AudioFrontEnd, source: AudioFolder) -> None:
    """Raise ConfigError for a front end that cannot be computed; warn of bands that hear nothing."""
    if front_end.features == "waveform":
        return
    wrong = ""
    if not 2 <= front_end.window <= front_end.samples:
        wrong = f"a window from 2 samples to the clip's {front_end.samples}, received {front_end.window}"
    elif front_end.hop < 1:
        wrong = f"a hop of a sample or more, received {source.hop_ms} ms"
    elif not front_end.low_hz < front_end.high_hz <= front_end.sample_rate_hz / 2:
        wrong = f"low_hz < high_hz ≤ {front_end.sample_rate_hz / 2:g}, half the sampling rate"
    elif front_end.features == "mfcc" and front_end.coefficients > front_end.mel_bins:
        wrong = f"at most as many coefficients as mel_bins, {front_end.mel_bins}, received {front_end.coefficients}"
    if wrong:
        raise ConfigError("the recipe's audio features cannot be computed", required=wrong)
    if empty := audio.empty_bands(front_end):
        reporter().warn(
            f"mel band {listed(empty)} of {front_end.mel_bins} lies between two frequencies of the transform and is "
            "always empty: use fewer mel_bins, a longer window_ms or a higher low_hz"
        )


@dataclass(frozen=True)
class Clip:
    """A file of the tree. group: what must stay together, itself if nothing."""

    name: str
    label: str
    group: str


def find_clips(tree: FileTree, pattern: str | None) -> list[Clip]:
    """All WAV files with their class. Raises DataError."""
    compiled = re.compile(pattern) if pattern else None
    by_folder = compiled is None or "label" not in compiled.groupindex
    clips: list[Clip] = []
    for name in tree.files:
        if PurePosixPath(name).suffix.lower() not in (".wav", ".wave"):
            continue
        found = compiled.search(name) if compiled else None
        folder = PurePosixPath(name).parts[0] if "/" in name else None
        label = folder if by_folder else found and found["label"]
        if not label:
            raise DataError(
                f"{tree.path(name)} is of no class",
                required="a folder for each class" if by_folder else f"a path that {pattern!r} finds a label in",
                advice="Set data.pattern with (?P<label>…)" if by_folder else "Correct data.pattern, or move the file",
            )
        group = found["group"] if found and has_group(pattern) and found["group"] else name
        clips.append(Clip(name, label, group))
    if not clips:
        others = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in tree.files)
        raise DataError(
            f"audio folder {tree.root} has no WAV files",
            required="files that end in .wav",
            received=listed(f"{count} × {suffix}" for suffix, count in others.most_common()) or "nothing",
            advice="Convert other formats first, for example: ffmpeg -i in.mp3 out.wav",
        )
    return clips


def _rates(tree: FileTree, clips: list[Clip], skip_bad: bool) -> tuple[dict[str, int], tuple[str, ...]]:
    """Sampling rates in Hz by file name, and what is wrong with the others."""
    rates: dict[str, int] = {}
    bad: list[str] = []
    with reporter().progress("Checking the sounds", len(clips)) as progress:
        for done, clip in enumerate(clips, start=1):
            try:
                rates[clip.name], _ = read_wav(tree.read(clip.name))
            except (ValueError, OSError) as error:
                bad.append(f"{tree.path(clip.name)}: {error}")
            progress.update(done)
    if bad and not skip_bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DataError(
            f"cannot read sound {bad[0]}{more}",
            required="WAV: PCM of 8, 16, 24 or 32 bits, or float",
            advice="Replace or remove the file, or leave such files out with data.skip_bad: true",
        )
    if bad:
        reporter().warn(f"{len(bad)} of {len(clips)} sounds cannot be read and are left out, the first is {bad[0]}")
    return rates, tuple(bad)


def _features(front_end: AudioFrontEnd, tree: FileTree, names: list[str]) -> NDArray[np.float32]:
    """Features (n, frames, bins) of the files, or their waveforms (n, samples, 1). Raises DataError."""
    chunks: list[NDArray[np.float32]] = []
    with reporter().progress("Computing the features", len(names)) as progress:
        for start in range(0, len(names), _CHUNK):
            waves = [_clip(front_end, tree, name) for name in names[start : start + _CHUNK]]
            chunks.append(audio.features(front_end, np.stack(waves)))
            progress.update(start + len(waves))
    return np.concatenate(chunks)


def _clip(front_end: AudioFrontEnd, tree: FileTree, name: str) -> NDArray[np.float32]:
    try:
        rate, wave = read_wav(tree.read(name))
    except (ValueError, OSError) as error:
        raise DataError(f"{tree.path(name)} could be read before and cannot now", received=str(error)) from None
    return fixed_length(resampled(wave, rate, front_end.sample_rate_hz), front_end)
