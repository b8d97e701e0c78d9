"""How torch's operators are taken apart for an engine that is not torch. For the builder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions, get_decompositions
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten

_CUBIC = 0.044715
"""Of the tanh approximation of GELU (Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415)."""


class Traceable(TorchFunctionMode):
    """While it is entered, two functions of torch depend neither on strides nor on the size of a batch.

    Pooling a whole map is a mean. To torch it is that too, but with strides of its own where channels come
    last, and the way back through those is a write to memory that ONNX has no operator for. Padding by
    nothing does nothing; torch would copy, and fix the size of the batch.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `function`, or what it is to be."""
        if function is F.adaptive_avg_pool2d and not named and tuple(_pair(arguments[1])) == (1, 1):
            return arguments[0].mean((-2, -1), keepdim=True)
        if function is F.pad and not any(arguments[1]):
            return arguments[0]
        return function(*arguments, **(named or {}))


def _pair(size: int | Sequence[int]) -> Sequence[int]:
    return (size, size) if isinstance(size, int) else size


def decompositions() -> dict[Any, Any]:
    """Return how operators are taken apart: LayerNorms and GELUs stay whole, weights get no gradient."""
    table = dict(core_aten_decompositions())
    for whole in (aten.native_layer_norm.default, aten.gelu.default):
        table.pop(whole, None)
    table |= get_decompositions([aten.native_layer_norm_backward])
    table[aten.gelu_backward.default] = _gelu_backward
    table[aten.avg_pool2d_backward.default] = _avg_pool2d_backward
    table[aten.convolution_backward.default] = _convolution_backward
    # No row of an attention map is masked as a whole: torch's guard against that would stay in the graph.
    table[aten._safe_softmax.default] = lambda x, dim, dtype=None: torch.softmax(x, dim, dtype)
    return table


def _gelu_backward(gradient: Tensor, x: Tensor, *, approximate: str = "none") -> Tensor:
    """Return what torch's own decomposition does, in fewer passes over the largest maps there are."""
    if approximate == "tanh":
        square = x * x
        reach = math.sqrt(2 / math.pi)
        bent = torch.tanh(x * (reach + reach * _CUBIC * square))
        rise = (1 - bent * bent) * (reach + 3 * reach * _CUBIC * square)
        return gradient * (0.5 + 0.5 * (bent + x * rise))
    scaled = x * math.sqrt(0.5)
    slope = 0.5 * torch.erf(scaled) + scaled * (math.sqrt(1 / math.pi) * torch.exp(-scaled * scaled))
    return gradient * (slope + 0.5)


def _avg_pool2d_backward(
    gradient: Tensor,
    argument: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    """Return the gradient by the input: each mean is shared out again, which is a transposed convolution."""
    stride = stride or kernel
    rest = [
        size - ((out - 1) * s - 2 * p + k)
        for size, out, s, p, k in zip(
            argument.shape[2:], gradient.shape[2:], stride, padding, kernel, strict=True
        )
    ]
    if any(one < 0 for one in rest):
        raise NotImplementedError("average pooling whose last window reaches beyond the map")
    channels = argument.shape[1]
    window = gradient.new_ones((channels, 1, *kernel))
    if any(padding) and not count_include_pad and divisor is None:
        inside = gradient.new_ones((1, 1, *argument.shape[2:]))
        count = aten.convolution(inside, window[:1], None, stride, padding, [1, 1], False, [0, 0], 1)
    else:
        count = divisor or kernel[0] * kernel[1]
    shared = gradient / count
    answer: Tensor = aten.convolution(shared, window, None, stride, padding, [1, 1], True, rest, channels)
    return answer


def _convolution_backward(
    gradient: Tensor,
    argument: Tensor,
    weight: Tensor,
    bias: list[int] | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    wanted: list[bool],
) -> tuple[Tensor | None, None, None]:
    """Return the gradient by the input alone: weights are constants."""
    if transposed or wanted[1] or wanted[2]:
        raise NotImplementedError("a transposed convolution, or one whose weights learn")
    if not wanted[0]:
        return None, None, None
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if groups == 1 and all(s == 1 for s in stride):
        # An ordinary convolution, for which engines have their fastest kernels.
        turned = weight.transpose(0, 1).flip([2, 3])
        around = [r - p for r, p in zip(reach, padding, strict=True)]
        answer = aten.convolution(gradient, turned, None, [1, 1], around, dilation, False, [0, 0], 1)
        return answer, None, None
    rest = [
        size - ((out - 1) * s - 2 * p + r + 1)
        for size, out, s, p, r in zip(
            argument.shape[2:], gradient.shape[2:], stride, padding, reach, strict=True
        )
    ]
    answer = aten.convolution(gradient, weight, None, stride, padding, dilation, True, rest, groups)
    return answer, None, None
