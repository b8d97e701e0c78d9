"""What a bundle knows the answers to: how far an engine is from torch on its vectors.npz."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adapters.core.adapter import Adapter
from adapters.core.norm_vector import NormVector
from adapters.core.protocol import Engine, Floats
from adapters.encoders.protocol import Encoders

TOLERANCE = 2e-5
"""Largest difference to torch, relative to the largest feature: some hundred roundings of float32."""

GRADIENT_TOLERANCE = 1e-4
"""The same for the gradient by the LayerNorms, each relative to its own largest number."""

GRADIENT_FLOOR = 1e-3
"""Or to this share of the largest number of all, if that is more: the rest is below one rounding of float32.

A gradient may be nothing but roundings: no answer depends on the bias of a LayerNorm of keys.
"""


def vectors_error(engine: Engine, file: Path) -> float:
    """Return how far an engine is from the torch features in a bundle's vectors.npz; see `TOLERANCE`."""
    return max(_difference(answer.found, answer.expected) for answer in vector_answers(engine, file))


class KnownAnswer(NamedTuple):
    """Features ``(N, D)`` of an engine, those that torch gave for the same, and for another adapter."""

    found: Floats
    expected: Floats
    otherwise: Floats


def vector_answers(engine: Engine, file: Path, *, few: bool = False) -> Iterator[KnownAnswer]:
    """Ask an engine what a bundle's vectors.npz knows the answers to.

    Both towers, with the source adapter and with another one, and both adapters mixed in one batch.

    Args:
        engine: to ask.
        file: the vectors.
        few: two pictures and two texts, a third of the work.
    """
    with np.load(file, allow_pickle=False) as vectors:
        some = slice(0, 2) if few else slice(None)
        images, texts = vectors["images"][some], [str(text) for text in vectors["texts"][some]]
        norms = {name: vectors[f"norms/{name}"] for name in engine.source.tensors}
        adapters = (engine.source, Adapter(norms, number=1))
        of_images, of_texts = (
            [vectors[f"{what}/{which}"][some] for which in ("source", "other")]
            for what in ("images", "texts")
        )
    tokens = engine.tokenize(texts)
    for number, adapter in enumerate(adapters):
        part = slice(number, number + 1) if few else slice(None)
        features = engine.encode_image(images[part], [adapter] * len(images[part]))
        yield KnownAnswer(features, of_images[number][part], of_images[1 - number][part])
        yield KnownAnswer(engine.encode_text(tokens, adapter), of_texts[number], of_texts[1 - number])
    mixed = [adapters[number % 2] for number in range(len(images))]
    own, crossed = (np.array(of_images[first]) for first in (0, 1))
    own[1::2], crossed[1::2] = of_images[1][1::2], of_images[0][1::2]
    yield KnownAnswer(engine.encode_image(images, mixed), own, crossed)


def gradient_error(encoders: Encoders, file: Path) -> float:
    """Return how far towers are from torch's gradient in a bundle's vectors.npz; see `GRADIENT_TOLERANCE`."""
    with np.load(file, allow_pickle=False) as vectors:
        norms = NormVector(encoders.source)
        vector = norms.join({name: vectors[f"norms/{name}"] for name in norms.names})
        encoded = encoders.encode(vector, vectors["images"], vectors["tokens"])
        found = encoded.backward(vectors["pulled/images"], vectors["pulled/texts"])
        expected = norms.named(vectors["gradient"])
        floor = GRADIENT_FLOOR * float(np.abs(vectors["gradient"]).max())
        return max(_difference(part, expected[name], floor) for name, part in norms.named(found).items())


def _difference(features: Floats, expected: Floats, floor: float = 0.0) -> float:
    if not (np.isfinite(features).all() and np.isfinite(expected).all()):
        return math.inf
    gap = float(np.abs(features - expected).max())
    largest = max(float(np.abs(expected).max()), floor)
    return gap / largest if largest else math.inf if gap else 0.0
