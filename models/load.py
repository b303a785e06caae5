"""Reading Keras files: the kind is told from the content, never from the name.

`bring_in` runs in a child process: a model file is somebody else's input, and reading one can crash.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgedl.core.artifacts import TensorSpec
from edgedl.core.errors import EdgedlError, ModelError
from edgedl.core.files import sha256_of
from edgedl.core.isolation import Limits, run_isolated
from edgedl.core.model_facts import ModelFacts
from edgedl.models.base import KerasModel

KerasKind = Literal["keras-2", "keras-3", "h5", "saved-model"]

READABLE = "a full Keras model: .keras or .h5 of Keras 2 (tf_keras), or a SavedModel folder that Keras wrote"


@dataclass(frozen=True)
class KerasFile:
    """A Keras file before anything of it is loaded. version: the Keras that wrote it, where the file tells."""

    path: Path
    kind: KerasKind
    version: str | None


def identify(path: Path) -> KerasFile:
    """Tell what a file or folder is. Raises ModelError when it is no Keras model."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return KerasFile(path, "saved-model", None)
        raise ModelError(f"{path} is no model", required=READABLE, received="a folder without saved_model.pb")
    if not path.exists():
        raise ModelError(f"there is no {path}", required=READABLE)
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ModelError(f"cannot read {path}", received=str(error.strerror)) from None
    if head == b"\x89HDF\r\n\x1a\n":
        return KerasFile(path, "h5", None)
    if head.startswith(b"PK"):
        return _identify_zip(path)
    raise ModelError(f"{path} is no Keras model", required=READABLE, received=_describe(head, path))


def _describe(head: bytes, path: Path) -> str:
    if not head:
        return "an empty file"
    if head.startswith(b"version "):
        return "a Git LFS pointer (`git lfs pull` brings the file)"
    if head[4:8] == b"TFL3":
        return "a TFLite model, which is already exported"
    return f"{path.stat().st_size} bytes that begin with {head!r}"


def _identify_zip(path: Path) -> KerasFile:
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read("metadata.json"))
            archive.getinfo("config.json")
        version = str(metadata["keras_version"])
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise ModelError(
            f"{path} is no whole .keras file",
            required="a zip with metadata.json, config.json and model.weights.h5",
            received=str(error).strip("'\""),
        ) from None
    return KerasFile(path, "keras-3" if version.startswith("3") else "keras-2", version)


def content_hash(path: Path) -> str:
    """Hash of a model file, or of all files of a SavedModel folder. Raises ModelError when there is none."""
    identify(path)
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    lines = "".join(f"{one.relative_to(path)} {sha256_of(one)}\n" for one in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def load_keras(path: Path) -> KerasModel:
    """The tf_keras model in the file, not compiled. Raises ModelError; native crashes are the caller's child's."""
    found = identify(path)
    if found.kind == "keras-3":
        raise ModelError(
            f"{path} was written by Keras {found.version}",
            required=READABLE,
            advice="In Keras 3, save it as a SavedModel for Keras 2, or rebuild it with tf_keras and load its weights",
        )
    import tf_keras

    from edgedl.models import layers

    layers.register()
    suffix = {"keras-2": ".keras", "h5": ".h5", "saved-model": ""}[found.kind]
    try:
        with tempfile.TemporaryDirectory(prefix="edgedl-") as folder:
            named = Path(folder) / f"model{suffix}"  # Keras goes by the name, which may mislead
            named.symlink_to(path.absolute())
            model: Any = tf_keras.models.load_model(named, compile=False)
    except EdgedlError:
        raise
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"Keras cannot load {path}", required=READABLE, received=reason[:300]) from None
    if not isinstance(model, tf_keras.Model) or not model.built or not model.inputs:
        raise ModelError(
            f"{path} does not say the shapes of its inputs",
            required="a functional or sequential Keras model, built",
            received=type(model).__name__,
            advice="Build the model with an Input layer and save it again",
        )
    return model


def inspect_keras(path: Path) -> ModelFacts:
    """Layers, parameters, MACs of a Keras file, read in a child process. Raises ModelError, StageError."""
    found = identify(path)
    return run_isolated(
        _inspect,
        path,
        found.kind,
        stage="reading",
        subject=path.name,
        limits=Limits(time_s=300),
        advice="The file may be damaged, or made by another version of Keras",
    )


def _inspect(path: Path, kind: KerasKind) -> ModelFacts:
    from edgedl.models.facts import facts_of_model

    return facts_of_model(load_keras(path), path, kind)


@dataclass(frozen=True)
class BroughtIn:
    """A file of the user's, written again as `model.keras` of tf_keras."""

    parameters: int
    macs: int
    layers: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ends_in_softmax: bool


def bring_in(path: Path, target: Path) -> BroughtIn:
    """Load any Keras file and write it as a tf_keras file at `target`, in a child process."""
    identify(path)
    return run_isolated(
        _bring_in,
        path,
        target,
        stage="reading",
        subject=path.name,
        limits=Limits(time_s=300),
        advice="The file may be damaged, or made by another version of Keras",
    )


def _bring_in(path: Path, target: Path) -> BroughtIn:
    from edgedl.models.facts import facts_of_model

    model = load_keras(path)
    model.save(target, save_format="keras")
    facts = facts_of_model(model, target, "keras-2")
    layers = tuple(op.name for op in facts.ops)
    return BroughtIn(facts.parameters, facts.macs, layers, facts.inputs, facts.outputs, ends_in_softmax(model))


def ends_in_softmax(model: KerasModel) -> bool:
    """Whether the first output is a softmax: its last layer's activation, or a Softmax layer."""
    import tf_keras

    last = model.outputs[0]._keras_history.layer  # the public API has no way from a tensor to its layer
    if isinstance(last, tf_keras.layers.Softmax):
        return True
    return getattr(last, "activation", None) is tf_keras.activations.softmax
