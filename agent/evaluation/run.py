"""A set of pictures drawn from, judged, and counted. One picture is in memory at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from adapters.baseline.claims import FalseRejectClaim
from agent.base.errors import UsageError
from agent.domain.verdict import Decision, Outcome
from agent.evaluation.draws import DrawnSamples
from agent.evaluation.judging import DrawnReference, JudgedPicture, PictureJudge, Unusable
from agent.evaluation.picture_set import PictureSet, contradiction
from agent.golden.reference_build import most_samples

_NAMED: Final = 20
"""Files that are named of those that cannot be read; the others are counted."""


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What was asked for.

    Attributes:
        good: class of good parts.
        samples: golden samples of each draw.
        draws: how many.
        seed: of the draws.
    """

    good: str
    samples: int
    draws: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class JudgedSet:
    """What was said of all pictures.

    Attributes:
        options: what was asked for.
        classes: of each picture, in the order of judging.
        pictures: what was said of each, in the same order.
        unreadable: class -> files that could not be read.
        twice: pictures that were there again in another file.
        claims: of each draw's reference; empty where words judge alone.
        thresholds: of each draw's reference.
    """

    options: EvaluationOptions
    classes: tuple[str, ...]
    pictures: tuple[JudgedPicture, ...]
    unreadable: Mapping[str, int]
    twice: int
    claims: tuple[FalseRejectClaim | None, ...]
    thresholds: tuple[float, ...]


def evaluate(
    pictures: PictureSet,
    judge: PictureJudge,
    options: EvaluationOptions,
    say: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> JudgedSet:
    """Draw golden samples, build their references, and judge all other pictures in every draw.

    In memory are the references (1500 patches each), the features of one draw's golden samples while its
    reference is built, and a few hundred bytes a picture; features of drawn pictures lie in a temporary file.

    Args:
        pictures: by class.
        judge: of the recipe.
        options: what was asked for.
        say: told what is odd, a sentence each.
        progress: told how many pictures of how many were judged.

    Raises:
        UsageError: too few good pictures, a class of which none can be read, or a picture in two classes.
        UnusableReference: of what was drawn no reference can be built.
        StoreError: there is no room for the temporary file.
    """
    unreadable = _Unreadable(say)
    with ExitStack() as stack:
        draws: list[DrawnReference] = []
        drawn: DrawnSamples | None = None
        if judge.extractor is not None:
            good = pictures.files[options.good]
            if options.samples >= len(good):
                raise UsageError(
                    f"--samples {options.samples}: class {options.good} has {len(good)} pictures, and at"
                    " least one must be left to judge: give fewer, or add pictures"
                )
            if options.samples > (limit := most_samples(judge.extractor.info, tiles=1)):
                raise UsageError(
                    f"--samples {options.samples}: a reference is built of {limit} samples at most, as more"
                    " do not fit into memory: give fewer"
                )
            most = min(len(good), options.samples * options.draws)
            drawn = stack.enter_context(DrawnSamples(judge, judge.extractor, most, unreadable.add))
            draws = [
                drawn.draw(good, options.samples, options.seed, number, judge.recipe)
                for number in range(options.draws)
            ]
        rows = list(_judged(pictures, judge, draws, drawn, unreadable, progress))
    if unreadable.more:
        say(f"and {unreadable.more} more files that cannot be read")
    for label in pictures.files:
        if not any(one[0] == label for one in rows):
            raise UsageError(f"class {label}: no picture of it can be judged: look at the files named above")
    distinct = [(label, found) for label, found in rows if found is not None]
    for draw in range(len(draws)):
        if not any(label == options.good and one.decisions[draw] is not None for label, one in distinct):
            raise UsageError(
                f"class {options.good}: all its pictures were drawn as golden samples: give fewer --samples"
            )
    return JudgedSet(
        options,
        tuple(label for label, _ in distinct),
        tuple(found for _, found in distinct),
        dict(unreadable.counts),
        len(rows) - len(distinct),
        tuple(draw.reference.claim for draw in draws),
        tuple(draw.reference.threshold for draw in draws),
    )


def line_of(decision: Decision) -> str:
    """Return the column of the confusion that a decision counts in."""
    if decision.verdict == Outcome.FAIL:
        return decision.label or str(decision.reason)
    return str(decision.verdict)


class _Unreadable:
    """Files that cannot be read: the first are named, each once, and all are counted."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.counts = Counter[str]()
        self.more = 0
        self._say, self._known = say, set[Path]()

    def add(self, file: Path, why: str, label: str = "") -> None:
        """Take note of a file."""
        if label:
            self.counts[label] += 1
        if file in self._known:
            return
        self._known.add(file)
        if len(self._known) <= _NAMED:
            self._say(f"left out: {why}")
        else:
            self.more += 1


def _judged(
    pictures: PictureSet,
    judge: PictureJudge,
    draws: list[DrawnReference],
    drawn: DrawnSamples | None,
    unreadable: _Unreadable,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[str, JudgedPicture | None]]:
    """Yield class and what was said of each picture; None of one that was there before."""
    first: dict[str, tuple[Path, str]] = {}
    number = 0
    for label, files in pictures.files.items():
        for file in files:
            number += 1
            progress(number, pictures.count)
            try:
                id_, image = judge.read(file)
            except Unusable as error:
                unreadable.add(file, str(error), label)
                continue
            known, known_label = first.setdefault(id_, (file, label))
            if known_label != label:
                raise contradiction(known, known_label, file, label)
            if known != file:
                yield label, None
                continue
            kept = None if drawn is None else drawn.kept(id_)
            yield label, judge.judge(id_, image, number, draws, kept)


def scores_of(found: JudgedSet, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(N,)`` scores of a draw, and which of them are of good parts; golden ones left out."""
    rows = [
        (one.scores[draw], label == found.options.good)
        for label, one in zip(found.classes, found.pictures, strict=True)
        if one.decisions[draw] is not None and np.isfinite(one.scores[draw])
    ]
    scores, good = zip(*rows, strict=True)
    return np.array(scores, np.float64), np.array(good, np.bool_)
