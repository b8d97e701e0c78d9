"""Parts of which it is known, or guessed, what they are; and who said so of each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapters.core.observation import Bytes

GUESSES_OF_OLD = 10
"""Guesses at most that releases without `named_by` put behind the samples of a person, per class."""


class NamedBy(IntEnum):
    """Who said what a sample is."""

    MODEL = 0
    """A guess: the model as it was trained was sure, and nobody has looked."""
    PERSON = 1
    """A person labelled it."""
    UNKNOWN = 2
    """The release that wrote the file did not say."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceSamples:
    """Parts with what they are.

    Attributes:
        pictures: ``(K, S, S, 3)`` uint8, taken on the clean line.
        classes: ``(K,)`` index of each one's class.
        named_by: ``(K,)`` uint8, `NamedBy` of each; left out: a person named them all.
    """

    pictures: Bytes
    classes: NDArray[np.int64]
    named_by: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))

    def __post_init__(self) -> None:
        if not len(self.named_by):
            person = np.full(len(self.classes), NamedBy.PERSON, np.uint8)
            object.__setattr__(self, "named_by", person)

    @property
    def vouched(self) -> NDArray[np.bool_]:
        """``(K,)`` which of them a person labelled."""
        return np.asarray(self.named_by == NamedBy.PERSON)

    def some(self, rows: NDArray[np.bool_]) -> ReferenceSamples:
        """Return those for which ``(K,)`` is true."""
        if not rows.any():  # an empty `named_by` would be filled in
            return ReferenceSamples(self.pictures[:0], self.classes[:0])
        return ReferenceSamples(self.pictures[rows], self.classes[rows], self.named_by[rows])

    def joined(self, other: ReferenceSamples) -> ReferenceSamples:
        """Return these, then the others."""
        return ReferenceSamples(
            np.concatenate([self.pictures, other.pictures]),
            np.concatenate([self.classes, other.classes]),
            np.concatenate([self.named_by, other.named_by]),
        )

    def half(self, number: Literal[0, 1]) -> ReferenceSamples:
        """Return every other part of each class: 0 to learn from, 1 to judge by."""
        place = np.zeros(len(self.classes), np.int64)
        for c in np.unique(self.classes):
            rows = np.flatnonzero(self.classes == c)
            place[rows] = np.arange(len(rows))
        return self.some(place % 2 == number)

    def count(self, named_by: NamedBy, classes: int) -> NDArray[np.int64]:
        """Return ``(classes,)`` how many of each class somebody has named."""
        return np.bincount(self.classes[self.named_by == named_by], minlength=classes)


def first_seen(pictures: Bytes) -> NDArray[np.intp]:
    """Return the rows of ``(N, S, S, 3)`` pictures that are no repetition, to the byte, of one before them.

    A clip that begins anew, or a file that lies there twice, is not another part: who counts parts counts
    these.
    """
    rows: dict[bytes, int] = {}
    for row, picture in enumerate(pictures):
        rows.setdefault(hashlib.sha256(np.ascontiguousarray(picture).tobytes()).digest(), row)
    return np.fromiter(rows.values(), np.intp, len(rows))


def named_by_of_old(labelled_by: str, classes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return who named the samples of a file that does not say it.

    Such releases put a person's samples first and at most `GUESSES_OF_OLD` guesses of each class behind them.
    So of each class all but the last ten were labelled by a person for certain; of the rest nobody knows.

    Args:
        labelled_by: ``golden`` or ``model``, as the file says.
        classes: ``(K,)`` of the samples, in the file's order.
    """
    if labelled_by == "model":
        return np.full(len(classes), NamedBy.MODEL, np.uint8)
    found = np.full(len(classes), NamedBy.UNKNOWN, np.uint8)
    for c in np.unique(classes):
        rows = np.flatnonzero(classes == c)
        found[rows[: max(0, len(rows) - GUESSES_OF_OLD)]] = NamedBy.PERSON
    return found
