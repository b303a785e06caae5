"""The sound features that a model was trained on, for the app: a folder with the same computation three times over.

    front_end.tflite, front_end.onnx   waveform (1, samples) → the model's input, float32, of operators that all have
    front_end.c, front_end.h           the same in C99 without dependencies, clip by clip or frame by frame
    front_end.json                     every number (`AudioFrontEnd`), for a fourth

All include the standardisation: what comes out is what the model takes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from edgedl.core import audio
from edgedl.core.artifacts import Quantization, to_json
from edgedl.core.contract import Contract, InputContract, OutputContract
from edgedl.core.errors import ModelError
from edgedl.core.files import write_atomically
from edgedl.core.isolation import run_isolated
from edgedl.export import saved_model
from edgedl.export.base import Exporter, ExportSource
from edgedl.export.c_array import identifier_of
from edgedl.export.inference import run_file
from edgedl.export.onnx import convert_onnx
from edgedl.export.tflite import FLOAT32, convert_tflite

MOST_ERROR = 1e-3
"""In standard deviations of the features, against the NumPy reference; a float32 logarithm of small sums costs that."""


def export(source: ExportSource, folder: Path) -> Path:
    """Write the folder, and compare the .tflite file with the reference. Raises ModelError, StageError."""
    given = next((one for one in source.contract.inputs if one.audio is not None), None)
    if given is None or given.audio is None or given.audio.features == "waveform":
        raise ModelError(
            f"{source.name} has no sound features to compute",
            required="a model trained on log-mel or mfcc features (data source audio-folder)",
            received=f"input {source.contract.inputs[0].name} of {source.contract.inputs[0].content}",
            advice="Leave front-end out of `export`",
        )
    target = folder / f"{source.name}-front-end"
    target.mkdir()
    c_file, header = c_sources(given, source.name)
    write_atomically(target / "front_end.c", c_file)
    write_atomically(target / "front_end.h", header)
    numbers = to_json(given.audio) | {"mean": given.mean, "std": given.std, "frames": given.audio.frames}
    write_atomically(target / "front_end.json", json.dumps(numbers, indent=1) + "\n")
    _write_models(given, source, target)
    _compare(target / "front_end.tflite", given)
    return target


def front_end_contract(given: InputContract) -> Contract:
    """Of the model that computes the features of `given`."""
    assert given.audio is not None
    heard = replace(given.audio, features="waveform")
    waveform = InputContract("waveform", (heard.samples,), content="audio", raw_range=(-1.0, 1.0), audio=heard)
    description = f"Sound to {given.audio.features} features, as the model takes them."
    return Contract("regression", (waveform,), (OutputContract(given.name, given.shape),), description=description)


def _write_models(given: InputContract, source: ExportSource, target: Path) -> None:
    contract, name = front_end_contract(given), f"{source.name}-front-end"
    with tempfile.TemporaryDirectory(prefix="edgedl-") as scratch:
        keras = Path(scratch) / "front_end.keras"
        run_isolated(
            write_keras, given, keras, stage="building the front end", subject=source.name, limits=source.limits
        )
        graph = saved_model.export(replace(source, name=name, keras=keras, batch=1), Path(scratch))
        common = {"name": name, "layers": (given.name,), "limits": source.limits}
        convert_tflite(graph, target / "front_end.tflite", FLOAT32, contract, **common)
        convert_onnx(graph, target / "front_end.onnx", contract, **common)


def write_keras(given: InputContract, path: Path) -> None:
    """The front end as a Keras model: waveform (b, samples) → features (b, *given.shape)."""
    import tf_keras

    from edgedl.models.layers.audio_front_end import AudioFeatures

    assert given.audio is not None
    waveform = tf_keras.Input((given.audio.samples,), name="waveform")
    layer = AudioFeatures(asdict(given.audio), given.mean, given.std, as_map=len(given.shape) == 3, name=given.name)
    tf_keras.Model(waveform, layer(waveform)).save(path, save_format="keras")


def reference(given: InputContract, waves: np.ndarray) -> np.ndarray:
    """What the model takes, (n, *given.shape), of waves (n, samples), by the NumPy reference."""
    assert given.audio is not None
    found = audio.features(given.audio, waves)
    found = (found - np.asarray(given.mean)) / np.asarray(given.std)
    return found.reshape(-1, *given.shape).astype(np.float32)


def _compare(path: Path, given: InputContract) -> None:
    """Loud and faint noise, and a tone, through the exported file. Raises ModelError."""
    assert given.audio is not None
    rng, n = np.random.default_rng(0), given.audio.samples
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(n) / given.audio.sample_rate_hz)
    waves = np.stack([0.3 * rng.standard_normal(n), 0.001 * rng.standard_normal(n), tone]).astype(np.float32)
    found = run_file(path, {"waveform": waves})[given.name]
    error = float(np.abs(found - reference(given, waves)).max())
    if not error <= MOST_ERROR:
        raise ModelError(
            "the exported front end does not give the features of the training",
            required=f"a difference of at most {MOST_ERROR:g} standard deviations",
            received=f"{error:.3g}",
        )


# --- C -----------------------------------------------------------------------------------------------------------


def c_sources(given: InputContract, name: str) -> tuple[str, str]:
    """`front_end.c` and `front_end.h` for the features of `given`."""
    assert given.audio is not None
    one, symbol = given.audio, identifier_of(name)
    coefficients = audio.tables(one)
    first, weights = _sparse(coefficients.mel)
    angle = 2 * np.pi * np.arange(one.fft_length // 2) / one.fft_length
    mean, std = (np.broadcast_to(np.asarray(values, np.float64), (one.bins,)) for values in (given.mean, given.std))
    tables = [
        _table("window", coefficients.window),
        _table("cosine", np.cos(angle)),
        _table("sine", np.sin(angle)),
        _table("mel_first", first, "unsigned short"),
        _table("mel_count", [len(band) for band in weights], "unsigned short"),
        _table("mel_weight", np.concatenate([*weights, np.zeros(1)])),
        *([_table("dct", coefficients.dct.T.ravel())] if one.features == "mfcc" else []),
        _table("mean", mean),
        _table("one_over_std", 1 / std),
    ]
    filled = {
        "LAST": _DCT if one.features == "mfcc" else _NO_DCT,
        "SYMBOL": symbol,
        "CAPITAL": symbol.upper(),
        "TABLES": "\n".join(tables),
        "RATE": one.sample_rate_hz,
        "SAMPLES": one.samples,
        "WINDOW": one.window,
        "HOP": one.hop,
        "FFT": one.fft_length,
        "MEL": one.mel_bins,
        "FRAMES": one.frames,
        "BINS": one.bins,
        "OFFSET": f"{one.log_offset:.9e}f",
        "WORK": one.fft_length + max(one.fft_length, one.mel_bins),
    }
    return _fill(_C, filled), _fill(_H, filled)


def _sparse(mel: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
    """Of each band, the first frequency that it hears, and its weights from there on."""
    first: list[int] = []
    weights: list[np.ndarray] = []
    for band in mel.T:
        heard = np.flatnonzero(band)
        first.append(int(heard[0]) if heard.size else 0)
        weights.append(band[heard[0] : heard[-1] + 1] if heard.size else band[:0])
    return first, weights


def _table(name: str, values: Iterable[float], kind: str = "float") -> str:
    words = [f"{value:.9e}f" if kind == "float" else str(int(value)) for value in values]
    rows = [", ".join(words[i : i + 6]) for i in range(0, len(words), 6)]
    return f"static const {kind} {name}[{len(words)}] = {{\n    " + ",\n    ".join(rows) + "};"


def _fill(template: str, values: dict[str, str | int]) -> str:
    for name, value in values.items():
        template = template.replace(f"@{name}@", str(value))
    return template


_H = """\
// Sound to the input of @SYMBOL@. Written by edgedl; do not edit: export it again.
#ifndef @CAPITAL@_FRONT_END_H_
#define @CAPITAL@_FRONT_END_H_

