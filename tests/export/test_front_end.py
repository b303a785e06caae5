"""The sound features three times: NumPy, the Keras layer in TFLite and ONNX, and C compiled here. They agree."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgedl.core import audio
from edgedl.core.contract import AudioFrontEnd, Contract, InputContract, OutputContract
from edgedl.core.errors import ModelError
from edgedl.export.base import ExportSource
from edgedl.export.front_end import c_sources, export, reference
from edgedl.export.inference import run_file
from edgedl.export.tflite import FLOAT32

RATE = 8000
LOG_MEL = AudioFrontEnd(RATE, 4000, window=240, hop=160, fft_length=256, mel_bins=20, low_hz=60.0, high_hz=3800.0)
MFCC = replace(LOG_MEL, features="mfcc", mel_scale="slaney", coefficients=10)


def given_of(front_end: AudioFrontEnd, *, as_map: bool = True) -> InputContract:
    shape = (front_end.frames, front_end.bins)
    per_bin = tuple(0.1 * i for i in range(front_end.bins))
    return InputContract(
        "features",
        (*shape, 1) if as_map else shape,
        content="audio",
        mean=per_bin,
        std=tuple(1 + one for one in per_bin),
        audio=front_end,
    )


def waves() -> np.ndarray:
    rng, n = np.random.default_rng(1), LOG_MEL.samples
    sweep = np.sin(2 * np.pi * np.cumsum(np.linspace(100, 3500, n)) / RATE)
    return np.stack([0.4 * rng.standard_normal(n), 1e-4 * rng.standard_normal(n), 0.9 * sweep, 0 * sweep]).astype(
        np.float32
    )


# --- the reference, by its own definitions -----------------------------------------------------------------------


def test_a_tone_is_heard_in_the_band_of_its_frequency():
    tone = np.sin(2 * np.pi * 1000 * np.arange(4000) / RATE)[None]
    power = audio.mel_power(LOG_MEL, tone)[0]
    corners = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([60, 3800]) / 700)), 22) / 2595) - 1)
    nearest = int(np.abs(corners[1:-1] - 1000).argmin())
    assert power.shape == (24, 20)
    assert (power.argmax(axis=1) == nearest).all()


def test_the_formulas_by_hand():
    """Step by step on one frame, with a Fourier sum, triangles and a cosine sum written out."""
    wave = waves()[:1]
    n = np.arange(240)
    frame = wave[0, 3 * 160 : 3 * 160 + 240] * (0.5 - 0.5 * np.cos(2 * np.pi * n / 240))
    power = [abs(np.sum(frame * np.exp(-2j * np.pi * f * n / 256))) ** 2 for f in range(129)]
    corners = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([60, 3800]) / 700)), 22) / 2595) - 1)
    bands = []
    for low, middle, high in zip(corners, corners[1:], corners[2:], strict=False):
        hz = np.arange(129) * RATE / 256
        rising, falling = (hz - low) / (middle - low), (high - hz) / (high - middle)
        bands.append(sum(max(0.0, min(r, f)) * p for r, f, p in zip(rising, falling, power, strict=True)))
    np.testing.assert_allclose(audio.features(LOG_MEL, wave)[0, 3], np.log(np.array(bands) + 1e-6), rtol=1e-5)


def test_slaney_triangles_have_area_one_and_known_corners():
    mel = audio.tables(replace(LOG_MEL, mel_scale="slaney", fft_length=8192)).mel
    np.testing.assert_allclose(mel.sum(axis=0) * RATE / 8192, 1.0, atol=2e-3)
    # Slaney's scale: 1000 Hz is 15 mel, 6400 Hz is 15 + 27 mel.
    np.testing.assert_allclose(audio._hz_to_slaney(np.array([500.0, 1000.0, 6400.0])), [7.5, 15.0, 42.0])
    np.testing.assert_allclose(audio._slaney_to_hz(np.array([7.5, 15.0, 42.0])), [500.0, 1000.0, 6400.0])


def test_the_cosine_transform_is_orthonormal():
    dct = audio.tables(replace(MFCC, coefficients=20)).dct
    np.testing.assert_allclose(dct.T @ dct, np.eye(20), atol=1e-12)


def test_empty_bands_are_told():
    assert audio.empty_bands(LOG_MEL) == []
    assert audio.empty_bands(replace(LOG_MEL, mel_bins=200))


# --- the other two -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [given_of(LOG_MEL), given_of(MFCC, as_map=False)], ids=["log-mel", "mfcc"])
def test_c_gives_the_same(given: InputContract, tmp_path: Path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    for name, content in zip(("front_end.c", "front_end.h"), c_sources(given, "my model"), strict=True):
        (tmp_path / name).write_text(content)
    flags = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O2", "-shared", "-fPIC"]
    library = tmp_path / "front_end.so"
    subprocess.run([compiler, *flags, "front_end.c", "-o", library, "-lm"], cwd=tmp_path, check=True)
    compute = ctypes.CDLL(str(library)).my_model_front_end
    assert given.audio is not None
    floats = ctypes.POINTER(ctypes.c_float)
    work = np.full(512, np.nan, np.float32)
    for wave in waves():
        found = np.full(given.shape, np.nan, np.float32)
        compute(*(array.ctypes.data_as(floats) for array in (wave, found, work)))
        np.testing.assert_allclose(found, reference(given, wave[None])[0], atol=1e-3)


@pytest.mark.tensorflow
@pytest.mark.parametrize("given", [given_of(LOG_MEL), given_of(MFCC, as_map=False)], ids=["log-mel", "mfcc"])
def test_tflite_and_onnx_give_the_same(given: InputContract, tmp_path: Path):
    contract = Contract("classification", (given,), (OutputContract("probabilities", (3,)),))
    source = ExportSource("words", "float32", FLOAT32, contract, (), tmp_path / "none.keras")
    folder = export(source, tmp_path)
    assert sorted(one.name for one in folder.iterdir()) == [
        "front_end.c", "front_end.h", "front_end.json", "front_end.onnx", "front_end.tflite"
    ]  # fmt: skip
    for kind in ("tflite", "onnx"):
        found = run_file(folder / f"front_end.{kind}", {"waveform": waves()})["features"]
        np.testing.assert_allclose(found, reference(given, waves()), atol=1e-3)


def test_a_model_of_other_things_has_none(tmp_path: Path):
    contract = Contract("classification", (InputContract("image", (8, 8, 1), content="image"),), ())
    source = ExportSource("digits", "float32", FLOAT32, contract, (), tmp_path / "none.keras")
    with pytest.raises(ModelError, match=r"digits has no sound features.*received input image of image"):
        export(source, tmp_path)
