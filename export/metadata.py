"""What an app must know about a model, embedded in the exported file and read back from it.

TFLite: TensorFlow Lite metadata, schema 1.1.0 (tensorflow/tflite-support, metadata_schema.fbs, identifier "M001"), in
the model's buffer `TFLITE_METADATA`, which Android's and Python's readers of that format understand. It cannot hold
everything (feature names, resizing, the task), so the whole contract travels beside it as `edgedl.json`; that file
and the label files are a zip archive behind the flatbuffer.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers

from edgedl.core.artifacts import from_json, to_json
from edgedl.core.contract import Contract, InputContract, OutputContract
from edgedl.core.errors import InputError, ModelError
from edgedl.core.files import write_atomically
from edgedl.core.tflite_schema import DAMAGE, listed, read_tflite, signature_names, text
from edgedl.export.flatbuffer_tables import Byte, Node, Reader, UInt, node, root, write
from edgedl.export.tflite_packing import packed

BUFFER = "TFLITE_METADATA"
CONTRACT_FILE = "edgedl.json"
LABELS_FILE = "labels.txt"
VOCABULARY_FILE = "vocab.txt"


@dataclass(frozen=True)
class TensorMetadata:
    """One input or output as the metadata describes it, in the order of the subgraph.

    content: "image", "bounding-boxes" or "features". mean, std: the model takes (raw − mean) / std; empty when nothing
    is said. minimum, maximum: of the tensor's values, per channel. labels: names along the last axis.
    """

    name: str
    description: str = ""
    content: str = "features"
    color_space: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class TfliteMetadata:
    """What a TFLite file says about itself; empty where it says nothing.

    contract, layers: from `edgedl.json`, which edgedl's exports carry. converter: what wrote the model.
    """

    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    inputs: tuple[TensorMetadata, ...] = ()
    outputs: tuple[TensorMetadata, ...] = ()
    contract: Contract | None = None
    layers: tuple[str, ...] = ()
    converter: str = ""
    min_runtime_version: str = ""


# --- the schema --------------------------------------------------------------------------------------------------
# Fields of each table in the order of their slots; a union takes two (its type, then its value).

_MODEL = (
    "name",
    "description",
    "version",
    "subgraph_metadata",
    "author",
    "license",
    "associated_files",
    "min_parser_version",
)
_SUBGRAPH = (
    "name",
    "description",
    "input_tensor_metadata",
    "output_tensor_metadata",
    "associated_files",
    "input_process_units",
    "output_process_units",
)
_TENSOR = ("name", "description", "dimension_names", "content", "process_units", "stats", "associated_files")
_CONTENT = ("content_properties_type", "content_properties", "range")
_IMAGE = ("color_space", "default_size")
_IMAGE_SIZE = ("width", "height")
_PROCESS_UNIT = ("options_type", "options")
_NORMALIZATION = ("mean", "std")
_STATS = ("max", "min")
_FILE = ("name", "description", "type", "locale")

_FEATURE_PROPERTIES, _IMAGE_PROPERTIES, _BOUNDING_BOX_PROPERTIES = 1, 2, 3
_CONTENTS = {_IMAGE_PROPERTIES: "image", _BOUNDING_BOX_PROPERTIES: "bounding-boxes"}
_NORMALIZATION_OPTIONS = 1
_COLOR_SPACES = {"rgb": 1, "grayscale": 2}
_TENSOR_AXIS_LABELS = 2
_VOCABULARY = 5
_PARSER_VERSION = "1.0.0"  # the first whose readers know every field written here
_PARSER_VERSION_OF_TEXT = "1.0.1"  # the first that know a vocabulary


# --- writing: TFLite ---------------------------------------------------------------------------------------------


def embed_metadata(
    model: bytes,
    contract: Contract,
    *,
    name: str,
    description: str,
    layers: tuple[str, ...],
    version: str,
) -> bytes:
    """The TFLite model with the contract in its metadata, label files and `edgedl.json` as a zip at its end.

    The model's own content is unchanged; metadata that it carried is replaced. layers: names of the Keras layers.
    version: of the model, in the author's counting.

    Raises ModelError when the model's inputs or outputs are not those of the contract.
    """
    from ai_edge_litert import schema_py_generated as schema

    parsed = read_tflite(model, name)
    if any(buffer.offset > 1 for buffer in parsed.buffers):
        raise ModelError(f"{name} is too large for TFLite metadata", required="a model of less than 2 GB")
    label_files = _label_files(contract)
    metadata = _metadata_node(parsed, contract, label_files, name=name, description=description, version=version)
    builder = flatbuffers.Builder()
    builder.Finish(write(builder, metadata), file_identifier=b"M001")
    _set_buffer(parsed, schema, bytes(builder.Output()))
    files = {label_files[one.name]: as_lines(one.labels) for one in contract.outputs if one.name in label_files}
    if vocabulary := vocabulary_of(contract):
        files[VOCABULARY_FILE] = as_lines(vocabulary)
    files[CONTRACT_FILE] = json.dumps({"contract": to_json(contract), "layers": layers}, ensure_ascii=False)
    return _append_zip(packed(parsed), files)


def _label_files(contract: Contract) -> dict[str, str]:
    """Output name → name of its label file; the first is `labels.txt`, where readers look."""
    labelled = [one.name for one in contract.outputs if one.labels]
    return {name: LABELS_FILE if i == 0 else f"labels_{i + 1}.txt" for i, name in enumerate(labelled)}


def vocabulary_of(contract: Contract) -> tuple[str, ...]:
    """The tokens that the text input's numbers mean; () for other models."""
    return next((one.text.vocabulary for one in contract.inputs if one.text is not None), ())


