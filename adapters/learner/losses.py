"""Losses of what two towers say, in numpy, differentiated by `autograd`: the same with every engine.

What the towers say may come in numpy's arrays or in autograd's boxes around them: hence `Array`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from autograd.tracer import getval
from numpy.typing import NDArray

from adapters.core.prompts import Prompts
from adapters.core.protocol import Engine, Floats, Tokens

Array = Any
"""Of numpy, or autograd's box around one."""

_TINY = 1e-24


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """The words of all classes, tokenised.

    Attributes:
        tokens: ``(N, L)`` every phrase in every template.
        classes: ``(N,)`` the class of each text, 0..C-1, every class at least once.
    """

    tokens: Tokens
    classes: NDArray[np.int64]

    @classmethod
    def of(cls, engine: Engine, prompts: Prompts) -> Words:
        """Tokenise a recipe's prompts for a model.

        Raises:
            PromptTooLong: a text does not fit into the model's context.
        """
        texts = [text for of_class in prompts.texts for text in of_class]
        classes = [number for number, of_class in enumerate(prompts.texts) for _ in of_class]
        return cls(engine.tokenize(texts), np.array(classes, np.int64))

    @property
    def owners(self) -> NDArray[np.float64]:
        """``(C, N)`` 1 where a text is of a class."""
        return one_hot(self.classes, int(self.classes.max()) + 1).T

    def some(self, count: int, rng: np.random.Generator) -> Words:
        """Return at most `count` texts of each class."""
        classes = range(int(self.classes.max()) + 1)
        drawn = [rng.permutation(np.flatnonzero(self.classes == c))[:count] for c in classes]
        rows = np.sort(np.concatenate(drawn))
        return Words(self.tokens[rows], self.classes[rows])


Objective = Callable[[Array, Array], Array]
"""From image features ``(B, D)`` and text features ``(N, D)``, not normalised, to the loss."""


def gradients(objective: Objective, images: Floats, texts: Floats) -> tuple[float, Floats, Floats]:
    """Return the loss and its gradients by both features, of their shapes; computed in float64."""
    value, (by_images, by_texts) = value_and_grad(objective, (0, 1))(
        images.astype(np.float64), texts.astype(np.float64)
    )
    return float(value), by_images.astype(np.float32), by_texts.astype(np.float32)


def class_texts(texts: Array, words: Words) -> Array:
    """Return ``(C, D)`` unit-length means of each class's unit-length texts."""
    return unit(words.owners @ unit(texts))


def logits(images: Array, classes: Array, scale: float) -> Array:
    """Return ``(B, C)`` scaled cosines of ``(B, D)`` pictures and ``(C, D)`` unit-length classes."""
    return scale * unit(images) @ classes.T


def cross_entropy(scores: Array, labels: NDArray[np.int64], smoothing: float = 0.0) -> Array:
    """Return ``(B,)`` in nats, with smoothed targets."""
    count = scores.shape[1]
    target = (1 - smoothing) * one_hot(labels, count) + smoothing / count
    return -(target * log_softmax(scores)).sum(axis=1)


def entropy(scores: Array) -> Array:
    """Return ``(B,)`` entropy of each picture's class probabilities, in nats."""
    logs = log_softmax(scores)
    return -(anp.exp(logs) * logs).sum(axis=1)


def batclip(
    images: Array,
    texts: Array,
    words: Words,
    scale: float,
    mode: Literal["exact", "line"] = "exact",
    separation_weight: float = 10.0,
) -> Array:
    """Return the loss of `adapters.methods.batclip.Batclip`; this is the form that needs no torch."""
    classes = class_texts(texts, words)
    scores = logits(images, classes, scale)
    found = np.argmax(getval(scores), axis=1)
    owners = one_hot(found, len(classes)).T  # (C, B)
    present = (owners.sum(axis=1) > 0).astype(np.float64)
    means = (owners @ images) / np.maximum(owners.sum(axis=1), 1)[:, None]  # (C, D)
    pairs = np.outer(present, present) - np.diag(present)
    apart = ((1 - unit(means) @ unit(means).T) * pairs).sum()
    close = unit(means) if mode == "line" else means
    matching = ((close * classes).sum(axis=1) * present).sum() / present.sum()
    if mode == "line":
        apart = separation_weight * apart / max(pairs.sum(), 1.0)
    return entropy(scores).mean() - matching - apart


def one_hot(labels: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return ``(B, count)`` with a 1 where a label is."""
    return np.asarray(np.eye(count)[labels])


def unit(rows: Array) -> Array:
    """Scale rows to length one; a row of zeros stays, with a gradient of zero."""
    return rows / anp.sqrt((rows**2).sum(axis=1, keepdims=True) + _TINY)


def log_softmax(scores: Array) -> Array:
    """Return ``(B, C)`` logarithms of the class probabilities."""
    centred = scores - getval(scores).max(axis=1, keepdims=True)
    return centred - anp.log(anp.exp(centred).sum(axis=1, keepdims=True))
