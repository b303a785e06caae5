import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgedl.core.contract import Contract
from edgedl.core.errors import ModelError
from edgedl.export.c_array import identifier_of, write_c_array
from edgedl.export.inspect import inspect_file
from edgedl.export.metadata import embed_metadata

MAIN = r"""
#include "NAME.h"
#include <stdint.h>
#include <stdio.h>
#ifdef NAME_UPPER_LABELS
#define COUNT NAME_UPPER_LABELS
#else
#define COUNT 0
#endif
int main(int argc, char** argv) {
  FILE* file = fopen(argv[argc - 1], "wb");
  fwrite(NAME_model, 1, NAME_model_len, file);
  fclose(file);
  printf("%d\n", (int)((uintptr_t)NAME_model % 16));
#if COUNT
  for (int i = 0; i < COUNT; i++) puts(NAME_labels[i]);
#endif
#ifdef NAME_UPPER_INPUT_0_SCALE
  printf("%.9g %d\n", NAME_UPPER_INPUT_0_SCALE, NAME_UPPER_INPUT_0_ZERO_POINT);
#endif
  return 0;
}
"""


def compile_and_run(compiler: list[str], folder: Path, name: str) -> tuple[bytes, list[str]]:
    """The bytes that the compiled array holds, and what the program printed."""
    (folder / "main.c").write_text(MAIN.replace("NAME_UPPER", name.upper()).replace("NAME", name))
    language = ["-x", "c++"] if "++" in compiler[0] else []
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
    sources = [*language, "main.c", f"{name}.c"]
    subprocess.run([*compiler, *strict, *sources, "-o", "program"], cwd=folder, check=True, timeout=60)
    printed = subprocess.run(["./program", "out.bin"], cwd=folder, check=True, capture_output=True, timeout=10)
    return (folder / "out.bin").read_bytes(), printed.stdout.decode().splitlines()


@pytest.mark.parametrize("compiler", [["gcc", "-std=c11"], ["g++", "-std=c++17"]])
def test_compiled_bytes_alignment_and_labels(
    tiny_tflite: bytes, tiny_contract: Contract, tmp_path: Path, compiler: list[str]
):
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"needs {compiler[0]}")
    model = embed_metadata(tiny_tflite, tiny_contract, name="t", description="", layers=(), version="1")
    write_c_array(model, tmp_path, "digits-int8", ["a comment that ends in a backslash \\", "*/ two\nlines"])
    content, printed = compile_and_run(compiler, tmp_path, "digits_int8")
    assert content == model
    assert printed == ["0", "null", "één", 'a "b"']


def test_scales_and_zero_points_are_macros(shared_data: Path, tmp_path: Path):
    path = shared_data / "mlperf_tiny/keyword_spotting/trained_models/kws_ref_model.tflite"
    write_c_array(path.read_bytes(), tmp_path, "kws")
    content, printed = compile_and_run(["gcc", "-std=c11"], tmp_path, "kws")
    spec = inspect_file(path).inputs[0]
    assert content == path.read_bytes()
    scale, zero_point = printed[-1].split()
    assert float(scale) == pytest.approx(spec.scale, rel=1e-7)
    assert int(zero_point) == spec.zero_point


@pytest.mark.parametrize("name", ["digits", "1st model", "ünïcode", "a--b", "", "int", "..."])
def test_any_name_becomes_an_identifier(name: str, tiny_tflite: bytes, tmp_path: Path):
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", identifier_of(name))
    header, source = write_c_array(tiny_tflite, tmp_path, name)
    assert (header.suffix, source.suffix) == (".h", ".c")


def test_only_tflite_becomes_an_array(tmp_path: Path):
    with pytest.raises(ModelError, match="no TFLite model"):
        write_c_array(b"something else", tmp_path, "x")
    assert not list(tmp_path.iterdir())