def write_vocabulary(contract: Contract, folder: Path) -> None:
    """`vocab.txt`, a token a line, beside a file that cannot carry it as apps expect it. Raises OutputError."""
    if vocabulary := vocabulary_of(contract):
        write_atomically(folder / VOCABULARY_FILE, as_lines(vocabulary))


def as_lines(labels: Sequence[str]) -> str:
    """One label a line; a line break inside a label becomes a space (`edgedl.json` keeps it)."""
    return "".join(" ".join(label.splitlines()) + "\n" for label in labels)


def _metadata_node(
    model: Any, contract: Contract, label_files: Mapping[str, str], *, name: str, description: str, version: str
) -> Node:
    graph = model.subgraphs[0]
    input_names, output_names = signature_names(model)
    inputs = _in_order(graph, graph.inputs, input_names, {one.name: one for one in contract.inputs}, name)
    outputs = _in_order(graph, graph.outputs, output_names, {one.name: one for one in contract.outputs}, name)
    return node(
        _MODEL,
        name=name,
        description=description,
        version=version,
        subgraph_metadata=[
            node(
                _SUBGRAPH,
                input_tensor_metadata=[_input_node(one) for one in inputs],
                output_tensor_metadata=[_output_node(one, label_files.get(one.name)) for one in outputs],
            )
        ],
        associated_files=[
            node(
                _FILE, name=CONTRACT_FILE, description="Inputs, outputs and layers as edgedl recorded them at training"
            )
        ],
        min_parser_version=_PARSER_VERSION_OF_TEXT if vocabulary_of(contract) else _PARSER_VERSION,
    )


def _in_order(
    graph: Any, indices: Any, names: Mapping[int, str], wanted: Mapping[str, Any], model_name: str
) -> list[Any]:
    """The contract's entries in the order of the subgraph's tensors, matched by signature name, else by tensor name."""
    found = [names.get(index) or text(graph.tensors[index].name) for index in listed(indices)]
    if len(found) == len(wanted) == 1:
        return list(wanted.values())
    if sorted(found) != sorted(wanted):
        raise ModelError(
            f"{model_name} does not fit its contract",
            required=f"inputs or outputs named {', '.join(sorted(wanted))}",
            received=", ".join(sorted(found)),
        )
    return [wanted[name] for name in found]


