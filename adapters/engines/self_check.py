"""An engine's own check: what it answers is held against what torch gave for the same, before it inspects."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapters.bundle.reader import VECTORS
from adapters.core.adapter import Adapter, NotFinite
from adapters.core.protocol import GET_AGAIN, Engine, ModelError, Precision, directions
from adapters.engines.known_answers import TOLERANCE, KnownAnswer, vector_answers

CUDA_TOLERANCE = 1e-3
"""As `TOLERANCE`, on a card: its libraries choose among algorithms that round otherwise. A guess: the project
has measured none; a wrong answer differs by far more."""

LOWEST_COSINE: dict[Precision, float] = {"bf16": 0.999, "fp16": 0.9999, "int8": 0.99}
"""Of a feature with torch's. On `mekiki-line`, and on ViT-B-32 with random weights, one minus it was 3e-6 and
5e-5 in bf16, 2e-7 and 8e-7 in fp16, 1e-5 and 3e-4 in int8; what is broken is far off."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near an engine is to torch.

    Attributes:
        difference: largest one of a feature's numbers, relative to the largest number.
        cosine: lowest one of a feature with torch's.
        adapted: every feature is nearer to torch's with the same adapter than with another. The effect of an
            adapter is smaller than the bound of a low precision.
        finite: all features have a direction, torch's too.
    """

    difference: float
    cosine: float
    adapted: bool = True
    finite: bool = True

    @classmethod
    def of(cls, answers: Iterable[KnownAnswer]) -> Agreement:
        """Compare features with those expected."""
        difference, cosine, adapted = 0.0, 1.0, True
        for answer in answers:
            # Of a feature without a direction, all comparisons below are false or made up.
            if not all(directions(features).all() for features in answer):
                return cls(math.inf, -1.0, finite=False)
            found, expected, otherwise = answer
            difference = max(difference, float(np.abs(found - expected).max() / np.abs(expected).max()))
            lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
            cosine = min(cosine, float(((found * expected).sum(1) / lengths).min()))
            near, far = (np.linalg.norm(found - of, axis=1) for of in (expected, otherwise))
            adapted = adapted and bool((near < far).all())
        return cls(difference, cosine, adapted)

    def says(self, precision: Precision, *, cuda: bool = False) -> tuple[bool, str]:
        """Return whether it is enough for an engine of a precision, and that in words, with the bound."""
        if not self.finite:
            return False, "there are features that are not finite, or zero"
        if not self.adapted:
            return False, "an adapter does not reach it"
        if precision == "fp32":
            bound = CUDA_TOLERANCE if cuda else TOLERANCE
            return self.difference <= bound, f"differs by {self.difference:.1e}, at most {bound:.0e}"
        bound = LOWEST_COSINE[precision]
        return self.cosine >= bound, f"cosine {self.cosine:.6f}, at least {bound}"


def check_bundle(engine: Engine, folder: Path, kind: str, precision: Precision) -> Agreement:
    """Ask an engine what its bundle knows the answers to: four pictures and four texts.

    Args:
        engine: opened from the bundle.
        folder: the bundle.
        kind: name of the engine, for the message.
        precision: of its image tower.

    Raises:
        ModelError: it answers otherwise than torch.
    """
    try:
        found = Agreement.of(vector_answers(engine, folder / VECTORS, few=True))
    except NotFinite as error:
        raise ModelError(f"{folder / VECTORS}: {error}: {GET_AGAIN}") from error
    good, words = found.says(precision, cuda="cuda" in engine.info.provider.lower())
    if not found.finite:
        raise ModelError(
            f"{folder}: engine {kind}, precision {precision}: answers wrongly on this machine: {words}:"
            f" {GET_AGAIN}, or set another precision"
        )
    if not good:
        raise ModelError(
            f"engine {kind}, precision {precision}: answers wrongly on this machine: its features are not"
            f" torch's ({words}): set another engine or precision; `mekiki bench engines` shows which"
        )
    return found


def check_finite(engine: Engine) -> None:
    """Ask an engine that has nothing to be held against for a grey picture, a random one and a text.

    Raises:
        ModelError: nothing can be compared with what it answers.
    """
    side, info = engine.info.preprocess.size, engine.info
    random = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
    pictures = engine.encode_image(np.concatenate([np.zeros_like(random), random]), [engine.source] * 2)
    texts = engine.encode_text(engine.tokenize(["a photo of a part"]), engine.source)
    if not (directions(pictures).all() and directions(texts).all()):
        raise ModelError(
            f"model {info.name}, weights {info.weights[:19]}, {info.provider}: there are features that are"
            f" not finite, or zero: {GET_AGAIN}, or set another precision"
        )


def check_mixed_precision(engine: Engine, reference: Engine, precision: Precision) -> Agreement:
    """Ask torch at a lower precision for two random pictures, each with its adapter, and torch in fp32 too.

    Raises:
        ModelError: they do not agree.
    """
    side = reference.info.preprocess.size
    pictures = np.random.default_rng(0).standard_normal((2, 3, side, side), dtype=np.float32)
    source = reference.source
    other = Adapter({name: 1.1 * tensor for name, tensor in source.tensors.items()})
    features = engine.encode_image(pictures, [source, other])
    expected = (reference.encode_image(pictures, of) for of in ([source, other], [other, source]))
    found = Agreement.of([KnownAnswer(features, *expected)])
    good, words = found.says(precision)
    if not good:
        raise ModelError(f"engine torch, precision {precision}: not what fp32 gives ({words}): set fp32")
    return found