#define @CAPITAL@_SAMPLE_RATE_HZ @RATE@
#define @CAPITAL@_SAMPLES @SAMPLES@  // of a clip
#define @CAPITAL@_WINDOW @WINDOW@  // samples of a frame
#define @CAPITAL@_HOP @HOP@  // samples from one frame to the next
#define @CAPITAL@_FRAMES @FRAMES@
#define @CAPITAL@_BINS @BINS@  // values of a frame
#define @CAPITAL@_WORK @WORK@  // floats of memory that the functions work in

#ifdef __cplusplus
extern "C" {
#endif

// waveform: SAMPLES values from -1 to 1 (16-bit PCM / 32768.0f). features: FRAMES x BINS values, frame by frame, as
// the model takes them. work: WORK floats of the caller's; nothing else is kept, so threads may share the code.
void @SYMBOL@_front_end(const float* waveform, float* features, float* work);

// One frame, for sound that streams in: WINDOW samples to BINS values; HOP samples later comes the next.
void @SYMBOL@_front_end_frame(const float* samples, float* features, float* work);

#ifdef __cplusplus
}
#endif

#endif  // @CAPITAL@_FRONT_END_H_
"""

_C = """\
// Sound to the input of @SYMBOL@: Hann windows, power spectrum, mel bands, logarithm, standardisation.
// Written by edgedl; do not edit: export it again. C99, no dependencies but the C library's logf.
#include "front_end.h"

