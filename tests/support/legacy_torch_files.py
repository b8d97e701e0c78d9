"""Files in torch's old format, written opcode by opcode: good ones, and such as torch would never write."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
_NAMES = {"f4": "FloatStorage", "i8": "LongStorage", "f8": "DoubleStorage"}


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One entry; `said` is how many numbers the state dict says its storage has, where it lies."""

    key: str
    numbers: np.ndarray[Any, Any]
    size: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    said: int | None = None
    hooks: dict[str, Any] = field(default_factory=dict)


def whole(value: Any) -> bytes:
    """Return a pickle of a plain value, as torch writes it."""
    return pickle.dumps(value, 2)


def inside(value: Any) -> bytes:
    """Return the opcodes of a plain value, without those around it; what it remembers it does not recall."""
    return whole(value)[2:-1]


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<i", len(data)) + data


def op_global(name: str) -> bytes:
    return b"c" + name.replace(" ", "\n").encode() + b"\n"


def raw_file(state: bytes) -> bytes:
    """Return a file whose state dict is any pickle, and that has no storages."""
    return whole(MAGIC) + whole(1001) + whole({"little_endian": True}) + state + whole([])


def legacy_file(tensors: Mapping[str, Tensor], keys: Sequence[Any] | None = None) -> bytes:
    """Return a file with these tensors; `keys`: the storages that it lists, where not theirs."""
    ordered = op_global("collections OrderedDict") + b")R"
    state = b"\x80\x02" + ordered + b"("
    stored: dict[str, np.ndarray[Any, Any]] = {}
    for name, one in tensors.items():
        stored.setdefault(one.key, one.numbers)
        said = len(one.numbers) if one.said is None else one.said
        kind = op_global(f"torch {_NAMES[one.numbers.dtype.str[1:]]}")
        storage = b"(" + text("storage") + kind + text(one.key) + text("cpu") + inside(said) + b"NtQ"
        hooks = inside(one.hooks) if one.hooks else ordered
        arguments = b"(" + storage + b"".join(map(inside, (one.offset, one.size, one.strides, False)))
        state += text(name) + op_global("torch._utils _rebuild_tensor_v2") + arguments + hooks + b"tR"
    head = whole(MAGIC) + whole(1001) + whole({"little_endian": True}) + state + b"u."
    data = head + whole(sorted(stored) if keys is None else list(keys))
    for key in sorted(stored):
        data += struct.pack("<q", len(stored[key])) + stored[key].tobytes()
    return data
