"""What is odd about a golden set: near-duplicates, probable mislabels, bad pictures, small classes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from adapters.core.protocol import Floats

FEW_GOOD: Final = 10
"""Good samples below which the class is called small: with ten a station begins well."""
FEW_DEFECTS: Final = 3
"""Of a class of defects; below it nothing can be said of the class as a whole."""
_SAME_GREY: Final = 1.0
"""Root mean square of the difference of two glances, in grey levels, below which they show the same part."""
_SAME_SHARE: Final = 0.25
"""The same as a share of how far samples are from their nearest neighbour as a rule."""
_BLUR: Final = 0.25
"""Share of the set's median sharpness."""
_DARK: Final = 0.5
_BRIGHT: Final = 2.0
"""Shares of the set's median brightness."""
_FAR: Final = 6.0
_LEAST_FAR: Final = 3.0
"""A good sample is unlike the others so many deviations, and so many times, above their median. Of 10 to 30
hazelnuts the highest good one lay 4.0 deviations and 2.8 times above, a defect among them at least 25 and 11
times (each judged by the others)."""
_ROWS: Final = 500

Kind = Literal[
    "damaged", "near_duplicate", "contradiction", "mislabel", "blurred", "dark", "bright", "size", "few"
]


@dataclass(frozen=True, slots=True)
class SampleFinding:
    """Something odd.

    Attributes:
        kind: for machines.
        samples: ids that it is about; none where it is about a class.
        reason: one sentence, with the names of the pictures.
    """

    kind: Kind
    samples: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What is measured of samples without any model.

    Attributes:
        ids, names, labels: ``K`` of them, in the same order.
        glances: ``(K, P)`` grey levels of small copies.
        luma: ``(K,)`` mean brightness, 0..255.
        sharpness: ``(K,)`` variance of the Laplacian.
        sizes: ``(K, 2)`` width and height in pixels.
    """

    ids: Sequence[str]
    names: Sequence[str]
    labels: Sequence[str]
    glances: Floats
    luma: Floats
    sharpness: Floats
    sizes: NDArray[np.int64]


def of_looks(looks: Looks) -> Iterator[SampleFinding]:
    """Yield what is odd about samples by their pictures alone."""
    if len(looks.ids) > 1:
        yield from _alike(looks)
    sharp, bright = float(np.median(looks.sharpness)), float(np.median(looks.luma))
    for id_, name, sharpness, luma in zip(looks.ids, looks.names, looks.sharpness, looks.luma, strict=True):
        if sharpness < _BLUR * sharp:
            reason = f"{name}: blurred: sharpness {sharpness:.1f}, the set's {sharp:.1f}"
            yield SampleFinding("blurred", (id_,), reason)
        said = f"{luma:.0f} of 255, the set's {bright:.0f}"
        if luma < _DARK * bright:
            yield SampleFinding("dark", (id_,), f"{name}: much darker than the others: {said}")
        elif luma > _BRIGHT * bright:
            yield SampleFinding("bright", (id_,), f"{name}: much brighter than the others: {said}")
    yield from _other_size(looks)


def of_classes(counts: Counter[str], good: set[str]) -> Iterator[SampleFinding]:
    """Yield classes that are too small.

    Args:
        counts: samples by class.
        good: classes of good parts.
    """
    of_good = sum(counts[label] for label in good)
    if of_good < FEW_GOOD:
        reason = f"{of_good} good samples: a station begins well with {FEW_GOOD}"
        yield SampleFinding("few", (), reason)
    for label, count in sorted(counts.items()):
        if label not in good and count < FEW_DEFECTS:
            reason = f"class {label}: {count} samples: {FEW_DEFECTS} are needed, {FEW_DEFECTS - count} more"
            yield SampleFinding("few", (), reason)


def of_good_scores(ids: Sequence[str], names: Sequence[str], scores: Floats) -> Iterator[SampleFinding]:
    """Yield good samples that the other good ones do not look like.

    Args:
        ids, names: ``K`` good samples.
        scores: ``(K,)`` each judged by others alone.
    """
    middle = float(np.median(scores))
    spread = 1.4826 * float(np.median(np.abs(scores - middle)))
    limit = max(middle + _FAR * spread, _LEAST_FAR * middle)
    low, high = np.quantile(scores, (0.1, 0.9))
    for id_, name, score in zip(ids, names, scores.tolist(), strict=True):
        if score > limit:
            yield SampleFinding(
                "mislabel",
                (id_,),
                f"{name}: called good, and unlike the other good samples: scores {score:.3g}, they"
                f" {low:.3g} to {high:.3g}: is the part good, and is it this product?",
            )


def of_defect_scores(
    ids: Sequence[str], names: Sequence[str], labels: Sequence[str], scores: Floats, threshold: float
) -> Iterator[SampleFinding]:
    """Yield samples of defects that the reference takes for good parts."""
    for id_, name, label, score in zip(ids, names, labels, scores.tolist(), strict=True):
        if not score > threshold:
            yield SampleFinding(
                "mislabel",
                (id_,),
                f"{name}: called {label}, and the reference takes it for good: scores {score:.3g}, parts fail"
                f" above {threshold:.3g}: is it defective, and can the defect be seen in the picture?",
            )


def _alike(looks: Looks) -> Iterator[SampleFinding]:
    pairs, near = _near(looks.glances)
    limit = max(_SAME_GREY, _SAME_SHARE * float(np.median(near)))
    for one, other, distance in pairs:
        if distance >= limit:
            continue
        names = f"{looks.names[one]}, {looks.names[other]}"
        ids = (looks.ids[one], looks.ids[other])
        if looks.labels[one] != looks.labels[other]:
            reason = f"{names}: nearly the same picture, called {looks.labels[one]} and {looks.labels[other]}"
            yield SampleFinding("contradiction", ids, reason)
        else:
            reason = f"{names}: nearly the same picture: keep one; each part counts once"
            yield SampleFinding("near_duplicate", ids, reason)


def _near(glances: Floats) -> tuple[list[tuple[int, int, float]], Floats]:
    """Return each sample with its nearest one, in grey levels, and all these distances."""
    squares = np.einsum("kp,kp->k", glances, glances)
    near, at = np.empty(len(glances), np.float32), np.empty(len(glances), np.int64)
    for start in range(0, len(glances), _ROWS):
        rows = slice(start, start + _ROWS)
        found = squares[rows, None] + squares - 2 * glances[rows] @ glances.T
        found[np.arange(len(found)), np.arange(start, start + len(found))] = np.inf
        at[rows], near[rows] = found.argmin(axis=1), found.min(axis=1)
    distances = np.sqrt(np.maximum(near, 0) / glances.shape[1])
    pairs = {(min(k, int(o)), max(k, int(o))): float(distances[k]) for k, o in enumerate(at)}
    return [(one, other, distance) for (one, other), distance in sorted(pairs.items())], distances


def _other_size(looks: Looks) -> Iterator[SampleFinding]:
    counts = Counter(map(tuple, looks.sizes.tolist()))
    usual, _ = counts.most_common(1)[0]
    shape = usual[0] / usual[1]
    for id_, name, (width, height) in zip(looks.ids, looks.names, looks.sizes.tolist(), strict=True):
        if abs(width / height - shape) > 0.02 * shape:
            reason = f"{name}: {width} x {height} pixels, most have {usual[0]} x {usual[1]}: another camera?"
            yield SampleFinding("size", (id_,), reason)
