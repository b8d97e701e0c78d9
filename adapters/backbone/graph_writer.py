"""An ONNX graph written as bytes, without the package `onnx`: the few messages of its format that we need.

The format is protobuf's (https://protobuf.dev/programming-guides/encoding/); the numbers of the fields are
those of `onnx.proto` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). The same calls give the same
bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

OPSET: Final = 18
_IR_VERSION: Final = 8  # what goes with operators of that number
_TYPES: Final = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}

Attribute = int | float | str | Sequence[int]
Shape = Sequence[int | str]
"""A text is the name of a length that may differ between calls."""


class GraphWriter:
    """A graph that grows node by node; owned by whoever makes it."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._count = 0

    def constant(self, value: NDArray[Any]) -> str:
        """Add numbers, float32, int32, int64, int8 or uint8, and return their name."""
        name = self._new_name("constant")
        dimensions = b"".join(_number(1, length) for length in value.shape)
        kind = _number(2, _TYPES[value.dtype.name])
        raw = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()
        self._constants.append(_bytes(5, dimensions + kind + _text(8, name) + _bytes(9, raw)))
        return name

    def node(self, operator: str, inputs: Iterable[str], **attributes: Attribute) -> str:
        """Add a node with one output, and return its name; an empty input is one that is left out."""
        name = self._new_name(operator.lower())
        fields = (
            b"".join(_text(1, one) for one in inputs) + _text(2, name) + _text(3, name) + _text(4, operator)
        )
        fields += b"".join(_bytes(5, _attribute(key, value)) for key, value in attributes.items())
        self._nodes.append(_bytes(1, fields))
        return name

    def model(self, inputs: dict[str, Shape], outputs: dict[str, tuple[str, Shape]]) -> bytes:
        """Return the whole file.

        Args:
            inputs: shapes of float32 inputs by their names.
            outputs: by the name that each gets: of which value, and its shape.
        """
        nodes = list(self._nodes)
        for name, (value, _) in outputs.items():
            nodes.append(_bytes(1, _text(1, value) + _text(2, name) + _text(3, name) + _text(4, "Identity")))
        graph = b"".join((*nodes, _text(2, "backbone"), *self._constants))
        graph += b"".join(_bytes(11, _value(name, shape)) for name, shape in inputs.items())
        graph += b"".join(_bytes(12, _value(name, shape)) for name, (_, shape) in outputs.items())
        opset = _text(1, "") + _number(2, OPSET)
        return _number(1, _IR_VERSION) + _text(2, "mekiki") + _bytes(7, graph) + _bytes(8, opset)

    def _new_name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"


def _attribute(name: str, value: Attribute) -> bytes:
    head = _text(1, name)
    if isinstance(value, str):
        return head + _text(4, value) + _number(20, 3)
    if isinstance(value, float):
        return head + _key(2, 5) + struct.pack("<f", value) + _number(20, 1)
    if isinstance(value, int):
        return head + _number(3, value) + _number(20, 2)
    return head + b"".join(_number(8, one) for one in value) + _number(20, 7)


def _value(name: str, shape: Shape) -> bytes:
    lengths = (_number(1, one) if isinstance(one, int) else _text(2, one) for one in shape)
    tensor = _number(1, _TYPES["float32"]) + _bytes(2, b"".join(_bytes(1, length) for length in lengths))
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value


def _number(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value & (1 << 64) - 1)  # a negative one has all 64 bits


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