def _input_node(one: InputContract) -> Node:
    bounds = one.raw_range or (None, None)
    low, high = (
        [(bound - mean) / std for mean, std in zip(one.mean, one.std, strict=True)] if bound is not None else []
        for bound in bounds
    )
    is_image = one.content == "image" and len(one.shape) == 3
    return node(
        _TENSOR,
        name=one.name,
        description=_input_description(one),
        content=node(
            _CONTENT,
            content_properties_type=Byte(_IMAGE_PROPERTIES if is_image else _FEATURE_PROPERTIES),
            content_properties=_image_node(one) if is_image else node(()),
        ),
        process_units=[
            node(
                _PROCESS_UNIT,
                options_type=Byte(_NORMALIZATION_OPTIONS),
                options=node(_NORMALIZATION, mean=list(one.mean), std=list(one.std)),
            )
        ],
        stats=node(_STATS, max=high, min=low) if high else None,
        associated_files=[node(_FILE, name=VOCABULARY_FILE, description="Tokens, one a line", type=Byte(_VOCABULARY))]
        if one.text is not None
        else None,
    )


def _image_node(one: InputContract) -> Node:
    height, width, _ = one.shape
    return node(
        _IMAGE,
        color_space=Byte(_COLOR_SPACES.get(one.color_space or "", 0)),
        default_size=node(_IMAGE_SIZE, width=UInt(width), height=UInt(height)),
    )


def _input_description(one: InputContract) -> str:
    shape = " × ".join(str(side) for side in one.shape)
    parts = [one.content, shape]
    if one.raw_range:
        parts.append(f"raw values {one.raw_range[0]:g} to {one.raw_range[1]:g}")
    if one.resize != "none":
        parts.append(f"resized by {one.resize}, {one.interpolation}, {'with' if one.antialias else 'no'} antialiasing")
    if one.audio is not None:
        sound = one.audio
        parts.append(f"{sound.features} of {sound.samples / sound.sample_rate_hz:g} s at {sound.sample_rate_hz} Hz")
    if one.text is not None:
        parts.append(f"{one.text.kind} tokens, padded at the end with {one.text.padding_id}")
    return ", ".join(parts)


def _output_node(one: OutputContract, label_file: str | None) -> Node:
    labels = node(_FILE, name=label_file, description="Labels, one a line", type=Byte(_TENSOR_AXIS_LABELS))
    return node(
        _TENSOR,
        name=one.name,
        description=one.content,
        content=node(_CONTENT, content_properties_type=Byte(_FEATURE_PROPERTIES), content_properties=node(())),
        stats=node(_STATS, max=[1.0], min=[0.0]) if one.content == "probabilities" else None,
        associated_files=[labels] if label_file else None,
    )


def _set_buffer(model: Any, schema: Any, content: bytes) -> None:
    """Put `content` into the model's metadata buffer, replacing one that is there."""
    import numpy as np

    data = np.frombuffer(content, np.uint8)
    for entry in model.metadata or ():
        if text(entry.name) == BUFFER:
            model.buffers[entry.buffer] = schema.BufferT(data=data)
            return
    model.buffers.append(schema.BufferT(data=data))
    model.metadata = [*(model.metadata or ()), schema.MetadataT(name=BUFFER, buffer=len(model.buffers) - 1)]


def _append_zip(content: bytes, files: Mapping[str, str]) -> bytes:
    """Content with the files behind it, stored without compression (Android's reader maps them) and without dates."""
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, body in files.items():
            archive.writestr(zipfile.ZipInfo(name), body)
    return stream.getvalue()


# --- reading: TFLite ---------------------------------------------------------------------------------------------


def read_metadata(path: Path) -> TfliteMetadata:
    """What a TFLite file says about itself. Raises ModelError when the file is no TFLite model."""
    content = path.read_bytes()
    return metadata_of(content, read_tflite(content, str(path)))[0]


