"""What helps a station that knows no defects, only good parts? ``python -m benchmarks.good_parts_only``.

The simulated line, the shipped model, a baseline of good parts that a person vouches for. Under each degradation:
the threshold left as commissioned, kept at its margin over good parts, and as the learner puts it; and LayerNorms
that learn the good parts alone. The truth of other parts says what each misses and rejects wrongly.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.baseline.baseline import Commissioning
from adapters.baseline.build import commission
from adapters.core.adapter import Adapter
from adapters.core.observation import Bytes, Observation, as_bytes, as_pixels
from adapters.core.scorer import Scorer
from adapters.engines.factory import ModelSettings
from adapters.gate.evaluation import Evaluation, distance
from adapters.gate.promotion_gate import GateLimits, judge
from adapters.learner.factory import LearnerModel
from adapters.learner.sample_buffer import good_parts
from agent.config.recipes import find_recipe
from agent.versions.station_plans import failing, prompts
from benchmarks.machine import describe, in_words, table, write
from camera.pictures.preprocess import InputSpec, prepare
from camera.simulation.degradations import degrade
from camera.simulation.part import LABELS, render_part

SEED = 18
FIRST = 7_000_000
"""Number of the first part: others are commissioned, trained and streamed elsewhere."""
COMMISSIONED, GOOD, DEFECTS, RECENT = 1000, 120, 60, 96
CONDITIONS = (
    ("contrast", 4.0),
    ("dim", 4.0),
    ("defocus", 2.0),
    ("defocus", 4.0),
    ("noise", 3.0),
    ("fog", 3.0),
)
LEARNED = (("contrast", 4.0), ("dim", 4.0))
PROPOSALS = 3
BOUND = 8.0


class Line:
    """Renders parts and looks at them with the shipped model. One thread."""

    def __init__(self) -> None:
        recipe = find_recipe("line", {})
        self.recipe, self.fails = recipe, failing(recipe)
        model = LearnerModel(ModelSettings(threads=2))
        self.engine, self.update = model.open(prompts(recipe), full=True, halt=lambda: False)
        self.scorer = Scorer(self.engine, prompts(recipe), self.fails)

    def pictures(self, labels: list[str], first: int, worse: tuple[str, float] | None = None) -> Bytes:
        """Return parts as the model's input shows them; a degradation stays, but noise is new in each."""
        spec, shown = self.engine.info.preprocess, []
        for number, label in enumerate(labels, FIRST + first):
            photo = render_part(label, np.random.default_rng([number, SEED]))[0]
            if worse is not None:
                photo = degrade(photo, *worse, SEED + (number if worse[0] == "noise" else 0))
            shown.append(prepare(photo, InputSpec(**asdict(spec))))
        return as_bytes(np.stack(shown), spec)

    def seen(self, pictures: Bytes) -> list[Observation]:
        """Return what the source model sees, one picture a second."""
        view = self.scorer.look(pictures, self.scorer.source)
        chances = np.exp(view.logits - view.logits.max(axis=1, keepdims=True)).astype(np.float64)
        chances /= chances.sum(axis=1, keepdims=True)
        entropies = -(chances * np.log(np.maximum(chances, 1e-12))).sum(axis=1)
        facts = zip(pictures, view.features, view.scores, view.logits.argmax(axis=1), entropies, strict=True)
        return [
            Observation(row, float(row), picture, feature, float(score), int(label), float(entropy))
            for row, (picture, feature, score, label, entropy) in enumerate(facts, 1)
        ]

    def baseline(self) -> Commissioning:
        """Commission good parts that a person vouches for."""
        return commission(
            self.seen(self.pictures(["ok"] * COMMISSIONED, 0)), None, None,
            station="line", weights=self.engine.info.weights, recipe=self.recipe.words,
            labels=tuple(self.recipe.classes), fails=self.fails, made_at="2026-01-01T00:00:00Z", all_good=True,
        )  # fmt: skip


