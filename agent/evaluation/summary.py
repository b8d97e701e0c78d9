"""What an evaluation came to: figures with intervals, the confusion, for people and for programs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.domain.verdict import Outcome
from agent.evaluation.figures import Estimate, auroc, auroc_estimate, share_estimate
from agent.evaluation.run import JudgedSet, line_of, scores_of


@dataclass(frozen=True, slots=True)
class EvaluationSummary:
    """Figures of an evaluation.

    Attributes:
        auroc: mean of the draws.
        auroc_draws: of each draw.
        false_rejects: share of good parts that fail.
        missed: share of defects that pass.
        good, defects: parts that one draw judges.
        confusion: class -> what was said -> how many, mean of the draws.
        ms: median time for a picture, without reading its file.
        unlit: pictures that a line would not inspect by the default limits.
    """

    auroc: Estimate
    auroc_draws: tuple[float, ...]
    false_rejects: Estimate
    missed: Estimate
    good: int
    defects: int
    confusion: dict[str, dict[str, float]]
    ms: float
    unlit: int


def summary(found: JudgedSet) -> EvaluationSummary:
    """Return the figures of what was judged."""
    count = len(found.pictures[0].decisions)
    areas, rejected, missed = list[tuple[float, float]](), list[int](), list[int]()
    confusion: dict[str, Counter[str]] = {label: Counter() for label in dict.fromkeys(found.classes)}
    good = defects = 0
    for draw in range(count):
        scores, is_good = scores_of(found, draw)
        good, defects = int(is_good.sum()), int((~is_good).sum())
        areas.append(auroc(scores[is_good], scores[~is_good]))
        wrong = Counter[bool]()
        for label, one in zip(found.classes, found.pictures, strict=True):
            decision = one.decisions[draw]
            if decision is None:
                continue
            confusion[label][line_of(decision)] += 1
            is_good_one = label == found.options.good
            wrong[is_good_one] += decision.verdict == (Outcome.FAIL if is_good_one else Outcome.PASS)
        rejected.append(wrong[True])
        missed.append(wrong[False])
    return EvaluationSummary(
        auroc=auroc_estimate(areas, min(good, defects)),
        auroc_draws=tuple(area for area, _ in areas),
        false_rejects=share_estimate(rejected, good),
        missed=share_estimate(missed, defects),
        good=good,
        defects=defects,
        confusion={
            label: {said: number / count for said, number in counts.items()}
            for label, counts in confusion.items()
        },
        ms=float(np.median([one.ms for one in found.pictures])),
        unlit=sum(one.unlit for one in found.pictures),
    )


def facts(found: JudgedSet, made: EvaluationSummary) -> dict[str, Any]:
    """Return it for programs; `auroc`, `false_rejects` and `missed` are shares, 0..1."""
    claim = found.claims[0] if found.claims else None
    rates = {"false_rejects": made.false_rejects, "missed": made.missed}
    return {
        "auroc": round(made.auroc.value, 6),
        "auroc_draws": [round(one, 6) for one in made.auroc_draws],
        **{name: round(one.value, 6) for name, one in rates.items()},
        "ms_per_picture": round(made.ms, 3),
        "claim": None if claim is None else claim.facts(),
        "intervals": {
            "auroc": made.auroc.facts(),
            **{name: one.facts() for name, one in rates.items()},
        },
        "good": made.good,
        "defects": made.defects,
        "samples": found.options.samples if found.claims else 0,
        "draws": len(made.auroc_draws),
        "seed": found.options.seed,
        "good_class": found.options.good,
        "thresholds": [round(one, 6) for one in found.thresholds],
        "confusion": {
            label: {said: round(number, 3) for said, number in counts.items()}
            for label, counts in made.confusion.items()
        },
        "unreadable": dict(found.unreadable),
        "twice": found.twice,
        "not_lit": made.unlit,
    }


def sentences(found: JudgedSet, made: EvaluationSummary) -> Iterator[str]:
    """Yield it for people."""
    several = len(made.auroc_draws) > 1
    how = f"mean of {len(made.auroc_draws)} draws" if several else "one draw"
    drawn = f", {found.options.samples} golden samples, {how}" if found.claims else ""
    yield f"{made.good} good parts and {made.defects} defects judged{drawn}"
    spread = f"; draws {min(made.auroc_draws):.4f} to {max(made.auroc_draws):.4f}" if several else ""
    yield f"AUROC          {_shown(made.auroc, 4)}{spread}"
    yield f"false rejects  {_percent(made.false_rejects)}"
    yield f"missed         {_percent(made.missed)}"
    yield (
        "intervals of 95 %: of the parts that one draw judges, as if the mean had been that draw; the draws"
        " judge the same pictures"
        if several
        else "intervals of 95 %: exact (Clopper-Pearson) of false rejects and misses, DeLong's of AUROC"
    )
    yield from _confusion(made)
    if found.claims:
        yield f"claim          {_claimed(found)}"
    yield f"time           {made.ms:.1f} ms per picture (median, without reading the file)"
    if found.twice:
        yield f"{found.twice} pictures were there twice: they count once"
    if made.unlit:
        yield f"{made.unlit} pictures are so dark or bright that a station with default limits refuses them"
    for label, count in found.unreadable.items():
        yield f"class {label}: {count} files cannot be read"


def _claimed(found: JudgedSet) -> str:
    claim, samples = found.claims[0], found.options.samples
    if claim is None:
        return "not known: fewer than 39 golden samples"
    return (
        f"at most {claim.false_rejects_at_most:.1%} of good parts like the golden samples are rejected, with"
        f" {claim.confidence:.0%} confidence; {claim.good_parts} of {samples} samples only set the threshold,"
        f" parts are compared with {samples - claim.good_parts}"
    )


def _confusion(made: EvaluationSummary) -> Iterator[str]:
    columns = list(dict.fromkeys(said for counts in made.confusion.values() for said in counts))
    columns.sort(key=lambda said: (said != "pass", said))
    width = max(len(label) for label in (*made.confusion, "class"))
    yield "  ".join(["class".ljust(width), *(said.rjust(8) for said in columns)])
    for label, counts in made.confusion.items():
        cells = (f"{counts.get(said, 0):.1f}".removesuffix(".0") for said in columns)
        yield "  ".join(
            [
                label.ljust(width),
                *(c.rjust(max(8, len(said))) for c, said in zip(cells, columns, strict=True)),
            ]
        )


def _shown(one: Estimate, digits: int) -> str:
    return f"{one.value:.{digits}f} ({one.low:.{digits}f} to {one.high:.{digits}f})"


def _percent(one: Estimate) -> str:
    return f"{one.value:.1%} ({one.low:.1%} to {one.high:.1%})"
