"""A tower of a bundle on OpenVINO, its LayerNorms given with every call."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adapters.core.protocol import Floats, ModelError

_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoTower:
    """Owns one request to a compiled model; calls that meet take turns.

    Args:
        file: the graph, as a bundle has it.
        norms: names of its LayerNorm tensors.
        each: they have a row for each picture, or one for all.
        precision: what it computes in. OpenVINO would otherwise take bf16 wherever the processor has it.
        threads: CPU threads; None leaves it to OpenVINO.

    Raises:
        ModelError: OpenVINO is missing or cannot run the graph, or the processor cannot do the precision.

    Attributes:
        shapes: of the LayerNorm tensors for one picture.
    """

    def __init__(
        self,
        file: Path,
        norms: Collection[str],
        *,
        each: bool,
        precision: Literal["fp32", "bf16"],
        threads: int | None,
    ) -> None:
        openvino = load_openvino()
        version = openvino.__version__.partition("-")[0]
        core = openvino_core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ModelError(
                "precision bf16: this processor has neither AVX-512-BF16 nor AMX: leave precision out"
            )
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            # Its threads share their cores with the cameras: the system decides where each runs.
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(str(file))
            self.shapes = _take_out(openvino, model, norms, each=each)
            if missing := sorted(set(norms) - self.shapes.keys()):
                raise ModelError(f"{file}: openvino {version} finds no {missing[0]} in it")
            compiled = core.compile_model(model, "CPU", options)
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:200]
            hint = " (a service with MemoryDenyWriteExecute?)" if "protect" in reason else ""
            raise ModelError(f"{file}: openvino {version} cannot run it: {reason}{hint}") from error
        self._argument = model.input(0).get_any_name()
        self._tensor = openvino.Tensor
        self._turn = threading.Lock()

    def run(self, argument: NDArray[Any], norms: Mapping[str, Floats]) -> Floats:
        """Return ``(N, D)`` features of pictures or tokens seen with LayerNorms of `shapes`."""
        # Copied: OpenVINO would write to memory that it shares, and an adapter is read-only.
        given = {name: self._tensor(np.ascontiguousarray(norms[name])) for name in self.shapes}
        given[self._argument] = self._tensor(np.ascontiguousarray(argument))
        with self._turn:
            for name, tensor in given.items():
                self._request.set_tensor(name, tensor)
            self._request.infer()
            features: Floats = np.array(self._request.get_output_tensor(0).data)
        return features


def load_openvino() -> Any:
    """Return the package `openvino`, without what it would tell its makers.

    Raises:
        ModelError: it is not installed, or cannot be loaded.
    """
    # Importing openvino tells Google Analytics that it was imported, unless this package is absent: then it
    # has a stub. A line PC calls nobody.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as Python documents it
    try:
        import openvino
    except ImportError as error:
        raise ModelError(
            f"OpenVINO cannot be loaded ({error}): pip install 'mekiki[openvino]', or set engine: onnx"
        ) from error
    return openvino


@cache
def openvino_core() -> Any:
    """Return OpenVINO's core, one for the life of the process.

    Its plug-in takes over SIGINT and hands it on to Python. With the last core it would be unloaded,
    and the next Ctrl-C would jump to where it was.
    """
    return load_openvino().Core()


def _take_out(openvino: Any, model: Any, norms: Collection[str], *, each: bool) -> dict[str, tuple[int, ...]]:
    """Make inputs of the LayerNorms that are constants of a model; return those found, with their shapes."""
    found: dict[str, Any] = {}
    shapes = {}
    for constant in model.get_ops():
        name = constant.get_friendly_name()
        if constant.get_type_name() != "Constant" or name not in norms:
            continue
        shapes[name] = tuple(constant.output(0).get_shape())
        free = [-1, *shapes[name][1:]] if each else list(shapes[name])
        parameter = openvino.op.Parameter(openvino.Type.f32, openvino.PartialShape(free))
        parameter.set_friendly_name(name)
        parameter.output(0).set_names({name})
        for reader in _readers(constant):
            reader.replace_source_output(parameter.output(0))
        found[name] = parameter
    model.add_parameters(list(found.values()))
    model.validate_nodes_and_infer_types()
    return shapes


def _readers(constant: Any) -> list[Any]:
    """Return what computes with a constant."""
    readers: list[Any] = []
    for target in constant.output(0).get_target_inputs():
        node = target.get_node()
        # OpenVINO reads a LayerNorm over the last dimension by making its gain flat first, which is nothing
        # to a constant, but rows for several pictures would not fit through it.
        flat = node.get_type_name() == "Reshape" and node.output(0).get_partial_shape().rank.get_length() == 1
        readers += node.output(0).get_target_inputs() if flat else [target]
    return readers