def main() -> None:
    """Try it under each degradation, and write the table."""
    line = Line()
    clean = line.baseline()
    good = line.scorer.look(clean.good, line.scorer.source).scores
    margin = clean.offset - float(np.median(np.sort(good)[: round(0.8 * len(good))]))
    labels = ["ok"] * GOOD + [LABELS[1 + n % (len(LABELS) - 1)] for n in range(DEFECTS)]
    bad = np.array([label != "ok" for label in labels])
    rows: list[dict[str, Any]] = []
    for worse in CONDITIONS:
        shown = line.pictures(labels, 20_000, worse)
        mixed = ["ok" if n % 20 else LABELS[1 + n % (len(LABELS) - 1)] for n in range(1, RECENT + 1)]
        recent = line.seen(line.pictures(mixed, 40_000, worse))
        trial = Evaluation.hold(line.scorer, clean, recent, BOUND, SEED)
        usual = trial.frozen.point.offset - trial.frozen.margin
        source = line.scorer.source
        for way, offset in (
            ("threshold as commissioned", clean.offset),
            ("threshold at its margin over good parts", usual + min(margin, clean.offset + BOUND - usual)),
            ("threshold as the learner puts it", trial.frozen.point.offset),
        ):
            rows.append(_row(line, worse, way, source, shown, bad, offset))
        if worse in LEARNED:
            rows += _learned(line, clean, trial, recent, worse, shown, bad)
    machine = describe("numpy", "onnxruntime")
    write("good_parts_only", {"machine": machine, "rows": rows}, _markdown(in_words(machine), rows))


def _learned(
    line: Line,
    clean: Commissioning,
    trial: Evaluation,
    recent: list[Observation],
    worse: tuple[str, float],
    shown: Bytes,
    bad: NDArray[np.bool_],
) -> list[dict[str, Any]]:
    """Return what proposals make that learn good parts alone, one after the other, and what the guard says."""
    assert line.update is not None
    spec, rows, adapter, before = line.engine.info.preprocess, [], line.scorer.source, trial.frozen
    known = clean.usable.half(0)
    for number in range(1, PROPOSALS + 1):
        anchors = as_pixels(trial.condition.render(known.pictures, SEED + number), spec)
        pictures, classes = good_parts(recent, clean.fails)
        stream = (as_pixels(pictures, spec), classes)
        adapter = line.update(adapter, (anchors, known.classes), stream, SEED + number)[0]
        after = trial.assess(adapter)
        ruling = judge(trial.evidence(before, after, distance(adapter, line.scorer.source)), GateLimits())
        way = f"LayerNorms of good parts alone, proposal {number} ({ruling.rule})"
        rows.append(_row(line, worse, way, adapter, shown, bad, after.point.offset))
        before = after if ruling.keep else before
    return rows


def _row(
    line: Line,
    worse: tuple[str, float],
    way: str,
    adapter: Adapter,
    shown: Bytes,
    bad: NDArray[np.bool_],
    offset: float,
) -> dict[str, Any]:
    scores = line.scorer.look(shown, adapter).scores
    return {
        "condition": f"{worse[0]} {worse[1]:g}",
        "way": way,
        "offset": offset,
        "missed": float((scores[bad] < offset).mean()),
        "false_rejects": float((scores[~bad] >= offset).mean()),
        "auroc": float((scores[bad][:, None] > scores[~bad][None]).mean()),
    }


def _markdown(machine: str, rows: list[dict[str, Any]]) -> str:
    made = [
        [
            row["condition"], row["way"], f"{row['offset']:.2f}", f"{row['missed']:.1%}",
            f"{row['false_rejects']:.1%}", f"{row['auroc']:.3f}",
        ]
        for row in rows
    ]  # fmt: skip
    heads = ["condition", "what is done", "threshold", "missed", "false rejects", "AUROC"]
    return (
        "# What helps where only good parts are known?\n\n"
        f"The simulated line and `mekiki-line`, commissioned on {COMMISSIONED} good parts that a person vouches for,"
        f" seed {SEED}. {GOOD} other good parts and {DEFECTS} defects say what is missed and rejected wrongly.\n\n"
        f"{table(heads, made)}\nMeasured on {machine}.\n"
    )


if __name__ == "__main__":
    main()
