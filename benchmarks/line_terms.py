"""What each term of the line's update is worth: every degradation, every term alone and together.

For each kind: 200 unlabelled pictures of the stream show the condition, 20 known parts of each class are rendered
under it, half to learn from and half to set the operating point, and other parts, truly degraded, judge.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapters.baseline.baseline import Commissioning, ReferenceSamples
from adapters.baseline.build import commission
from adapters.baseline.clean_share import clean_half
from adapters.core.adapter import Adapter
from adapters.core.observation import Bytes, Observation, as_pixels
from adapters.core.scorer import Scorer
from adapters.encoders.torch_encoders import TorchEncoders
from adapters.engines.torch_engine import TorchEngine
from adapters.gate.evaluation import Evaluation
from adapters.learner.losses import Words
from adapters.learner.optimizer import Optimizer
from adapters.learner.rehearsal_update import RehearsalUpdate
from adapters.methods.batclip import Batclip
from adapters.methods.method import Texts
from adapters.torch_model.clip import Clip
from benchmarks.eval_line import auroc
from benchmarks.machine import describe, in_words
from benchmarks.stream_frames import held_out
from benchmarks.stream_site import FrozenAnswers, open_model, seen_of
from benchmarks.stream_worlds import World, world_of
from benchmarks.streams import STRONG

RESULTS = Path(__file__).parent / "results"
STEPS = 24
RECENT = 200
TEST_PER_CLASS = 40
GOLDEN_PER_CLASS = 20
REFERENCE = 1500
FULL = RehearsalUpdate(steps=STEPS)
NONE = replace(FULL, matching=0.0, separation=0.0, entropy=0.0)
VARIANTS: dict[str, RehearsalUpdate] = {
    "anchor": NONE,
    "anchor + matching": replace(NONE, matching=1.0),
    "anchor + separation": replace(NONE, separation=1.0),
    "anchor + matching + separation": replace(NONE, matching=1.0, separation=1.0),
    "anchor + entropy": replace(NONE, entropy=0.3),
    "anchor + all three": replace(NONE, matching=1.0, separation=1.0, entropy=0.3),
}


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["line", "clip"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kinds", nargs="+")
    parser.add_argument("--name", default="line_terms")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for model in arguments.models:
        for seed in range(arguments.seeds):
            world = world_of(model, seed)
            strong = STRONG[world.name]
            for kind in arguments.kinds or strong:
                rows += measure(model, world, kind, strong[kind], seed)
                write(arguments.name, rows)


def measure(model: str, world: World, kind: str, severity: float, seed: int) -> list[dict[str, Any]]:
    """Return a row per variant for one degradation."""
    clip, texts = open_model(model, world)
    scorer = Scorer(TorchEngine(clip), world.prompts, world.fails)
    words = Words.of(scorer.engine, world.prompts)
    spec = clip.info.preprocess
    rng = np.random.default_rng([seed, 11])

    def draw(labels: np.ndarray, worse: Sequence[tuple[str, float]], number: int) -> Bytes:
        return held_out(world, spec, labels, worse, 1000 * seed + number)

    line = np.where(
        rng.random(REFERENCE) < 0.97,
        rng.choice(np.flatnonzero(~world.fails), REFERENCE),
        rng.choice(np.flatnonzero(world.fails), REFERENCE),
    )
    golden = np.repeat(np.arange(len(world.labels)), GOLDEN_PER_CLASS)
    known = ReferenceSamples(draw(golden, (), 1), golden)
    clean = commission(
        look(scorer, draw(line, (), 2)), known, scorer.look(known.pictures, scorer.source).scores,
        station=model, weights=clip.info.weights, recipe=world.prompts.digest, labels=world.labels,
        fails=world.fails, made_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    worse = ((kind, severity),)
    truth = np.repeat(np.arange(len(world.labels)), TEST_PER_CLASS)
    # At once, because one seed is one lens.
    shown = draw(np.concatenate([rng.permutation(line)[:RECENT], truth, truth]), worse, 3)
    recent, fails = look(scorer, shown[:RECENT]), world.fails[truth]
    test, labelled = shown[RECENT : RECENT + len(truth)], shown[RECENT + len(truth) :]
    trial = Evaluation.hold(scorer, clean, recent, 8.0, seed)

    def row(name: str, adapter: Adapter, offset: float) -> dict[str, Any]:
        scores = scorer.look(test, adapter).scores
        rejected, missed = float((scores[~fails] >= offset).mean()), float((scores[fails] < offset).mean())
        return {
            "model": model, "kind": kind, "seed": seed, "variant": name, "auroc": auroc(scores, fails),
            "balanced": 1 - (rejected + missed) / 2, "rejected": rejected, "missed": missed,
        }  # fmt: skip

    def tracked(name: str, adapter: Adapter) -> dict[str, Any]:
        return row(name, adapter, trial.assess(adapter).point.offset)

    rows = [
        row("frozen", scorer.source, clean.offset),
        tracked("frozen, operating point tracked", scorer.source),
    ]
    for name, update in VARIANTS.items():
        rows.append(tracked(name, learn(clip, words, clean, trial, recent, update, seed)))
    for mode in ("exact", "line"):
        adapter = batclip(
            clip, texts, recent, Batclip(mode=mode, optimizer=Optimizer("AdamW", 1e-3, weight_decay=0.01))
        )
        rows.append(tracked(f"BATCLIP {mode} alone, operating point tracked", adapter))
    true = as_pixels(labelled, spec)
    best, _ = NONE.propose(
        TorchEncoders(clip), words, clip.source, (true, truth), (true[:0], truth[:0]), seed
    )
    rows.append(tracked("anchor on labelled pictures of the condition itself", best))
    for one in rows:
        print(f"{model} {kind} {one['variant']}: {one['balanced']:.3f} {one['auroc']:.3f}", flush=True)
    return rows


def learn(
    clip: Clip,
    words: Words,
    clean: Commissioning,
    trial: Evaluation,
    recent: Sequence[Observation],
    update: RehearsalUpdate,
    seed: int,
) -> Adapter:
    """Return the adapter after one proposal."""
    assert trial.condition is not None
    spec, half = clip.info.preprocess, clean.known.half(0)
    scores = np.array([one.score for one in recent], np.float32)
    good = clean_half(np.stack([one.picture for one in recent]), scores)[: len(recent) // 2]
    usual = np.full(len(good), int(np.flatnonzero(~clean.fails)[0]))
    known = as_pixels(trial.condition.render(half.pictures, seed + 1), spec)
    learned, _ = update.propose(
        TorchEncoders(clip), words, clip.source, (known, half.classes), (as_pixels(good, spec), usual), seed
    )
    return learned


def batclip(clip: Clip, texts: Texts, recent: Sequence[Observation], method: Batclip) -> Adapter:
    """Return the adapter after as many steps on the stream's newest 64 pictures."""
    pixels = torch.from_numpy(
        as_pixels(np.stack([one.picture for one in recent[-64:]]), clip.info.preprocess)
    )
    state = method.start(clip, texts)
    for _ in range(STEPS // 2):
        state, _ = method.step(clip, state, pixels, texts)
    return state.adapter


def look(scorer: Scorer, pictures: Bytes) -> list[Observation]:
    """Return what the frozen model sees in pictures, one a second."""
    view = scorer.look(pictures, scorer.source)
    return seen_of(pictures, FrozenAnswers(view.logits, view.features), scorer.fails, 1)


def write(name: str, rows: list[dict[str, Any]]) -> None:
    """Write what is there so far as JSON and as a table."""
    machine = describe()
    lines = [
        "# What each term of the line's update is worth",
        "",
        f"Written by `python -m benchmarks.line_terms`. {in_words(machine)}",
        f"{STEPS} steps from the source, {GOLDEN_PER_CLASS} known parts of each class, half learned from, half for the",
        f"operating point; {TEST_PER_CLASS} other parts of each class judge, truly degraded. Balanced accuracy of ok",
        "against defect at the operating point / AUROC, means over kinds and seeds.",
    ]
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        kinds = list(dict.fromkeys(row["kind"] for row in mine))
        seeds = len({row["seed"] for row in mine})
        lines += ["", f"## {model}, {seeds} seed{'s' * (seeds > 1)}", ""]
        lines += ["| variant | mean | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 2) + "|"]
        for variant in dict.fromkeys(row["variant"] for row in mine):
            cells = []
            for kind in [None, *kinds]:
                chosen = [r for r in mine if r["variant"] == variant and kind in (None, r["kind"])]
                balanced = 100 * float(np.mean([r["balanced"] for r in chosen]))
                area = float(np.mean([r["auroc"] for r in chosen]))
                cells.append(f"{balanced:.1f} / {area:.3f}")
            lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.json").write_text(
        json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
