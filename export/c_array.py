"""A TFLite file as a C array, for TFLite Micro and whatever else links its model in.

Written as C11 that C++ compiles too. The array holds the very bytes of the .tflite file, aligned to 16, so what was
verified is what runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edgedl.core.artifacts import Quantization, TensorSpec
from edgedl.core.files import write_atomically
from edgedl.core.tflite_schema import io_specs, read_tflite
from edgedl.export.base import Exporter, ExportSource
from edgedl.export.metadata import metadata_of

_BYTES_PER_LINE = 16


def identifier_of(name: str) -> str:
    """A C identifier close to `name`: ASCII letters, digits and underscores, not starting with a digit."""
    plain = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_")
    return plain if plain[:1].isalpha() else f"m_{plain}".rstrip("_")


def write_c_array(model: bytes, folder: Path, name: str, comments: Sequence[str] = ()) -> tuple[Path, Path]:
    """Write `<identifier>.h` and `<identifier>.c` and return their paths.

    The header declares `<identifier>_model`, `<identifier>_model_len` and, for a model with labels in its metadata,
    `<identifier>_labels`; macros give scale and zero point of every quantized input and output
    (real = scale × (stored − zero_point)). comments: lines for the head of both files.

    Raises ModelError when `model` is no TFLite model, OutputError when the folder cannot be written to.
    """
    parsed = read_tflite(model, name)
    labels = next((one.labels for one in metadata_of(model, parsed)[0].outputs if one.labels), ())
    symbol = identifier_of(name)
    head = "".join(f"// {_one_line(line)}\n" for line in comments)
    header, source = folder / f"{symbol}.h", folder / f"{symbol}.c"
    write_atomically(header, head + _header(symbol, io_specs(parsed), labels))
    write_atomically(source, head + _source(symbol, model, labels))
    return header, source


def _header(symbol: str, specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]], labels: Sequence[str]) -> str:
    macros = [
        line
        for kind, tensors in zip(("INPUT", "OUTPUT"), specs, strict=True)
        for i, tensor in enumerate(tensors)
        for line in _macros(f"{symbol.upper()}_{kind}_{i}", kind.lower(), tensor)
    ]
    if labels:
        macros += ["", f"#define {symbol.upper()}_LABELS {len(labels)}"]
    declarations = [f"extern const unsigned char {symbol}_model[];", f"extern const unsigned int {symbol}_model_len;"]
    if labels:
        declarations.append(f"extern const char* const {symbol}_labels[{len(labels)}];")
    guard = f"{symbol.upper()}_H_"
    opening = ["#ifdef __cplusplus", 'extern "C" {', "#endif"]
    closing = ["#ifdef __cplusplus", "}", "#endif"]
    lines = [f"#ifndef {guard}", f"#define {guard}", *macros, "", *opening, "", *declarations, "", *closing, ""]
    return "\n".join([*lines, f"#endif  // {guard}", ""])


def _macros(prefix: str, kind: str, tensor: TensorSpec) -> list[str]:
    shape = " x ".join(str(side) for side in tensor.shape)
    lines = ["", f"// {kind} {_one_line(tensor.name)}: {tensor.dtype}, {shape}"]
    if tensor.scale is not None:
        lines += [
            f"#define {prefix}_SCALE {tensor.scale:.9e}f",
            f"#define {prefix}_ZERO_POINT {tensor.zero_point or 0}",
        ]
    return lines


def _one_line(text: str) -> str:
    """Text that stays inside its comment: printable ASCII, without a backslash that would join the next line."""
    return "".join(one if " " <= one <= "~" and one != "\\" else "?" for one in text)


def _source(symbol: str, model: bytes, labels: Sequence[str]) -> str:
    rows = (model[start : start + _BYTES_PER_LINE] for start in range(0, len(model), _BYTES_PER_LINE))
    lines = [
        f'#include "{symbol}.h"',
        "",
        "#ifndef __cplusplus",
        "#include <stdalign.h>",
        "#endif",
        "",
        f"alignas(16) const unsigned char {symbol}_model[] = {{",
        *("    " + ", ".join(f"0x{byte:02x}" for byte in row) + "," for row in rows),
        "};",
        f"const unsigned int {symbol}_model_len = {len(model)};",
    ]
    if labels:
        lines += ["", f"const char* const {symbol}_labels[{len(labels)}] = {{"]
        lines += [*(f"    {_c_string(label)}," for label in labels), "};"]
    return "\n".join([*lines, ""])


def _c_string(text: str) -> str:
    """A C string literal of the text's UTF-8 bytes; octal escapes, which end after three digits by rule."""
    plain = "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\{byte:03o}" for byte in text.encode())
    return '"' + re.sub(r"\\040", " ", plain) + '"'


# --- the exporter ------------------------------------------------------------------------------------------------


def export(source: ExportSource, folder: Path) -> Path:
    """The variant's .tflite file as a C array; returns the .c file, its header is beside it."""
    assert source.tflite is not None
    precision = source.quantization.method
    comments = [
        f"{source.name}, {precision}, written by edgedl. Do not edit: export it again.",
        source.contract.description,
    ]
    _, path = write_c_array(source.tflite.read_bytes(), folder, source.stem, [line for line in comments if line])
    return path


def refusal(quantization: Quantization) -> str | None:
    """A C array has every precision that TFLite has."""
    return None


EXPORTER = Exporter("c-array", needs=("tflite",), refusal=refusal, write=export)
