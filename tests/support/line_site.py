"""A small site for tests: flanges under a good and a bad lamp, and a line of frames that nobody rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import settings
from numpy.typing import NDArray

from adapters.baseline.baseline import Commissioning, ReferenceSamples
from adapters.baseline.build import commission
from adapters.baseline.clean_share import clean_rows
from adapters.baseline.threshold import separate
from adapters.core import protocol as engine
from adapters.core.observation import Bytes, Observation, as_bytes
from adapters.core.prompts import Prompts
from adapters.monitoring.degradation_fit import PictureStatistics
from adapters.monitoring.drift_baseline import DriftReference
from benchmarks.line_data import read_recipe
from camera.core.frame import Image
from camera.pictures.preprocess import InputSpec, prepare
from camera.simulation.degradations import degrade
from camera.simulation.part import LABELS, render_part

if TYPE_CHECKING:
    from adapters.core.scorer import Scorer

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
WEIGHTS = "sha256:" + "1" * 64
RECIPE = "sha256:" + "2" * 64

PLAIN = ("ok", "scratch", "dent")
PLAIN_FAILS = np.array([False, True, True])
"""Classes of `frames`."""
FAILS = np.array([label != "ok" for label in LABELS])
"""Of the flanges' classes."""

UNHURRIED = settings(deadline=None)
"""For hypothesis: how long an example takes is the machine's affair."""
FEW = settings(UNHURRIED, max_examples=30)


def spec(side: int) -> engine.Preprocess:
    """Return how the shipped model wants its pictures, at any size."""
    return engine.Preprocess(side, MEAN, STD, "bicubic", "squash")


def prepared(photos: Sequence[Image], side: int) -> Bytes:
    """Return ``(N, side, side, 3)`` what the camera side makes of photos, as bytes."""
    ours = InputSpec(**asdict(spec(side)))
    return as_bytes(np.stack([prepare(photo, ours) for photo in photos]), spec(side))


@cache
def part(label: str, number: int) -> Image:
    """Return the photo of a flange; equal numbers of two labels differ in the defect only."""
    photo = render_part(label, np.random.default_rng([number, 99]))[0]
    photo.setflags(write=False)
    return photo


def flanges(
    labels: Sequence[str], first: int, side: int = 128, worse: tuple[str, float] | None = None
) -> Bytes:
    """Return ``(N, side, side, 3)`` flanges as the model's input shows them.

    Args:
        labels: what each is.
        first: number of the first part; parts of other numbers are other parts.
        side: of the model's input.
        worse: kind and severity of a degradation; it stays from part to part, but noise is new in each.
    """
    photos = [part(label, number) for number, label in enumerate(labels, first)]
    if worse is not None:
        each = 1 if worse[0] == "noise" else 0
        photos = [degrade(photo, *worse, 5 + each * number) for number, photo in enumerate(photos, first)]
    return prepared(photos, side)


def frames(
    count: int, seed: int = 0, *, defects: float = 0.03, side: int = 16, pictures: Bytes | None = None
) -> list[Observation]:
    """Return frames of a clean line that a model which is sure of everything has seen.

    Args:
        count: of frames; drift wants 1000.
        seed: of all that varies.
        defects: share of defective parts.
        side: of the pictures.
        pictures: ``(count, S, S, 3)`` to take instead of grey noise.
    """
    rng = np.random.default_rng(seed)
    seen = []
    for number in range(1, count + 1):
        label = int(rng.integers(1, len(PLAIN))) if rng.random() < defects else 0
        feature = rng.standard_normal(24) + 8 * np.eye(24)[label]
        grey = np.clip(rng.normal(120 + 4 * feature[5], 12, (side, side, 3)), 0, 255).astype(np.uint8)
        picture = grey if pictures is None else pictures[number - 1]
        score = (4.0 if label else -4.0) + float(rng.standard_normal()) / 2
        unit = (feature / np.linalg.norm(feature)).astype(np.float32)
        seen.append(Observation(number, float(number), picture, unit, score, label, 0.05))
    return seen


def commissioned(
    seen: Sequence[Observation], golden: ReferenceSamples | None = None, *, all_good: bool = False
) -> Commissioning:
    """Commission the line of `frames`."""
    scores = None if golden is None else np.where(PLAIN_FAILS[golden.classes], 4.0, -4.0).astype(np.float32)
    return commission(
        seen, golden, scores,
        station="top", weights=WEIGHTS, recipe=RECIPE, labels=PLAIN, fails=PLAIN_FAILS,
        made_at="2026-01-01T00:00:00Z", all_good=all_good,
    )  # fmt: skip


@cache
def line_eye() -> Scorer:
    """Return the shipped model with the recipe for flanges; needs torch."""
    from adapters.core.scorer import Scorer
    from adapters.engines.torch_engine import TorchEngine
    from adapters.torch_model.loader import load_clip
    from benchmarks.ship_line import WEIGHTS as CHECKPOINT

    recipe = read_recipe("line")
    prompts = Prompts(tuple(zip(recipe.labels, recipe.phrases, strict=True)), recipe.templates)
    clip = load_clip("mekiki-line", checkpoint=CHECKPOINT, device="cpu")
    return Scorer(TorchEngine(clip), prompts, np.array(recipe.fails))


def seen_by(scorer: Scorer, pictures: Bytes, first: int = 1) -> list[Observation]:
    """Return what the frozen model sees, numbered from `first`, one a second."""
    view = scorer.look(pictures, scorer.source)
    chances = np.exp(view.logits - view.logits.max(axis=1, keepdims=True)).astype(np.float64)
    chances /= chances.sum(axis=1, keepdims=True)
    entropies = -(chances * np.log(np.maximum(chances, 1e-12))).sum(axis=1)
    facts = zip(pictures, view.features, view.scores, view.logits.argmax(axis=1), entropies, strict=True)
    return [
        Observation(number, float(number), picture, feature, float(score), int(label), float(entropy))
        for number, (picture, feature, score, label, entropy) in enumerate(facts, first)
    ]


def line_commissioning(scorer: Scorer, each: int = 12, reference: int = 120) -> Commissioning:
    """Commission flanges on fewer pictures than a station would; only drift is made up.

    Args:
        eye: sees them.
        each: golden parts per class.
        reference: good parts of the stream.
    """
    classes = np.repeat(np.arange(len(LABELS)), each)
    known = ReferenceSamples(flanges([LABELS[c] for c in classes], 10_000), classes)
    good = flanges(["ok"] * reference, 0)
    scores = scorer.look(good, scorer.source).scores
    defects = scorer.look(known.pictures[FAILS[classes]], scorer.source).scores
    clean = np.sort(clean_rows(scores))
    return Commissioning(
        "top", scorer.engine.info.weights, scorer.prompts.digest, LABELS, FAILS, "2026-01-01T00:00:00Z",
        "golden",
        known, good[:40], PictureStatistics.of(good[clean]), _any_drift(),
        separate(scores, defects, 0.01), {},
    )  # fmt: skip


def defective(labels: Sequence[str]) -> NDArray[np.bool_]:
    """Return which of some flanges fail."""
    return np.array([label != "ok" for label in labels])


@cache
def _any_drift() -> DriftReference:
    return DriftReference.calibrate(frames(1000))
