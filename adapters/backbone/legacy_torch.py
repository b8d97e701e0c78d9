"""A state dict in torch's format before 1.6 as arrays of numpy, without torch and without running a pickle.

Five pickles in a row (magic number, protocol, kind of machine, the state dict, the keys of the storages), and
for each key the number of its elements in eight bytes and these. See `torch.serialization._legacy_save`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from adapters.backbone.plain_pickle import NamedGlobal, OutsideValue, RefusedPickle, UnmadeCall, read_pickle
from adapters.core.protocol import ModelError

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_REBUILD: Final = "torch._utils _rebuild_tensor_v2"
_KINDS: Final[dict[str, np.dtype[Any]]] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch LongStorage": np.dtype("<i8"),
}
_MOST_BYTES: Final = 256 << 20
_MOST_AXES: Final = 8
_COUNT_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class _StoredNumbers:
    """What the state dict says of a storage."""

    kind: np.dtype[Any]
    count: int


def read_legacy_torch(file: Path, remedy: str) -> dict[str, NDArray[Any]]:
    """Return the tensors of a state dict, float32 or int64, in its order; they cannot be written to.

    Args:
        file: to read.
        remedy: what to do about a file that is refused.

    Raises:
        ModelError: it cannot be read, is cut or damaged, or holds anything but tensors.
    """
    try:
        size = file.stat().st_size
        if size > _MOST_BYTES:
            raise ModelError(f"{file}: has {size} bytes, more than the {_MOST_BYTES} that are read; {remedy}")
        return tensors_of(file.read_bytes())
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}; {remedy}") from error
    except RefusedPickle as error:
        raise ModelError(f"{file}: {error}; {remedy}") from error


def tensors_of(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of what such a file holds.

    Raises:
        RefusedPickle: it is cut or damaged, or holds anything but tensors.
    """
    stream = BytesIO(data)
    _require(_is(read_pickle(stream), _MAGIC), 0, "no file of torch's old format")
    _require(_is(read_pickle(stream), _PROTOCOL), stream.tell(), f"not protocol {_PROTOCOL} of torch's files")
    machine = read_pickle(stream)
    little = isinstance(machine, dict) and machine.get("little_endian") is True
    _require(little, stream.tell(), "not written by a little-endian machine")
    at = stream.tell()
    state = read_pickle(stream, (_REBUILD, *_KINDS))
    _require(isinstance(state, dict), at, "no state dict")
    stored: dict[str, _StoredNumbers] = {}
    calls = {name: _checked(name, value, stored, at) for name, value in state.items()}
    at = stream.tell()
    keys = read_pickle(stream)
    listed = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    _require(
        listed and sorted(keys) == sorted(stored), at, "does not list the storages that its tensors name"
    )
    numbers = _storages(data, stream.tell(), {key: stored[key] for key in keys})
    return {name: _tensor(name, call, numbers) for name, call in calls.items()}


def _checked(name: str, value: Any, stored: dict[str, _StoredNumbers], at: int) -> UnmadeCall:
    """Make sure that an entry is a tensor, and note its storage."""
    if not isinstance(value, UnmadeCall) or value.function.name != _REBUILD:
        raise RefusedPickle(at, f"{name[:80]!r} is no tensor")
    at = value.position
    # Storage, offset, size, strides, whether it has a gradient, and hooks.
    _require(len(value.arguments) == 6, at, f"tensor {name[:80]!r} has not six arguments")
    storage = value.arguments[0]
    if not isinstance(storage, OutsideValue):
        raise RefusedPickle(at, f"tensor {name[:80]!r} has no storage")
    kind: str
    match storage.identifier:
        case ("storage", NamedGlobal(kind), str(key), str(), int(count), None):
            pass
        case _:
            raise RefusedPickle(storage.position, "names no storage as torch does")
    known = kind in _KINDS and type(count) is int and count >= 0
    _require(known, storage.position, "a storage of anything but float32 or int64 numbers")
    found = _StoredNumbers(_KINDS[kind], count)
    first = stored.setdefault(key, found)
    same = (first.kind, first.count) == (found.kind, found.count)
    _require(same, storage.position, f"storage {key[:40]!r} is of two kinds or sizes")
    return value


def _storages(data: bytes, start: int, stored: dict[str, _StoredNumbers]) -> dict[str, NDArray[Any]]:
    """Return the numbers of each storage, in the order in which they lie in the file from `start` on."""
    found = {}
    for key, what in stored.items():
        end = start + _COUNT_BYTES
        count = int.from_bytes(data[start:end], "little", signed=True)
        _require(end <= len(data), start, f"the file ends before storage {key[:40]!r}")
        _require(count == what.count, start, f"storage {key[:40]!r} has {count} numbers, not {what.count}")
        start, end = end, end + count * what.kind.itemsize
        _require(end <= len(data), start, f"the file ends within storage {key[:40]!r}: it is too short")
        found[key] = np.frombuffer(data, what.kind, count, start)
        start = end
    _require(start == len(data), start, f"{len(data) - start} bytes more than its storages have")
    return found


def _tensor(name: str, call: UnmadeCall, numbers: dict[str, NDArray[Any]]) -> NDArray[Any]:
    storage, offset, size, strides, _, hooks = call.arguments
    at, short = call.position, name[:80]
    whole = _wholes((offset,)) and _wholes(size) and _wholes(strides)
    _require(whole, at, f"tensor {short!r}: offset, size or strides are no whole numbers from 0 on")
    _require(len(size) == len(strides) <= _MOST_AXES, at, f"tensor {short!r}: size and strides do not fit")
    _require(hooks == {}, at, f"tensor {short!r} has hooks")
    held = numbers[storage.identifier[2]]
    # With more elements than its storage it would repeat some, and a small file could fill the memory.
    inside = math.prod(size) <= len(held)
    if inside and 0 not in size:
        reach = sum((many - 1) * step for many, step in zip(size, strides, strict=True))
        inside = offset + reach < len(held)
    _require(inside, at, f"tensor {short!r} reaches beyond its storage of {len(held)} numbers")
    if 0 in size:
        return np.zeros(size, held.dtype)
    width = held.dtype.itemsize
    return np.ndarray(size, held.dtype, held, offset * width, tuple(step * width for step in strides))


def _wholes(values: Any) -> bool:
    """Whether these are whole numbers that an array can have."""
    return isinstance(values, tuple) and all(type(one) is int and 0 <= one <= _MOST_BYTES for one in values)


def _is(value: Any, number: int) -> bool:
    return type(value) is int and value == number


def _require(condition: bool, position: int, reason: str) -> None:
    if not condition:
        raise RefusedPickle(position, reason)
