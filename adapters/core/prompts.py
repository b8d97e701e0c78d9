"""Classes in words: from phrases and templates to unit-length class features, cached per adapter."""

from __future__ import annotations

import hashlib
import json
import string
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adapters.core.adapter import Adapter, NotFinite
from adapters.core.protocol import LEAST_LENGTH, Engine, Floats, PromptError

CHUNK = 256
"""Texts per call of the text tower: 10 000 classes must not need 10 000 classes' worth of activations."""


@dataclass(frozen=True)
class Prompts:
    """The words of a recipe.

    Attributes:
        classes: label and phrases of each class, in the order of the features' rows.
        templates: sentences with ``{}`` where the phrase goes.
    """

    classes: tuple[tuple[str, tuple[str, ...]], ...]
    templates: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.classes:
            raise PromptError("no classes: a recipe needs at least one class with a phrase")
        if not self.templates:
            raise PromptError('no templates: a recipe needs at least one, such as "a photo of {}"')
        for template in self.templates:
            _check(template)
        for label, phrases in self.classes:
            if not phrases or not all(phrase.strip() for phrase in phrases):
                raise PromptError(f"class {label}: needs a phrase that says in words what it looks like")
        labels = [label for label, _ in self.classes]
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise PromptError(f"class {twice}: named twice")

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each row of the class features."""
        return tuple(label for label, _ in self.classes)

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """Every phrase in every template, per class."""
        return tuple(
            tuple(template.format(phrase) for phrase in phrases for template in self.templates)
            for _, phrases in self.classes
        )

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of labels, phrases and templates, in their order."""
        content = json.dumps([self.classes, self.templates], allow_nan=False).encode()
        return f"sha256:{hashlib.sha256(content).hexdigest()}"


def class_features(engine: Engine, prompts: Prompts, adapter: Adapter) -> Floats:
    """Return ``(C, D)`` unit-length features: open_clip's zero-shot recipe.

    Every text of a class is encoded and normalised; their mean is normalised again.

    Raises:
        PromptTooLong: a text does not fit into the model's context.
        NotFinite: nothing can be compared with what the model makes of a class's words.
    """
    texts = [text for of_class in prompts.texts for text in of_class]
    chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
    encoded = [engine.encode_text(engine.tokenize(chunk), adapter) for chunk in chunks]
    features = _unit(np.concatenate(encoded).astype(np.float64))  # (N, D)
    starts = np.cumsum([0, *(len(of_class) for of_class in prompts.texts[:-1])])
    sums = np.add.reduceat(features, starts, axis=0)  # (C, D)
    # The mean is the sum up to a factor that the second normalisation removes.
    classes = _unit(sums).astype(np.float32)
    if (bad := np.flatnonzero(~np.isfinite(classes).all(axis=1))).size:
        info, label = engine.info, prompts.labels[bad[0]]
        raise NotFinite(
            f"model {info.name}, weights {info.weights[:19]}, adapter {adapter.number}: the features of the"
            f" words of class {label} are not finite numbers: nothing can be compared with them"
        )
    return classes


def probabilities(
    features: Floats,
    class_features: Floats,
    logit_scale: float,
    shift: NDArray[np.float64] | float = 0.0,
) -> Floats:
    """Return ``(B, C)`` softmax of the scaled cosine similarities.

    Row by row and in float64, so that a picture's answer does not depend on the batch it came in. A feature
    that is not finite, or has no length, is like no class: its row is NaN, never a number that was made up.

    Args:
        features: ``(B, D)`` image features, not normalised.
        class_features: ``(C, D)`` unit-length class features.
        logit_scale: factor on the cosines, already exponentiated.
        shift: ``(C,)`` what is added to the logits: an operating point. Zeros change no bit.
    """
    classes = class_features.astype(np.float64)
    answer = np.empty((len(features), len(classes)), np.float32)  # (B, C)
    for row, image in zip(answer, _unit(features.astype(np.float64)), strict=True):
        logits = logit_scale * (classes @ image) + shift  # (C,)
        exponentials = np.exp(logits - logits.max())
        row[:] = exponentials / exponentials.sum()
    return answer


class TextCache:
    """Class features by adapter and recipe; the least recently used pair is lost first. For any thread.

    Two threads that want the same pair at the same time may both compute it.

    Attributes:
        hits: answers without the text tower.
        misses: answers that needed it.
        engine: that makes them.
    """

    def __init__(self, engine: Engine, capacity: int = 32) -> None:
        self.hits = 0
        self.misses = 0
        self.engine = engine
        self._capacity = capacity
        self._one = threading.Lock()
        self._features: OrderedDict[tuple[str, str], Floats] = OrderedDict()

    def features(self, prompts: Prompts, adapter: Adapter) -> Floats:
        """Return `class_features` of the pair, read-only.

        Raises:
            PromptTooLong: a text does not fit into the model's context.
            NotFinite: see `class_features`.
        """
        key = (adapter.digest, prompts.digest)
        with self._one:
            if key in self._features:
                self.hits += 1
                self._features.move_to_end(key)
                return self._features[key]
            self.misses += 1
        features = class_features(self.engine, prompts, adapter)
        features.setflags(write=False)
        with self._one:
            self._features[key] = features
            if len(self._features) > self._capacity:
                self._features.popitem(last=False)
        return features


def _check(template: str) -> None:
    try:
        fields = [field for field in string.Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise PromptError(f"template {template!r}: {error}; braces that stay are doubled") from error
    if [field[1:] for field in fields] != [("", "", None)]:
        raise PromptError(f"template {template!r}: needs {{}} once, where the phrase goes, and no more")


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale rows to length one; a row without a direction becomes NaN."""
    with np.errstate(invalid="ignore"):  # inf / inf
        lengths: NDArray[np.float64] = np.linalg.norm(rows, axis=-1, keepdims=True)
        return rows / np.where(lengths > LEAST_LENGTH, lengths, np.nan)