def metadata_of(content: bytes, model: Any) -> tuple[TfliteMetadata, tuple[str, ...]]:
    """Metadata of a parsed model and its file's content; damaged metadata is left out and noted, never an error."""
    notes: list[str] = []
    buffers = {text(entry.name): _bytes(model.buffers[entry.buffer]) for entry in model.metadata or ()}
    files = _zipped_files(content)
    described: dict[str, Any] = {}
    if BUFFER in buffers:
        try:
            described = _describe(root(buffers[BUFFER], _MODEL), files)
        except DAMAGE:
            notes.append("its TFLite metadata is damaged")
    contract, layers = None, ()
    if CONTRACT_FILE in files:
        try:
            data = json.loads(files[CONTRACT_FILE])
            contract, layers = from_json(Contract, data["contract"]), tuple(str(one) for one in data["layers"])
        except (ValueError, KeyError, TypeError, InputError):
            notes.append(f"its {CONTRACT_FILE} is damaged")
    metadata = TfliteMetadata(
        contract=contract,
        layers=layers,
        converter=_converter(buffers.get("CONVERSION_METADATA", b"")),
        min_runtime_version=text(buffers.get("min_runtime_version", b"")).rstrip("\0"),
        **described,
    )
    return metadata, tuple(notes)


def _bytes(buffer: Any) -> bytes:
    return b"" if buffer.data is None else bytes(buffer.data)


def _zipped_files(content: bytes) -> dict[str, bytes]:
    """The files of the zip archive behind the model, by name; none when there is no archive or it is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            small = [entry for entry in archive.infolist() if entry.file_size < 1 << 24]
            return {entry.filename: archive.read(entry) for entry in small}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError):
        return {}


def _describe(root: Reader, files: Mapping[str, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {name: root.text(name) for name in ("name", "description", "version", "author", "license")}
    for subgraph in root.tables("subgraph_metadata", _SUBGRAPH)[:1]:
        found["inputs"] = tuple(_tensor(one, files) for one in subgraph.tables("input_tensor_metadata", _TENSOR))
        found["outputs"] = tuple(_tensor(one, files) for one in subgraph.tables("output_tensor_metadata", _TENSOR))
    return found


def _tensor(tensor: Reader, files: Mapping[str, bytes]) -> TensorMetadata:
    content = tensor.table("content", _CONTENT)
    kind = content.number("content_properties_type") if content else 0
    image = content.table("content_properties", _IMAGE) if content and kind == _IMAGE_PROPERTIES else None
    color = image.number("color_space") if image else 0
    units = [one for one in tensor.tables("process_units", _PROCESS_UNIT) if one.number("options_type") == 1]
    normalization = units[0].table("options", _NORMALIZATION) if units else None
    stats = tensor.table("stats", _STATS)
    labels = [one for one in tensor.tables("associated_files", _FILE) if one.number("type") == _TENSOR_AXIS_LABELS]
    return TensorMetadata(
        name=tensor.text("name"),
        description=tensor.text("description"),
        content=_CONTENTS.get(kind, "features"),
        color_space=next((word for word, number in _COLOR_SPACES.items() if number == color), None),
        mean=normalization.floats("mean") if normalization else (),
        std=normalization.floats("std") if normalization else (),
        minimum=stats.floats("min") if stats else (),
        maximum=stats.floats("max") if stats else (),
        labels=tuple(text(files.get(labels[0].text("name"))).splitlines()) if labels else (),
    )


def _converter(content: bytes) -> str:
    """Who converted: "tensorflow 2.21.0", from the converter's own note (conversion_metadata.fbs)."""
    try:
        environment = root(content, ("environment", "options")).table("environment", ("tensorflow_version",))
        return f"tensorflow {environment.text('tensorflow_version')}" if environment else ""
    except DAMAGE:
        return ""
