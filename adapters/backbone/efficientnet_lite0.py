"""EfficientNet-Lite0 as an ONNX graph that ends in patch features.

M. Tan and Q. Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019,
https://arxiv.org/abs/1905.11946; the "Lite" form has ReLU6 and no squeeze-and-excitation
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite). Names of tensors are those
of the first port to PyTorch, which the package of the weights has. Patch features as in PatchCore: K. Roth et
al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022, https://arxiv.org/abs/2106.08265.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from adapters.backbone.graph_writer import GraphWriter
from adapters.core.protocol import Floats

LAYERS: Final = (2, 4)
"""Stages whose outputs are features: strides 8 and 16, 40 and 112 channels. The first has the finest grid."""
MEAN, DEVIATION = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
"""Of pictures in 0..1: it was trained on -1..1."""

_NORM_EPSILON: Final = 1e-3  # TensorFlow's; that of PyTorch is 1e-5
_STEM_CHANNELS: Final = 32
_LEAST_RMS: Final = 1e-6

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Stage:
    """Blocks of one kind; the first of them has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES: Final = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """Shape of the patch features of one picture."""

    grid: tuple[int, int]
    channels: int


def layout(size: int) -> FeatureLayout:
    """Return the shape of the features of a square picture of `size` pixels."""
    side = size
    for stride in (2, *(stage.stride for stage in _STAGES[: LAYERS[0] + 1])):
        side = -(-side // stride)
    return FeatureLayout((side, side), sum(_STAGES[layer].channels for layer in LAYERS))


def graph_of(tensors: Tensors, size: int) -> bytes:
    """Return the graph: from ``images`` ``(N, 3, S, S)`` to ``patches`` ``(N, h, w, D)``, both float32.

    Each layer's outputs are averaged over 3x3 places, brought to the grid of the finest, and divided by their
    root mean square over the picture, so that none outweighs the others.

    Args:
        tensors: of the network, by the names of its first port to PyTorch.
        size: S, side of the pictures in pixels.

    Raises:
        ValueError: a tensor is missing, has another shape, or numbers that are none.
    """
    graph, found = GraphWriter(), layout(size)
    network = _Network(graph, tensors, size)
    outputs = network.run("images")
    features = [_features(graph, output, found.grid, name == LAYERS[0]) for name, output in outputs.items()]
    joined = graph.node("Concat", features, axis=1)
    patches = graph.node("Transpose", [joined], perm=(0, 2, 3, 1))
    shape = ("n", *found.grid, found.channels)
    return graph.model({"images": ("n", 3, size, size)}, {"patches": (patches, shape)})


def _features(graph: GraphWriter, value: str, grid: tuple[int, int], finest: bool) -> str:
    # As torch's avg_pool2d: places beyond the edge count as zeros.
    value = graph.node(
        "AveragePool", [value], kernel_shape=(3, 3), pads=(1, 1, 1, 1), strides=(1, 1), count_include_pad=1
    )
    if not finest:
        sizes = graph.constant(np.array(grid, np.int64))
        value = graph.node(
            "Resize",
            [value, "", "", sizes],
            axes=(2, 3),
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
    axes = graph.constant(np.array([1, 2, 3], np.int64))
    power = graph.node("ReduceMean", [graph.node("Mul", [value, value]), axes], keepdims=1)
    length = graph.node(
        "Max", [graph.node("Sqrt", [power]), graph.constant(np.array(_LEAST_RMS, np.float32))]
    )
    return graph.node("Div", [value, length])


class _Network:
    """The network as it is added to a graph. Owns how large the picture is by now."""

    def __init__(self, graph: GraphWriter, tensors: Tensors, size: int) -> None:
        self._graph, self._tensors, self._side = graph, tensors, size
        self._zero = graph.constant(np.array(0, np.float32))
        self._six = graph.constant(np.array(6, np.float32))

    def run(self, value: str) -> dict[int, str]:
        """Add stem and stages up to the last layer, and return the outputs of the layers."""
        value = self._relu6(self._convolution(value, "_conv_stem", "_bn0", (_STEM_CHANNELS, 3, 3, 3), 2))
        channels, number, outputs = _STEM_CHANNELS, 0, {}
        for index, stage in enumerate(_STAGES[: max(LAYERS) + 1]):
            for place in range(stage.blocks):
                value = self._block(
                    value, f"_blocks.{number}.", stage, channels, stage.stride if place == 0 else 1
                )
                channels, number = stage.channels, number + 1
            if index in LAYERS:
                outputs[index] = value
        return outputs

    def _block(self, value: str, name: str, stage: _Stage, channels: int, stride: int) -> str:
        """Add an inverted residual block."""
        start, wide = value, channels * stage.expansion
        if stage.expansion > 1:
            value = self._convolution(value, f"{name}_expand_conv", f"{name}_bn0", (wide, channels, 1, 1), 1)
            value = self._relu6(value)
        shape = (wide, 1, stage.kernel, stage.kernel)
        value = self._convolution(value, f"{name}_depthwise_conv", f"{name}_bn1", shape, stride)
        value = self._relu6(value)
        value = self._convolution(
            value, f"{name}_project_conv", f"{name}_bn2", (stage.channels, wide, 1, 1), 1
        )
        same = stride == 1 and channels == stage.channels
        return self._graph.node("Add", [value, start]) if same else value

    def _convolution(self, value: str, name: str, norm: str, shape: tuple[int, ...], stride: int) -> str:
        """Add a convolution with the batch norm behind it folded into it."""
        weight, bias = self._folded(name, norm, shape)
        kernel, side = shape[-1], self._side
        self._side = -(-side // stride)
        # TensorFlow's "same": where the padding is odd, the larger half is behind.
        padding = max((self._side - 1) * stride + kernel - side, 0)
        before, after = padding // 2, padding - padding // 2
        return self._graph.node(
            "Conv",
            [value, self._graph.constant(weight), self._graph.constant(bias)],
            kernel_shape=(kernel, kernel),
            strides=(stride, stride),
            pads=(before, before, after, after),
            group=shape[0] if shape[1] == 1 else 1,
        )

    def _folded(self, name: str, norm: str, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
        weight = self._tensor(f"{name}.weight", shape)
        scale, shift, mean, variance = (
            self._tensor(f"{norm}.{part}", shape[:1])
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if variance.min() < 0:
            raise ValueError(f"tensor {norm}.running_var has a negative variance")
        scale = scale / np.sqrt(variance + _NORM_EPSILON)
        folded = weight * scale[:, np.newaxis, np.newaxis, np.newaxis]
        return folded.astype(np.float32), (shift - mean * scale).astype(np.float32)

    def _tensor(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ValueError(f"tensor {name} is missing")
        if tensor.shape != shape:
            raise ValueError(f"tensor {name} has shape {tensor.shape}, not {shape}")
        if not np.isfinite(tensor).all():
            raise ValueError(f"tensor {name} holds numbers that are not finite")
        return tensor.astype(np.float64)

    def _relu6(self, value: str) -> str:
        return self._graph.node("Clip", [value, self._zero, self._six])
