"""A .tflite file without what only people read: metadata, labels, and the names of tensors inside the graph."""

from __future__ import annotations

from pathlib import Path

from edgedl.core.files import write_atomically
from edgedl.core.tflite_schema import listed, read_tflite, text
from edgedl.export.metadata import BUFFER
from edgedl.export.tflite_packing import packed

READ_BY_PEOPLE = {BUFFER, "CONVERSION_METADATA"}


def strip_tflite(path: Path) -> int:
    """Strip the file in place; bytes saved. Its answers, signatures and the names of inputs and outputs stay.

    Raises ModelError when it is no TFLite model.
    """
    content = path.read_bytes()
    model = read_tflite(content, path.name)
    for entry in listed(model.metadata):
        if text(entry.name) in READ_BY_PEOPLE:
            model.buffers[entry.buffer].data = None
    model.metadata = [one for one in listed(model.metadata) if text(one.name) not in READ_BY_PEOPLE]
    for graph in model.subgraphs:
        seen = {*listed(graph.inputs), *listed(graph.outputs)}
        for number, tensor in enumerate(graph.tensors):
            if number not in seen:
                tensor.name = None
    bare = packed(model)
    write_atomically(path, bare)
    return len(content) - len(bare)
