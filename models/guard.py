"""Is it safe to load this file? A model file is somebody else's input; this looks at it without running any of it.

Refused unless the user trusts the file: Python bytecode (Lambda layers), classes and functions outside Keras (whose
module would be imported), layers that read other files, ops of a SavedModel that touch files or run Python. Refused
always: what cannot be a sane model (zip entries that leave the folder, bombs, links to other files, absurd shapes).
"""

from __future__ import annotations

import json
import math
import stat
import zipfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from edgedl.core.errors import ModelError

if TYPE_CHECKING:
    import h5py

MOST_UNPACKED_BYTES = 16 * 1024**3
MOST_EXAMPLE_BYTES = 1024**3
MOST_INFLATION = 200
"""Trained weights hardly compress; what inflates more than this, beyond `SMALL_BYTES`, is made to harm."""
SMALL_BYTES = 64 * 1024**2

KERAS_ROOTS = ("keras", "tf_keras", "edgedl")
KERAS_ROOMS = frozenset(
    ("layers", "models", "ops", "initializers", "regularizers", "constraints", "activations", "dtype_policies",
     "random")
)  # fmt: skip
"""Below `keras.` and `keras.src.`: other rooms hold functions that change settings, read files or fetch addresses."""
TOP_CLASSES = frozenset(("Sequential", "Functional", "Model", "DTypePolicy", "Variable", "FloatDTypePolicy"))
APPLICATION_LAYERS = frozenset(("LayerScale", "StochasticDepth", "CustomScaleLayer"))
OUTSIDE_LAYERS = {
    "TFSMLayer": "reads another SavedModel",
    "TorchModuleWrapper": "unpickles PyTorch modules",
    "JaxLayer": "runs code of another framework",
    "FlaxLayer": "runs code of another framework",
}
BUILTIN_KINDS = frozenset(("function", "dtype", "slice", "ellipsis", "tuple", "list", "bytes", "type"))
OUTSIDE_OPS = frozenset(
    ("ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc", "FileSystemSetConfiguration",
     "WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2", "FixedLengthRecordReader",
     "FixedLengthRecordReaderV2", "TFRecordReader", "TFRecordReaderV2", "TFRecordDataset", "TFRecordDatasetV2",
     "TextLineDataset", "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2", "CSVDataset", "CSVDatasetV2",
     "SqlDataset", "SaveDataset", "SaveDatasetV2", "LoadDataset", "SnapshotDataset", "SnapshotDatasetV2",
     "DebugIdentity", "DebugIdentityV2", "DebugIdentityV3", "PrintV2", "LMDBReader", "LMDBDataset", "XlaLaunch",
     "CreateSummaryFileWriter", "SummaryWriter", "RpcServerStart", "RpcClient", "RpcCall", "DistributedSave")
)  # fmt: skip


@dataclass(frozen=True)
class CustomClass:
    """A class or function that a file names and Keras does not have."""

    name: str
    module: str | None
    layer: str | None


def refuse(path: Path, what: str, *, trust_helps: bool) -> ModelError:
    """The error for a file that is not loaded."""
    return ModelError(
        f"{path.name} is not loaded: {what}",
        required="a model that is made of layers, and runs no code of its own",
        advice="If you trust whoever made the file, --trust loads it (and runs its code)" if trust_helps else None,
    )