#include <math.h>

enum { FFT = @FFT@, MEL = @MEL@ };

@TABLES@

// Fourier transform in place, of FFT values (a power of two): radix 2, decimation in time (Cooley & Tukey 1965).
static void transform(float* re, float* im) {
    for (int i = 1, j = 0; i < FFT; i++) {
        int bit = FFT >> 1;
        for (; j & bit; bit >>= 1) j ^= bit;
        j ^= bit;
        if (i < j) {
            float swap = re[i];
            re[i] = re[j];
            re[j] = swap;
        }
    }
    for (int i = 0; i < FFT; i++) im[i] = 0.0f;  // the input is real
    for (int half = 1; half < FFT; half *= 2) {
        int stride = FFT / (2 * half);
        for (int start = 0; start < FFT; start += 2 * half) {
            for (int k = 0; k < half; k++) {
                int a = start + k, b = a + half;
                float c = cosine[k * stride], s = sine[k * stride];
                float r = c * re[b] + s * im[b], i = c * im[b] - s * re[b];
                re[b] = re[a] - r;
                im[b] = im[a] - i;
                re[a] += r;
                im[a] += i;
            }
        }
    }
}

void @SYMBOL@_front_end_frame(const float* samples, float* features, float* work) {
    float *re = work, *im = work + FFT;
    for (int n = 0; n < FFT; n++) re[n] = n < @CAPITAL@_WINDOW ? samples[n] * window[n] : 0.0f;
    transform(re, im);
    for (int f = 0; f <= FFT / 2; f++) re[f] = re[f] * re[f] + im[f] * im[f];
    float* bands = im;
    const float* weight = mel_weight;
    for (int m = 0; m < MEL; m++) {
        float sum = 0.0f;
        for (int f = 0; f < mel_count[m]; f++) sum += *weight++ * re[mel_first[m] + f];
        bands[m] = logf(sum + @OFFSET@);
    }
@LAST@
}

void @SYMBOL@_front_end(const float* waveform, float* features, float* work) {
    for (int frame = 0; frame < @CAPITAL@_FRAMES; frame++) {
        @SYMBOL@_front_end_frame(waveform + frame * @CAPITAL@_HOP, features + frame * @CAPITAL@_BINS, work);
    }
}
"""

_NO_DCT = """\
    for (int m = 0; m < MEL; m++) features[m] = (bands[m] - mean[m]) * one_over_std[m];\
"""

_DCT = """\
    for (int c = 0; c < @CAPITAL@_BINS; c++) {
        float sum = 0.0f;
        for (int m = 0; m < MEL; m++) sum += dct[c * MEL + m] * bands[m];
        features[c] = (sum - mean[c]) * one_over_std[c];
    }\
"""


# --- the exporter ------------------------------------------------------------------------------------------------


def refusal(quantization: Quantization) -> str | None:
    """Features are computed in float32, whatever the model's precision: one folder serves all."""
    if quantization.method == "float32":
        return None
    return "it is the same for all variants of a model, and is written once"


EXPORTER = Exporter("front-end", needs=(), refusal=refusal, write=export)
