"""What this machine can do at best: the rate of a matrix product, of memory, and what a model asks of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper
from torch.utils.flop_counter import FlopCounterMode

from adapters.torch_model.clip import Clip

SIDE = 1536
BYTES = 400_000_000


@dataclass(frozen=True, slots=True)
class Floor:
    """One thread of this machine.

    Attributes:
        matrix_gflops: of a square fp32 product, the faster of ONNX Runtime's and torch's.
        memory_gbytes: read and written a second by a copy.
    """

    matrix_gflops: float
    memory_gbytes: float

    def picture_ms(self, gflop: float) -> float:
        """Return how long so many operations take at the rate of a matrix product."""
        return 1e3 * gflop / self.matrix_gflops


def measure() -> Floor:
    """Measure both, the best of several tries: a floor is what nothing falls below."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((SIDE, SIDE), dtype=np.float32) for _ in range(2))
    session = _product(right)
    a, b = torch.from_numpy(left), torch.from_numpy(right)
    seconds = min(_best(lambda: session.run(None, {"a": left})), _best(lambda: a @ b))
    source, target = np.ones(BYTES // 4, np.float32), np.empty(BYTES // 4, np.float32)
    copied = _best(lambda: np.copyto(target, source))
    return Floor(2 * SIDE**3 / seconds / 1e9, 2 * BYTES / copied / 1e9)


def gflop_of_a_picture(clip: Clip) -> float:
    """Return the operations of one picture through the image tower, a multiplication and addition being two."""
    side = clip.info.preprocess.size
    # What torch does in one fused call is not counted.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            clip.encode_image(torch.zeros(1, 3, side, side), {}, "short")
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return float(counter.get_total_flops()) / 1e9


def _product(right: np.ndarray) -> ort.InferenceSession:
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    shape = [SIDE, SIDE]
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(right, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _best(call: Callable[[], object], rounds: int = 9) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times[1:])
