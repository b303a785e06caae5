"""What any model file is. The kind is told from the content, never from the name."""

from __future__ import annotations

from pathlib import Path

from edgedl.core.errors import ModelError
from edgedl.core.model_facts import ModelFacts
from edgedl.core.tflite_schema import IDENTIFIER
from edgedl.export.coreml_file import inspect_coreml, is_package
from edgedl.export.onnx_file import inspect_onnx
from edgedl.export.tflite_file import inspect_tflite
from edgedl.models.base import LoadOptions

REQUIRED = "a Keras file (.keras, .h5, a SavedModel folder), a TFLite file, an ONNX file or a Core ML package"

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_GIT_LFS = b"version https://git-lfs"


def inspect_file(path: Path, options: LoadOptions | None = None) -> ModelFacts:
    """Inputs, outputs, layers or ops, parameters, MACs, bytes and precision of a model file or SavedModel folder.

    Raises ModelError when it is no model, or a damaged one; StageError when reading a Keras file takes its child
    process down. options: how to load a Keras file.
    """
    if path.is_dir():
        if is_package(path):
            return inspect_coreml(path)
        if not (path / "saved_model.pb").is_file():
            raise _no_model(path, "a folder without saved_model.pb", _models_in(path))
        return _inspect_keras(path, options)
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise ModelError(f"there is no {path}", required=REQUIRED) from None
    except OSError as error:
        raise ModelError(f"cannot read {path}", received=error.strerror) from None
    if head.startswith(_GIT_LFS):
        raise _no_model(path, "a Git LFS pointer, which stands for the file", "Run `git lfs pull` where it came from")
    if head[4:8] == IDENTIFIER:
        return inspect_tflite(path)
    if head.startswith((_HDF5, _ZIP)):
        return _inspect_keras(path, options)
    if path.name == "saved_model.pb":
        raise _no_model(path, "a part of a SavedModel", f"Name its folder, {path.parent}")
    if not head or head[:1] != b"\x08":  # an ONNX model begins with its version: field 1, a number
        raise _no_model(path, f"{path.stat().st_size} bytes that begin with {head[:8]!r}" if head else "an empty file")
    return inspect_onnx(path)


def _inspect_keras(path: Path, options: LoadOptions | None) -> ModelFacts:
    from edgedl.models.load import BARE, inspect_keras

    return inspect_keras(path, options or BARE)


def _no_model(path: Path, received: str, advice: str | None = None) -> ModelError:
    return ModelError(f"{path} is no model", required=REQUIRED, received=received, advice=advice)


def _models_in(folder: Path) -> str | None:
    names = sorted(one.name for one in folder.iterdir() if one.suffix in (".tflite", ".onnx", ".keras", ".h5"))
    return f"Name a file in it: {', '.join(names[:5])}" if names else None
