"""int8 with ranges of our choice: statistics of the calibrated model, a range for each tensor, TFLite's quantizer."""

from __future__ import annotations

from pathlib import Path

from edgedl.core.artifacts import Quantization
from edgedl.export.tflite import convert_tflite
from edgedl.export.tflite_quantizer import calibrate_tflite, quantize_tflite, ranges_of
from edgedl.pipeline.compress.base import Calibration, Conversion
from edgedl.pipeline.compress.calibration.ranges import find_range
from edgedl.pipeline.compress.calibration.statistics import collect

_FIXED_SCALE = {"SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "TANH"}
"""TFLite's specification fixes the scale of their outputs."""


def convert_with_chosen_ranges(
    job: Conversion, target: Path, quantization: Quantization, calibration: Calibration
) -> tuple[str, ...]:
    """Write the .tflite file with ranges by the calibration's method; what kept its min–max, in sentences.

    Raises ModelError, StageError.
    """
    assert job.calibration is not None
    layers = job.trained.layers
    if job.fake_quant is not None:
        convert_tflite(
            job.fake_quant, target, quantization, job.trained.contract,
            name=job.name, layers=layers, calibration=job.calibration, limits=job.limits,
        )  # fmt: skip
        return (f"ranges were learnt in training: calibration method {calibration.in_words} is not used",)
    calibrated = calibrate_tflite(job.saved_model, job.calibration, quantization, name=job.name, limits=job.limits)
    ranged = ranges_of(calibrated)
    found = {
        one.name: find_range(one.histogram, calibration.method, calibration.percentile)
        for one in collect(calibrated, job.calibration, name=job.name, layers=layers, limits=job.limits)
        if one.name in ranged and one.op not in _FIXED_SCALE
    }
    quantize_tflite(
        calibrated, target, quantization, job.trained.contract,
        name=job.name, layers=layers, ranges=found, limits=job.limits,
    )  # fmt: skip
    cut = sum(high - low < 0.999 * (ranged[name][1] - ranged[name][0]) for name, (low, high) in found.items())
    return (f"calibration by {calibration.in_words}: {cut} of {len(ranged)} ranges are narrower than min-max",)