def check_zip(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse entries that leave the folder, links, and bombs. Raises ModelError."""
    entries = archive.infolist()
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise refuse(path, f"its entry {entry.filename!r} leaves the folder", trust_helps=False)
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise refuse(path, f"its entry {entry.filename!r} is a link", trust_helps=False)
    unpacked = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if packed > path.stat().st_size:
        raise refuse(path, "its entries overlap", trust_helps=False)
    if unpacked > MOST_UNPACKED_BYTES or unpacked > max(SMALL_BYTES, MOST_INFLATION * packed):
        raise refuse(path, f"it unpacks from {packed:,} to {unpacked:,} bytes", trust_helps=False)


def check_h5(path: Path, file: IO[bytes] | Path) -> None:
    """Refuse links to other files and arrays that are larger than what is stored. Raises ModelError."""
    import h5py
    import psutil

    declared = 0
    with h5py.File(file, "r") as opened:
        for name, dataset in _datasets(path, opened):
            declared += dataset.nbytes
            if dataset.external or dataset.is_virtual:
                raise refuse(path, f"its array {name} lies in another file", trust_helps=False)
            if dataset.nbytes > max(SMALL_BYTES, MOST_INFLATION * dataset.id.get_storage_size()):
                raise refuse(path, f"its array {name} of {dataset.nbytes:,} bytes is not stored", trust_helps=False)
    if declared > psutil.virtual_memory().total / 2:
        raise refuse(path, f"its arrays take {declared:,} bytes of memory", trust_helps=False)


def _datasets(path: Path, group: h5py.Group, depth: int = 0) -> Generator[tuple[str, h5py.Dataset]]:
    import h5py

    if depth > 50:
        raise refuse(path, "its groups are nested without end", trust_helps=False)
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, (h5py.ExternalLink, h5py.SoftLink)):
            raise refuse(path, f"its entry {group.name}/{name} is a link", trust_helps=False)
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _datasets(path, item, depth + 1)
        elif isinstance(item, h5py.Dataset):
            yield str(item.name), item


def read_config(path: Path, text: str | bytes) -> dict[str, Any]:
    """The configuration of a model, as JSON. Raises ModelError."""
    try:
        config: Any = json.loads(text)
    except RecursionError:
        raise refuse(path, "its configuration is nested without end", trust_helps=False) from None
    except ValueError as error:
        raise ModelError(f"{path.name}: its configuration cannot be read", received=str(error)) from None
    if not isinstance(config, dict):
        raise ModelError(f"{path.name}: its configuration is no object", received=type(config).__name__)
    return cast("dict[str, Any]", config)


def check_config(path: Path, config: Mapping[str, Any], *, trust: bool) -> tuple[CustomClass, ...]:
    """Refuse configurations that would run code or take absurd memory; the custom classes they name.

    config: of a whole model. What `compile` would read (optimizer, loss, metrics) is never loaded and not looked at.
    Raises ModelError.
    """
    found: dict[tuple[str, str | None], CustomClass] = {}
    try:
        for one, layer in _objects(config, None):
            _check_shapes(path, one)
            custom = _check_object(path, one, layer, trust=trust)
            if custom is not None:
                found.setdefault((custom.name, custom.module), custom)
    except RecursionError:
        raise refuse(path, "its configuration is nested without end", trust_helps=False) from None
    return tuple(found.values())


def _objects(value: Any, layer: str | None) -> Generator[tuple[Mapping[str, Any], str | None]]:
    """All serialized objects in a configuration, each with the name of the layer around it."""
    if isinstance(value, Mapping):
        entry = cast("Mapping[str, Any]", value)
        inner = entry.get("config")
        if isinstance(inner, Mapping) and "name" in inner:
            layer = str(cast("Mapping[str, Any]", inner)["name"])
        yield entry, layer
        for key, one in entry.items():
            if key not in ("compile_config", "training_config"):
                yield from _objects(one, layer)
    elif isinstance(value, (list, tuple)):
        for one in cast("list[Any]", value):
            yield from _objects(one, layer)


def _check_object(path: Path, entry: Mapping[str, Any], layer: str | None, *, trust: bool) -> CustomClass | None:
    name = entry.get("class_name")
    if not isinstance(name, str):
        return None
    config = entry.get("config")
    values = cast("Mapping[str, Any]", config if isinstance(config, Mapping) else {})
    where = f" (layer {layer!r})" if layer else ""
    if name == "__lambda__" or (name == "Lambda" and _is_bytecode(values)):
        if not trust:
            raise refuse(path, f"it holds Python bytecode{where}", trust_helps=True)
        return None
    if name in OUTSIDE_LAYERS and not trust:
        raise refuse(path, f"its {name}{where} {OUTSIDE_LAYERS[name]}", trust_helps=True)
    if isinstance(values.get("vocabulary"), str) and not trust:
        raise refuse(path, f"its {name}{where} reads the file {values['vocabulary']!r}", trust_helps=True)
    return _custom(path, name, entry, layer, trust=trust)


def _is_bytecode(config: Mapping[str, Any]) -> bool:
    """Of a Lambda layer: whether its function is not a name that Keras would look up."""
    function = config.get("function")
    if isinstance(function, Mapping):
        function = cast("Mapping[str, Any]", function)
        return function.get("class_name") != "function" or config.get("function_type") == "lambda"
    return not isinstance(function, str)


def _custom(path: Path, name: str, entry: Mapping[str, Any], layer: str | None, *, trust: bool) -> CustomClass | None:
    module, registered = entry.get("module"), entry.get("registered_name")
    if name.startswith("__") or str(registered).startswith("edgedl>"):  # Keras's own marks: tensors, slices, arrays
        return None
    if not isinstance(module, str):
        return CustomClass(name, None, layer) if registered is not None or ">" in name else None
    if _is_of_keras(module.split("."), name):
        return None
    if not trust and module.split(".")[0] in (*KERAS_ROOTS, "builtins"):
        raise refuse(path, f"it names {module}.{name}, which is no layer", trust_helps=True)
    return CustomClass(name, module, layer)


def _is_of_keras(module: list[str], name: str) -> bool:
    """Whether a module (in parts) is a room of Keras that only holds parts of models."""
    if module[0] == "builtins":
        return name in BUILTIN_KINDS
    if module[0] not in KERAS_ROOTS:
        return False
    rooms = [part for part in module[1:] if part != "src"]
    if not rooms:
        return name in TOP_CLASSES or name == "function"
    if rooms[0] == "engine":
        return name in TOP_CLASSES
    return rooms[0] in KERAS_ROOMS or (rooms[0] == "applications" and name in APPLICATION_LAYERS)


def _check_shapes(path: Path, entry: Mapping[str, Any]) -> None:
    for key in ("batch_shape", "batch_input_shape"):
        shape = entry.get(key)
        if isinstance(shape, (list, tuple)):
            sides = [int(one) for one in cast("list[Any]", shape)[1:] if isinstance(one, int)]
            if any(side < 0 for side in sides) or math.prod(sides) * 4 > MOST_EXAMPLE_BYTES:
                raise refuse(path, f"one example of shape {tuple(sides)} is absurd", trust_helps=False)


def check_saved_model(path: Path, *, trust: bool) -> bool:
    """Refuse graphs that touch files or run Python, and Keras layers that hold bytecode. Imports TensorFlow.

    Returns whether Keras layers are described in it, as Keras 2 does.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2  # pyright: ignore[reportMissingModuleSource]
    from tf_keras.protobuf import saved_metadata_pb2

    saved: Any = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise ModelError(f"{path.name} is no whole SavedModel", received=str(error)) from None
    ops: set[str] = set()
    for graph in saved.meta_graphs:
        ops |= {node.op for node in graph.graph_def.node}
        ops |= {node.op for function in graph.graph_def.library.function for node in function.node_def}
    if not trust and (outside := sorted(ops & OUTSIDE_OPS)):
        raise refuse(path, f"its graph holds {', '.join(outside)}, which reach outside the model", trust_helps=True)
    texts = [
        node.user_object.metadata
        for graph in saved.meta_graphs
        for node in graph.object_graph_def.nodes
        if node.user_object.identifier.startswith("_tf_keras") and node.user_object.metadata
    ]
    if (path / "keras_metadata.pb").is_file():
        metadata: Any = cast(Any, saved_metadata_pb2).SavedMetadata()
        metadata.ParseFromString((path / "keras_metadata.pb").read_bytes())
        texts += [node.metadata for node in metadata.nodes]
    for text in texts:
        check_config(path, read_config(path, text), trust=trust)
    return bool(texts)
