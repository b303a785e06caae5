"""Tables of a flatbuffer whose schema has no generated code: written and read by the order of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flatbuffers
import flatbuffers.number_types as types
from flatbuffers.table import Table

from edgedl.core.tflite_schema import text


@dataclass(frozen=True)
class Byte:
    """A scalar of 8 bits."""

    value: int


@dataclass(frozen=True)
class UInt:
    """A scalar of 32 bits."""

    value: int


@dataclass(frozen=True)
class Node:
    """A table to write. fields: all that its schema has, in order. values: str, Byte, UInt, Node, or a non-empty list
    of Node or of float."""

    fields: tuple[str, ...]
    values: Mapping[str, Any]


def node(fields: tuple[str, ...], **values: Any) -> Node:
    """A table of the values that are not empty."""
    return Node(fields, {name: value for name, value in values.items() if value not in (None, "", [])})


def write(builder: flatbuffers.Builder, node: Node) -> int:
    """Write a table after what it refers to; returns its offset."""
    offsets = {name: _write_reference(builder, value) for name, value in node.values.items()}
    builder.StartObject(len(node.fields))
    for name, value in node.values.items():
        slot = node.fields.index(name)
        match value:
            case Byte():
                builder.PrependInt8Slot(slot, value.value, 0)
            case UInt():
                builder.PrependUint32Slot(slot, value.value, 0)
            case _:
                builder.PrependUOffsetTRelativeSlot(slot, offsets[name], 0)
    return builder.EndObject()


def _write_reference(builder: flatbuffers.Builder, value: Any) -> int:
    match value:
        case str():
            return builder.CreateString(value)
        case Node():
            return write(builder, value)
        case [Node(), *_]:
            items = [write(builder, item) for item in value]
            builder.StartVector(4, len(items), 4)
            for item in reversed(items):
                builder.PrependUOffsetTRelative(item)
            return builder.EndVector()
        case list():
            builder.StartVector(4, len(value), 4)
            for item in reversed(value):
                builder.PrependFloat32(item)
            return builder.EndVector()
        case _:
            return 0  # a scalar lies in the table itself


class Reader:
    """A table to read; an absent field is empty."""

    def __init__(self, fields: tuple[str, ...], table: Table) -> None:
        self._fields, self._table = fields, table

    def _offset(self, name: str) -> int:
        return self._table.Offset(4 + 2 * self._fields.index(name))

    def text(self, name: str) -> str:
        """A string."""
        offset = self._offset(name)
        return text(self._table.String(self._table.Pos + offset)) if offset else ""

    def number(self, name: str) -> int:
        """A scalar of 8 bits."""
        offset = self._offset(name)
        return self._table.Get(types.Int8Flags, self._table.Pos + offset) if offset else 0

    def floats(self, name: str) -> tuple[float, ...]:
        """A vector of float32."""
        offset = self._offset(name)
        if not offset:
            return ()
        return tuple(float(one) for one in self._table.GetVectorAsNumpy(types.Float32Flags, offset))

    def table(self, name: str, fields: tuple[str, ...]) -> Reader | None:
        """The table that is referred to."""
        offset = self._offset(name)
        if not offset:
            return None
        return Reader(fields, Table(self._table.Bytes, self._table.Indirect(self._table.Pos + offset)))

    def tables(self, name: str, fields: tuple[str, ...]) -> list[Reader]:
        """A vector of tables."""
        offset = self._offset(name)
        if not offset:
            return []
        start = self._table.Vector(offset)
        places = range(start, start + 4 * self._table.VectorLen(offset), 4)
        return [Reader(fields, Table(self._table.Bytes, self._table.Indirect(place))) for place in places]


def root(content: bytes, fields: tuple[str, ...]) -> Reader:
    """The flatbuffer's first table."""
    return Reader(fields, Table(content, int.from_bytes(content[:4], "little")))
