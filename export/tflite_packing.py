"""A parsed TFLite model written as a file."""

from __future__ import annotations

from typing import Any

import flatbuffers

from edgedl.core.tflite_schema import IDENTIFIER


class _AligningBuilder(flatbuffers.Builder):
    """Aligns byte vectors to 16, as the TFLite schema demands of buffers (`force_align: 16`) and kernels rely on."""

    def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802 (the library's name)
        data = x.tobytes()
        alignment = 16 if x.itemsize == 1 else x.dtype.alignment
        self.StartVector(x.itemsize, x.size, alignment)
        self.head -= len(data)
        self.Bytes[self.head : self.head + len(data)] = data
        self.vectorNumElems = x.size
        return self.EndVector()


def packed(model: Any) -> bytes:
    """A parsed TFLite model as a file's content, buffers aligned as LiteRT wants them."""
    builder = _AligningBuilder(4096)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())
