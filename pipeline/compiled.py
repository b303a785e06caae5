"""Formats that are a device's own: `ethos-u55:128`, `qualcomm:sm8550`, as its vendor's compiler makes them.

Such a file runs on that device alone, so it is neither judged nor verified here; the file that it is made from is.
"""

from __future__ import annotations

from pathlib import Path

from edgedl.core.artifacts import Quantization
from edgedl.core.errors import ConfigError
from edgedl.core.model_facts import ModelFile
from edgedl.devices import Compiler, all_devices, find_device
from edgedl.devices.checks import check_available
from edgedl.export import EXPORTERS, Exporter, ExportSource, exporter
from edgedl.export.inspect import inspect_file


def is_compiled(format: str) -> bool:
    """Whether the format is a device's."""
    return ":" in format


def exporter_of(format: str) -> Exporter:
    """The exporter of a format, a device's too.

    Raises ConfigError for a format that does not exist, UnavailableError for a device or compiler that is not there.
    """
    if not is_compiled(format):
        if format not in EXPORTERS:
            required = f"{', '.join(EXPORTERS)}, or a device that compiles with its target ({', '.join(compilers())})"
            raise ConfigError(f"there is no format {format!r}", required=required, received=format)
        return exporter(format)
    device, target = find_device(format)
    if not isinstance(device, Compiler):
        raise ConfigError(f"device {device.name!r} compiles nothing", required=f"one of {', '.join(compilers())}")
    check_available(device)

    def refusal(quantization: Quantization) -> str | None:
        source = exporter(device.compiles).refusal(quantization)
        return source or device.refusal(quantization.method, target)

    def write(source: ExportSource, folder: Path) -> Path:
        path = source.onnx if device.compiles == "onnx" else source.tflite
        assert path is not None
        written = folder / f"{source.stem}-{format.replace(':', '-')}.{device.compiles}"
        device.compile(ModelFile(path, inspect_file(path)), target, written)
        return written

    return Exporter(format, needs=(device.compiles,), refusal=refusal, write=write, tool=device.compiler)


def compilers() -> list[str]:
    """Names of the devices that compile."""
    return [one.name for one in all_devices() if isinstance(one, Compiler)]
