"""What a network of convolutions computes in: float32, or 8-bit integers with scales that are fixed.

In int8 each value has one scale, and weights have one for each output channel. Scales are known without
pictures: of what ReLU6 gives the range is 0..6, and of what a batch norm gives, mean and variance of each
channel stand in the weights (M. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias
Correction, ICCV 2019, https://arxiv.org/abs/1906.04721). So the same weights give the same graph anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from adapters.backbone.graph_writer import Attribute, GraphWriter
from adapters.core.protocol import Floats

Limits = tuple[float, float]

_RELU6: Final[Limits] = (0.0, 6.0)
_PICTURE: Final[Limits] = (-1.0, 1.0)
_DEVIATIONS: Final = 6.0
"""How far from its mean a channel may be before it is cut off."""
_MOST_WEIGHT: Final = 63
"""Seven bits: on processors without VNNI sums of products of eight overflow."""


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Mean and variance of each channel of a value, as training met them."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    def __add__(self, other: Spread) -> Spread:
        return Spread(self.mean + other.mean, self.variance + other.variance)

    @property
    def limits(self) -> Limits:
        """Between which values of all channels lie, but for a few."""
        reach = _DEVIATIONS * np.sqrt(self.variance)
        return float((self.mean - reach).min()), float((self.mean + reach).max())


class Arithmetic(Protocol):
    """How the values of a network are computed; limits are those of the result, None for ReLU6."""

    def start(self, value: str) -> str:
        """Take a picture's pixels in -1..1."""

    def convolution(
        self, value: str, weight: Floats, bias: Floats, limits: Limits | None, **attributes: Attribute
    ) -> str:
        """Add a convolution, with ReLU6 behind it where there are no limits."""

    def add(self, one: str, other: str, limits: Limits) -> str:
        """Add a sum."""


class FloatArithmetic:
    """An `Arithmetic` in float32."""

    def __init__(self, graph: GraphWriter) -> None:
        self._graph = graph
        self._ends = [graph.constant(np.array(end, np.float32)) for end in _RELU6]

    def start(self, value: str) -> str:
        """See `Arithmetic.start`."""
        return value

    def convolution(
        self, value: str, weight: Floats, bias: Floats, limits: Limits | None, **attributes: Attribute
    ) -> str:
        """See `Arithmetic.convolution`."""
        numbers = (self._graph.constant(one) for one in (weight, bias))
        value = self._graph.node("Conv", [value, *numbers], **attributes)
        return self._graph.node("Clip", [value, *self._ends]) if limits is None else value

    def add(self, one: str, other: str, limits: Limits) -> str:
        """See `Arithmetic.add`."""
        return self._graph.node("Add", [one, other])


class Int8Arithmetic:
    """An `Arithmetic` whose values are made 8-bit integers and floats again: a runtime joins what is between.

    Owns the scales of the values.
    """

    def __init__(self, graph: GraphWriter) -> None:
        self._graph = graph
        self._scales: dict[str, np.float32] = {}

    def start(self, value: str) -> str:
        """See `Arithmetic.start`."""
        return self._rounded(value, _PICTURE)

    def convolution(
        self, value: str, weight: Floats, bias: Floats, limits: Limits | None, **attributes: Attribute
    ) -> str:
        """See `Arithmetic.convolution`."""
        largest = np.abs(weight).max(axis=(1, 2, 3))
        scale = np.maximum(largest / np.float32(_MOST_WEIGHT), np.float32(1e-12))
        whole = np.rint(weight / scale[:, np.newaxis, np.newaxis, np.newaxis]).astype(np.int8)
        # What the runtime adds to sums of products has their scale.
        sums = scale * self._scales[value]
        most = np.iinfo(np.int32).max >> 1
        shift = np.clip(np.rint(bias.astype(np.float64) / sums), -most, most).astype(np.int32)
        numbers = [self._stored(whole, scale), self._stored(shift, sums)]
        found = self._graph.node("Conv", [value, *numbers], **attributes)
        # Rounding to 0..6 cuts off what ReLU6 does.
        return self._rounded(found, _RELU6 if limits is None else limits)

    def add(self, one: str, other: str, limits: Limits) -> str:
        """See `Arithmetic.add`."""
        return self._rounded(self._graph.node("Add", [one, other]), limits)

    def _stored(self, whole: NDArray[Any], scale: Floats) -> str:
        """Add whole numbers with a scale for each channel."""
        zero = np.zeros(len(scale), whole.dtype)
        return self._graph.node(
            "DequantizeLinear", [self._graph.constant(one) for one in (whole, scale, zero)], axis=0
        )

    def _rounded(self, value: str, limits: Limits) -> str:
        low, high = min(limits[0], 0.0), max(limits[1], 0.0)  # zero, as padding has it, is itself
        scale = np.float32(max(high - low, 1e-6) / 255)
        zero = np.array(round(-low / float(scale)), np.uint8)
        numbers = [self._graph.constant(one) for one in (np.array(scale), zero)]
        whole = self._graph.node("QuantizeLinear", [value, *numbers])
        found = self._graph.node("DequantizeLinear", [whole, *numbers])
        self._scales[found] = scale
        return found
