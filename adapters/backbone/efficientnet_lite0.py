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
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from adapters.backbone.arithmetic import Arithmetic, FloatArithmetic, Int8Arithmetic, Spread
from adapters.backbone.graph_writer import GraphWriter
from adapters.core.protocol import Floats

LAYERS: Final = (1, 2, 4)
"""Stages whose outputs are features: strides 4, 8 and 16 with 24, 40 and 112 channels."""
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


_GRID_OF: Final = 2
"""The stage whose places are those of the features."""


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """Shape of the patch features of one picture; `layers` has the channels of each layer."""

    grid: tuple[int, int]
    layers: tuple[int, ...]


def layout(size: int) -> FeatureLayout:
    """Return the shape of the features of a square picture of `size` pixels."""
    side = _side(_GRID_OF, size)
    return FeatureLayout((side, side), tuple(_STAGES[layer].channels for layer in LAYERS))


def graph_of(tensors: Tensors, size: int, precision: Literal["fp32", "int8"] = "fp32") -> bytes:
    """Return the graph: from ``images`` ``(N, 3, S, S)`` to ``patches`` ``(N, h, w, D)``, both float32.

    Each layer's outputs are averaged over 3x3 places, brought to one grid, and divided by their root mean
    square over the picture, so that none outweighs the others.

    Args:
        tensors: of the network, by the names of its first port to PyTorch.
        size: S, side of the pictures in pixels.
        precision: of the network; what is made of its layers is float32 always.

    Raises:
        ValueError: a tensor is missing, has another shape, or numbers that are none.
    """
    graph, found = GraphWriter(), layout(size)
    arithmetic = Int8Arithmetic(graph) if precision == "int8" else FloatArithmetic(graph)
    outputs = _Network(arithmetic, tensors, size).run("images")
    features = [_features(graph, outputs[layer], _side(layer, size), found.grid[0]) for layer in LAYERS]
    patches = graph.node("Transpose", [graph.node("Concat", features, axis=1)], perm=(0, 2, 3, 1))
    shape = ("n", *found.grid, sum(found.layers))
    return graph.model({"images": ("n", 3, size, size)}, {"patches": (patches, shape)})


def _side(layer: int, size: int) -> int:
    """Return how many rows of places a layer has."""
    for stride in (2, *(stage.stride for stage in _STAGES[: layer + 1])):
        size = -(-size // stride)
    return size


def _features(graph: GraphWriter, value: str, side: int, grid: int) -> str:
    # Places beyond the edge do not count, or those at the edge would look like others.
    value = _mean(graph, value, 3, 1, (1, 1, 1, 1))
    if side > grid:
        beyond = 2 * grid - side
        value = _mean(graph, value, 2, 2, (0, 0, beyond, beyond))
    elif side < grid:
        sizes = graph.constant(np.array([grid, grid], np.int64))
        value = graph.node(
            "Resize",
            [value, "", "", sizes],
            axes=(2, 3),
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
    axes = graph.constant(np.array([1, 2, 3], np.int64))
    power = graph.node("ReduceMean", [graph.node("Mul", [value, value]), axes], keepdims=1)
    least = graph.constant(np.array(_LEAST_RMS, np.float32))
    return graph.node("Div", [value, graph.node("Max", [graph.node("Sqrt", [power]), least])])


def _mean(graph: GraphWriter, value: str, kernel: int, stride: int, pads: tuple[int, ...]) -> str:
    shape, strides = (kernel, kernel), (stride, stride)
    return graph.node(
        "AveragePool", [value], kernel_shape=shape, strides=strides, pads=pads, count_include_pad=0
    )


class _Network:
    """The network as it is added to a graph. Owns how large the picture is by now."""

    def __init__(self, arithmetic: Arithmetic, tensors: Tensors, size: int) -> None:
        self._arithmetic, self._tensors, self._side = arithmetic, tensors, size
        self._spreads: dict[str, Spread] = {}

    def run(self, value: str) -> dict[int, str]:
        """Add stem and stages up to the last layer, and return the outputs of the layers."""
        value = self._arithmetic.start(value)
        value = self._convolution(value, "_conv_stem", "_bn0", (_STEM_CHANNELS, 3, 3, 3), 2, relu6=True)
        channels, number, outputs = _STEM_CHANNELS, 0, {}
        for index, stage in enumerate(_STAGES[: max(LAYERS) + 1]):
            for place in range(stage.blocks):
                stride = stage.stride if place == 0 else 1
                value = self._block(value, f"_blocks.{number}.", stage, channels, stride)
                channels, number = stage.channels, number + 1
            if index in LAYERS:
                outputs[index] = value
        return outputs

    def _block(self, value: str, name: str, stage: _Stage, channels: int, stride: int) -> str:
        """Add an inverted residual block."""
        start, wide = value, channels * stage.expansion
        if stage.expansion > 1:
            shape: tuple[int, ...] = (wide, channels, 1, 1)
            value = self._convolution(value, f"{name}_expand_conv", f"{name}_bn0", shape, 1, relu6=True)
        shape = (wide, 1, stage.kernel, stage.kernel)
        value = self._convolution(value, f"{name}_depthwise_conv", f"{name}_bn1", shape, stride, relu6=True)
        shape = (stage.channels, wide, 1, 1)
        value = self._convolution(value, f"{name}_project_conv", f"{name}_bn2", shape, 1, relu6=False)
        if stride != 1 or channels != stage.channels:
            return value
        spread = self._spreads[start] + self._spreads[value]
        value = self._arithmetic.add(start, value, spread.limits)
        self._spreads[value] = spread
        return value

    def _convolution(
        self, value: str, name: str, norm: str, shape: tuple[int, ...], stride: int, *, relu6: bool
    ) -> str:
        """Add a convolution with the batch norm behind it folded into it."""
        weight, bias, spread = self._folded(name, norm, shape)
        kernel, side = shape[-1], self._side
        self._side = -(-side // stride)
        # TensorFlow's "same": where the padding is odd, the larger half is behind.
        padding = max((self._side - 1) * stride + kernel - side, 0)
        before, after = padding // 2, padding - padding // 2
        value = self._arithmetic.convolution(
            value,
            weight,
            bias,
            None if relu6 else spread.limits,
            kernel_shape=(kernel, kernel),
            strides=(stride, stride),
            pads=(before, before, after, after),
            group=shape[0] if shape[1] == 1 else 1,
        )
        self._spreads[value] = spread
        return value

    def _folded(self, name: str, norm: str, shape: tuple[int, ...]) -> tuple[Floats, Floats, Spread]:
        weight = self._tensor(f"{name}.weight", shape)
        gain, shift, mean, variance = (
            self._tensor(f"{norm}.{part}", shape[:1])
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if variance.min() < 0:
            raise ValueError(f"tensor {norm}.running_var has a negative variance")
        scale = gain / np.sqrt(variance + _NORM_EPSILON)
        folded = weight * scale[:, np.newaxis, np.newaxis, np.newaxis]
        bias = (shift - mean * scale).astype(np.float32)
        return folded.astype(np.float32), bias, Spread(shift, gain**2)

    def _tensor(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ValueError(f"tensor {name} is missing")
        if tensor.shape != shape:
            raise ValueError(f"tensor {name} has shape {tensor.shape}, not {shape}")
        if not np.isfinite(tensor).all():
            raise ValueError(f"tensor {name} holds numbers that are not finite")
        return tensor.astype(np.float64)
