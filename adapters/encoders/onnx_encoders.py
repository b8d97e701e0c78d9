"""Learning without torch: a bundle's towers forward and back to their LayerNorms, on ONNX Runtime.

`adapters.build.backward_graph` writes the graphs. The forward pass hands what it keeps to the backward pass:
nothing of it is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from adapters.core.adapter import Adapter
from adapters.core.norm_vector import NormVector
from adapters.core.protocol import Floats, ModelInfo, Tokens
from adapters.encoders.protocol import Encoded

FEATURES = "features"
GRADIENT = "gradient"
"""By the features; with ``/`` and the name of a LayerNorm tensor, by that."""
SAVED = "saved."
"""What the forward pass keeps, with a number."""

CHUNK = 64
"""Pictures per pass, which bounds what is kept of them at once."""

Back = Callable[[Floats], dict[str, Floats]]


class OnnxEncoder:
    """One tower.

    Args:
        forward, backward: sessions of ONNX Runtime.
    """

    def __init__(self, forward: Any, backward: Any) -> None:
        self._forward, self._backward = forward, backward
        self._takes = [node.name for node in forward.get_inputs()]
        self._argument = self._takes[0]
        self.provider = f"onnx:{forward.get_providers()[0]}"
        self._gives = [node.name for node in forward.get_outputs()]
        self._takes_back = [node.name for node in backward.get_inputs()]
        self.norms = [node.name.partition("/")[2] for node in backward.get_outputs()]

    def run(self, argument: Any, norms: Mapping[str, Floats]) -> tuple[Floats, Back]:
        """Return ``(N, D)`` features, and what makes of their gradient those of the LayerNorms."""
        import onnxruntime as ort

        value = ort.OrtValue.ortvalue_from_numpy
        known = {name: value(np.ascontiguousarray(norms[name])) for name in self.norms}
        known[self._argument] = value(argument)
        given = {name: known[name] for name in self._takes}
        known |= dict(zip(self._gives, self._forward.run_with_ort_values(self._gives, given), strict=True))

        def back(gradient: Floats) -> dict[str, Floats]:
            known[GRADIENT] = value(np.ascontiguousarray(gradient, np.float32))
            taken = {name: known[name] for name in self._takes_back}
            known.clear()
            made = self._backward.run_with_ort_values(None, taken)
            return {name: one.numpy() for name, one in zip(self.norms, made, strict=True)}

        return known[FEATURES].numpy(), back


class OnnxEncoders:
    """`Encoders` on ONNX Runtime.

    Args:
        info: what the model is.
        source: its LayerNorms.
        image, text: its towers.
    """

    def __init__(self, info: ModelInfo, source: Adapter, image: OnnxEncoder, text: OnnxEncoder) -> None:
        self.info = info
        self.source = source
        self._norms = NormVector(source)
        self._image, self._text = image, text

    def encode(self, vector: Floats, images: Floats, tokens: Tokens) -> Encoded:
        """See `Encoders.encode`."""
        norms = self._norms.named(vector)
        chunks = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
        passes = [self._image.run(np.ascontiguousarray(chunk), norms) for chunk in chunks]
        texts, text_back = self._text.run(tokens, norms)

        def backward(by_images: Floats, by_texts: Floats) -> Floats:
            found = text_back(by_texts)
            for number, (features, back) in enumerate(passes):
                first = number * CHUNK
                _add(found, back(by_images[first : first + len(features)]))
            return self._norms.join(found)

        return Encoded(np.concatenate([features for features, _ in passes]), texts, backward)


def _add(total: dict[str, Floats], more: Mapping[str, Floats]) -> None:
    for name, gradient in more.items():
        total[name] = total[name] + gradient if name in total else gradient
