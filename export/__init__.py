"""Formats, one a file. `EXPORTERS` is the one list where a new format adds its line."""

from __future__ import annotations

import importlib

from edgedl.export.base import Exporter, ExportSource

EXPORTERS: dict[str, str] = {
    "tflite": "edgedl.export.tflite",
    "onnx": "edgedl.export.onnx",
    "saved-model": "edgedl.export.saved_model",
    "coreml": "edgedl.export.coreml",
    "c-array": "edgedl.export.c_array",
    "front-end": "edgedl.export.front_end",
}


def exporter(format: str) -> Exporter:
    """The exporter of a format; its module is imported now."""
    return importlib.import_module(EXPORTERS[format]).EXPORTER


__all__ = ["EXPORTERS", "ExportSource", "Exporter", "exporter"]
