"""The numbers of a bundle's graphs in one file per tower: equal ones stand there once. For the builder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType

import numpy as np
import onnx_ir as ir
from onnx_ir.convenience import replace_all_uses_with

INLINE = 1024
"""Numbers below which a tensor stays in its graph."""

_ALIGNMENT = 4096
"""ONNX Runtime maps what begins on a page instead of copying it."""


class Weights:
    """Owns a file while graphs are written that refer to it; a context, which closes it.

    Args:
        file: to make; graphs that refer to it lie in the same folder.
    """

    def __init__(self, file: Path) -> None:
        self._path = file
        self._file = file.open("wb")
        self._known: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> Weights:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def move_out(self, graph: ir.Graph) -> None:
        """Move every large initialiser into the file, and halve what a float16 holds exactly.

        A float16 is cast back in the graph, which ONNX Runtime does once, when it loads.
        """
        for name, value in list(graph.initializers.items()):
            assert value.const_value is not None
            numbers = value.const_value.numpy()
            if numbers.size < INLINE or value in graph.inputs:
                continue
            half = _as_half(numbers)
            if half is None:
                value.const_value = self._put(numbers, name)
                continue
            del graph.initializers[name]
            stored = ir.Value(name=f"{name}.half", const_value=self._put(half, f"{name}.half"))
            graph.register_initializer(stored)
            cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT})
            replace_all_uses_with(value, cast.outputs[0])
            graph.insert_before(graph[0], cast)

    def _put(self, numbers: np.ndarray, name: str) -> ir.ExternalTensor:
        content = np.ascontiguousarray(numbers).tobytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self._known:
            self._file.write(b"\0" * (-self._file.tell() % _ALIGNMENT))
            self._known[digest] = self._file.tell(), len(content)
            self._file.write(content)
            self._file.flush()
        offset, length = self._known[digest]
        return ir.ExternalTensor(
            self._path.name,
            offset,
            length,
            ir.DataType.from_numpy(numbers.dtype),
            shape=ir.Shape(numbers.shape),
            name=name,
            base_dir=str(self._path.parent),
        )


def _as_half(numbers: np.ndarray) -> np.ndarray | None:
    if numbers.dtype != np.float32:
        return None
    with np.errstate(over="ignore"):
        half = numbers.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), numbers) else None
