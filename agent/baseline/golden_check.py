"""Do the model and the person who sorted golden pictures speak of the same things? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.core.protocol import Floats

LEAST = 3
"""Pictures of a class below which nothing is said of it as a whole."""
_NAMED = 5
"""File names in a sentence; the others are counted."""


@dataclass(frozen=True, slots=True)
class GoldenFinding:
    """What is odd about golden pictures.

    Attributes:
        refuses: it is hardly ever right; the station is not commissioned with it unless somebody insists.
        text: in a sentence, with the files.
    """

    refuses: bool
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class NamedPictures:
    """Golden pictures as a person sorted them and as the model as it was trained sees them.

    Attributes:
        files: ``K`` of them.
        classes: ``(K,)`` index of the class that a person gave.
        named: ``(K,)`` index of the class that the model names.
        scores: ``(K,)`` log-odds of a defect.
    """

    files: Sequence[Path]
    classes: NDArray[np.int64]
    named: NDArray[np.intp]
    scores: Floats

    def list(self, rows: NDArray[np.bool_]) -> str:
        """Return the names of the files for which ``(K,)`` is true: folder and file."""
        found = [f"{file.parent.name}/{file.name}" for file, one in zip(self.files, rows, strict=True) if one]
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        return ", ".join(found[:_NAMED]) + more


def examine(
    golden: NamedPictures, labels: Sequence[str], fails: NDArray[np.bool_], offset: float
) -> list[GoldenFinding]:
    """Return what is odd about them, what refuses first.

    Args:
        golden: the pictures.
        labels: of the recipe's classes.
        fails: ``(C,)`` which of them are defects.
        offset: the threshold that they are to be judged at.
    """
    good, rejected = ~fails[golden.classes], golden.scores >= offset
    swapped = _swapped(golden, labels)
    found = [GoldenFinding(True, text) for text in swapped]
    if not swapped and good.sum() >= LEAST and rejected[good].all():
        found.append(
            GoldenFinding(
                True,
                f"all {good.sum()} golden pictures of good parts would be rejected: {golden.list(good)}: are"
                " they good, and do lamp, lens, region of interest and words fit them?",
            )
        )
    elif (good & rejected).any():
        rows = good & rejected
        found.append(
            GoldenFinding(
                False,
                f"{rows.sum()} of {good.sum()} golden pictures of good parts are rejected:"
                f" {golden.list(rows)}",
            )
        )
    if (~good & ~rejected).any():
        rows = ~good & ~rejected
        found.append(
            GoldenFinding(
                False,
                f"{rows.sum()} of {(~good).sum()} golden pictures of defects are missed: {golden.list(rows)}",
            )
        )
    if not swapped:
        found += [GoldenFinding(False, text) for text in _named_otherwise(golden, labels)]
    return found


def _swapped(golden: NamedPictures, labels: Sequence[str]) -> list[str]:
    """Say of which two classes most pictures of each are named as the other."""
    said = []
    for one, other in ((a, b) for a in range(len(labels)) for b in range(a + 1, len(labels))):
        rows = [golden.classes == one, golden.classes == other]
        crossed = [rows[0] & (golden.named == other), rows[1] & (golden.named == one)]
        if all(
            each.sum() >= LEAST and cross.sum() * 2 > each.sum()
            for each, cross in zip(rows, crossed, strict=True)
        ):
            said.append(
                f"the folders {labels[one]} and {labels[other]} look swapped: the model calls"
                f" {crossed[0].sum()} of {rows[0].sum()} pictures in {labels[one]} {labels[other]}"
                f" ({golden.list(crossed[0])}), and {crossed[1].sum()} of {rows[1].sum()} in"
                f" {labels[other]} {labels[one]} ({golden.list(crossed[1])})"
            )
    return said


def _named_otherwise(golden: NamedPictures, labels: Sequence[str]) -> list[str]:
    """Say of which classes the model names most pictures otherwise."""
    said = []
    for row, label in enumerate(labels):
        own = golden.classes == row
        other = own & (golden.named != row)
        if own.sum() >= LEAST and other.sum() * 2 > own.sum():
            usual = int(np.bincount(golden.named[other], minlength=len(labels)).argmax())
            said.append(
                f"the model names {other.sum()} of {own.sum()} golden pictures of {label} otherwise, mostly"
                f" {labels[usual]}: {golden.list(other)}: look at them, and at the recipe's words"
            )
    return said
