"""One proposal of the learner on a line: BATCLIP's terms where a line has evidence for them, and an anchor.

On a line almost every picture is of a good part, and after a change of light most of what looks like a defect
is none. BATCLIP's own prototypes, class means by predicted label, are then means of false alarms. So here:

- *anchor*: cross-entropy on known parts shown under the condition that the pictures have now (rehearsal; the
  strongest term by far, see DECISIONS.md);
- *matching* and *separation* of BATCLIP (https://arxiv.org/abs/2412.02837, eq. 4 and 5) between the texts and
  prototypes that are right: of good parts from the stream, of defects from the known parts; a cosine and a
  mean over pairs, as in the ``line`` mode of `adapters.methods.batclip`;
- *entropy* of the stream's good parts.

What each term is worth: benchmarks/results/line_terms.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from adapters.core.adapter import Adapter
from adapters.core.norm_vector import NormVector
from adapters.core.observation import Labelled
from adapters.encoders.protocol import Encoders
from adapters.learner.losses import (
    Array,
    Objective,
    Words,
    class_texts,
    cross_entropy,
    entropy,
    gradients,
    logits,
    one_hot,
    unit,
)
from adapters.learner.optimizer import Moments, Optimizer

ADAMW = Optimizer("AdamW", 1e-2)

Terms = Callable[[Array, Array], dict[str, Array]]
"""From the features of pictures and texts to the terms of a loss, by name."""


@dataclass(frozen=True, slots=True)
class RehearsalUpdate:
    """What a proposal is made with; weights of 0 leave a term out.

    Attributes:
        steps: per proposal.
        anchors: known parts per step, evenly of every class.
        pictures: of the stream per step.
        texts: of each class per step, drawn anew; a recipe may have dozens, which agree about their class.
        smoothing: of the anchor's targets.
        matching, separation, entropy: weights beside the anchor's 1.
        optimizer: how LayerNorms move.
    """

    steps: int = 16
    anchors: int = 12
    pictures: int = 4
    texts: int = 4
    smoothing: float = 0.02
    matching: float = 1.0
    separation: float = 1.0
    entropy: float = 0.3
    optimizer: Optimizer = ADAMW

    def propose(
        self, encoders: Encoders, words: Words, start: Adapter, known: Labelled, stream: Labelled, seed: int
    ) -> tuple[Adapter, dict[str, float]]:
        """Return the adapter after `steps` steps and the last step's numbers; no argument changes.

        Args:
            towers: nobody else uses them meanwhile.
            words: of the recipe.
            start: where to go on from.
            known: preprocessed pictures ``(A, 3, S, S)`` under the condition of now, ``(A,)`` their classes.
            stream: preprocessed recent good parts ``(P, 3, S, S)``, ``(P,)`` their passing classes.
            seed: of what is drawn.
        """
        norms = NormVector(encoders.source)
        vector = norms.read(start)
        memory: Moments | None = None
        rng = np.random.default_rng(seed)
        (pixels, labels), (pictures, owners) = known, stream
        numbers: dict[str, float] = {}
        for number in range(self.steps):
            # Large steps first, small ones to settle: the next proposal begins anew.
            rate = self.optimizer.rate * (1 - 0.9 * number / self.steps)
            chosen = _evenly(labels, self.anchors, rng)
            recent = rng.permutation(len(pictures))[: self.pictures if self._uses_stream else 0]
            some = words.some(self.texts, rng)
            batch = np.concatenate([pixels[chosen], pictures[recent]])
            encoded = encoders.encode(vector, batch, some.tokens)
            owner = np.concatenate([labels[chosen], owners[recent]])
            terms = self._terms(some, owner, len(chosen), encoders.info.logit_scale)
            features = encoded.images, encoded.texts
            loss, *pulled = gradients(self._loss(terms), *features)
            gradient = encoded.backward(*pulled)
            length = float(np.linalg.norm(gradient.astype(np.float64)))
            finite = bool(np.isfinite(loss) and np.isfinite(length))
            numbers = {"loss": loss, "gradient_norm": length, "skipped": float(not finite)}
            numbers |= {name: float(term) for name, term in terms(*features).items()}
            if finite:
                moved, memory = replace(self.optimizer, rate=rate).descend(vector, gradient, memory)
                if not np.isfinite(moved).all():  # what float32 cannot hold: no step, and no proposal
                    return start, {**numbers, "loss": math.inf}
                vector = moved
        return norms.write(vector, start), numbers

    @property
    def _uses_stream(self) -> bool:
        return bool(self.matching or self.separation or self.entropy)

    def _terms(self, words: Words, owner: NDArray[np.int64], count: int, scale: float) -> Terms:
        """Return what computes the terms of a batch; its first `count` pictures are the known ones."""

        def terms(images: Array, texts: Array) -> dict[str, Array]:
            classes = class_texts(texts, words)  # (C, D)
            scores = logits(images, classes, scale)  # (B, C)
            found = {"anchor": cross_entropy(scores[:count], owner[:count], self.smoothing).mean()}
            if self._uses_stream:
                prototypes = unit(one_hot(owner, len(classes)).T @ unit(images))  # (C, D)
                pairs = 1 - np.eye(len(classes))
                found["matching"] = (prototypes * classes).sum(axis=1).mean()
                found["separation"] = ((1 - prototypes @ prototypes.T) * pairs).sum() / pairs.sum()
                if len(owner) > count:
                    found["entropy"] = entropy(scores[count:]).mean()
            return found

        return terms

    def _loss(self, terms: Terms) -> Objective:
        weights = {
            "anchor": 1.0,
            "matching": -self.matching,
            "separation": -self.separation,
            "entropy": self.entropy,
        }
        return lambda images, texts: sum(weights[n] * term for n, term in terms(images, texts).items())


class Proposer:
    """The learner's update: `RehearsalUpdate` with towers that nobody else uses at the same time."""

    def __init__(self, encoders: Encoders, words: Words, update: RehearsalUpdate | None = None) -> None:
        self._encoders = encoders
        self._words = words
        self._update = update or RehearsalUpdate()

    def __call__(
        self, adapter: Adapter, known: Labelled, stream: Labelled, seed: int
    ) -> tuple[Adapter, dict[str, float]]:
        """Return the adapter some steps further; see `RehearsalUpdate.propose`."""
        return self._update.propose(self._encoders, self._words, adapter, known, stream, seed)


def _evenly(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return about `count` indices, as many of each class that there is."""
    classes = np.unique(labels)
    each = max(1, count // len(classes))
    drawn = [rng.permutation(np.flatnonzero(labels == c))[:each] for c in classes]
    return np.concatenate(drawn)
