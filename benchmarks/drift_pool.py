"""Parts of the simulated line, rendered and looked at once, from which long streams of frames are drawn.

Half of the parts are for commissioning, the others for the stream that follows. Conditions between two rendered
severities, and light between two lamps, are interpolated between the rows of the same part.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.core.observation import Observation, as_bytes, log_odds
from adapters.core.prompts import class_features
from adapters.engines.factory import ModelSettings, open_engine
from adapters.monitoring.block_statistics import SCALARS, measure, summarise
from adapters.monitoring.drift_baseline import DriftReference
from adapters.monitoring.drift_detector import Drift, DriftReport, update
from agent.config.recipes import find_recipe
from agent.versions.station_plans import prompts
from camera.pictures.preprocess import InputSpec, prepare
from camera.simulation.degradations import KINDS, degrade
from camera.simulation.part import LABELS, render_part
from camera.simulation.source import BURST_PARTS

CACHE = Path(__file__).parent.parent / "out" / "drift_calibration"
Rows = NDArray[np.float64]

SEED = 4_000_000
HALF, DEFECTS = 3000, 100
"""Ok parts, and parts of each defect class, of commissioning; as many others for the stream."""
WORSE, WORSE_DEFECTS = 300, 10
SEVERITIES = (0.5, 1.0, 1.5, 2.0, 3.0)
DIMMED = 0.3
DIMMED_LIGHT = 0.06
"""Severity of the second pool, and the share of light it lacks."""
DEFECT_RATE, BURST_RATE = 0.03, 0.02
WANDER, CYCLE, WANDER_FRAMES, CYCLE_FRAMES = 0.01, 0.01, 1500, 24_000


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Rows of `measure`, per condition; ``(7000, R)`` with and without a dimmed lamp, ``(350, R)`` of others."""

    rows: dict[str, Rows]

    @classmethod
    def cached(cls) -> Pool:
        """Read what an earlier run rendered, or render it."""
        file = CACHE / "rows.npz"
        if file.exists():
            with np.load(file) as arrays:
                return cls(dict(arrays))
        camera = Camera()
        labels = np.repeat(range(len(LABELS)), [2 * HALF] + [2 * DEFECTS] * (len(LABELS) - 1))
        every = np.arange(len(labels))
        defects = every[2 * HALF :].reshape(-1, 2 * DEFECTS)[:, DEFECTS : DEFECTS + WORSE_DEFECTS]
        few = np.concatenate([np.arange(HALF, HALF + WORSE), defects.ravel()])
        rows = {name: camera.rows(every, labels, "dim", s) for name, s in (("clean", 0), ("dimmed", DIMMED))}
        rows |= {f"{k}-{s:g}": camera.rows(few, labels, k, s) for k in KINDS for s in SEVERITIES}
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(file, **rows)  # type: ignore[arg-type]
        return cls(rows)

    def clean(self, labels: NDArray[np.int64], light: Rows, half: int, rng: np.random.Generator) -> Rows:
        """Draw a frame for each label from one half of the parts, under each frame's light around 0."""
        ok = half * HALF + rng.integers(HALF, size=len(labels))
        bad = 2 * HALF + 2 * DEFECTS * (labels - 1) + half * DEFECTS + rng.integers(DEFECTS, size=len(labels))
        parts = np.where(labels == 0, ok, bad)
        dimmed = (0.5 - light / DIMMED_LIGHT)[:, np.newaxis]
        return (1 - dimmed) * self.rows["clean"][parts] + dimmed * self.rows["dimmed"][parts]

    def worse(self, labels: NDArray[np.int64], kind: str, severity: Rows, rng: np.random.Generator) -> Rows:
        """Draw a frame for each label and severity 0..3."""
        ok = rng.integers(WORSE, size=len(labels))
        bad = WORSE + WORSE_DEFECTS * (labels - 1) + rng.integers(WORSE_DEFECTS, size=len(labels))
        parts = np.where(labels == 0, ok, bad)
        known = np.array([0.0, *SEVERITIES])
        defects = np.arange(2 * HALF, len(self.rows["clean"])).reshape(-1, 2 * DEFECTS)
        few = np.concatenate(
            [np.arange(HALF, HALF + WORSE), defects[:, DEFECTS : DEFECTS + WORSE_DEFECTS].ravel()]
        )
        stack = np.stack([self.rows["clean"][few], *(self.rows[f"{kind}-{s:g}"] for s in SEVERITIES)])
        at = np.clip(np.searchsorted(known, severity, side="right") - 1, 0, len(SEVERITIES) - 1)
        share = ((severity - known[at]) / (known[at + 1] - known[at]))[:, np.newaxis]
        return np.asarray((1 - share) * stack[at, parts] + share * stack[at + 1, parts])


class Camera:
    """Renders parts and lets the shipped model look at them."""

    def __init__(self) -> None:
        self._engine = open_engine(ModelSettings(threads=1))
        recipe = find_recipe("line", {})
        self._texts = class_features(self._engine, prompts(recipe), self._engine.source)
        self._fails = np.array([c.verdict == "fail" for c in recipe.classes.values()])

    def rows(self, parts: NDArray[np.int64], labels: NDArray[np.int64], kind: str, severity: float) -> Rows:
        """Return ``(N, R)`` of these parts in this condition, as a camera that stays the same sees them."""
        spec = self._engine.info.preprocess
        prepared = InputSpec(**{f: getattr(spec, f) for f in spec.__slots__})
        rows = []
        for part in parts:
            image, _ = render_part(LABELS[labels[part]], np.random.default_rng((SEED, int(part))))
            image = degrade(image, kind, severity, SEED + (int(part) << 32 if kind == "noise" else 0))
            pixels = prepare(image, prepared)[np.newaxis]
            feature = self._engine.encode_image(pixels, [self._engine.source])
            feature = feature / np.linalg.norm(feature)
            logits = self._engine.info.logit_scale * feature @ self._texts.T
            chances = np.exp(logits - logits.max())
            chances /= chances.sum()
            entropy = float(-(chances * np.log(chances + 1e-12)).sum())
            score = float(log_odds(logits.astype(np.float32), self._fails)[0])
            picture = as_bytes(pixels, spec)[0]
            rows.append(
                measure(Observation(int(part), 0.0, picture, feature[0], score, 0, max(0.0, entropy)))
            )
        return np.stack(rows)


def labels_of(frames: int, rate: float, bursts: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return what each part is, with the burst structure of the simulated line."""
    labels = np.where(rng.random(frames) < rate, rng.integers(1, len(LABELS), size=frames), 0)
    for start in range(0, frames - BURST_PARTS + 1, BURST_PARTS):
        if rng.random() < bursts:
            labels[start : start + BURST_PARTS] = 0
            labels[start + rng.permutation(BURST_PARTS)[: BURST_PARTS // 2]] = rng.integers(1, len(LABELS))
    return labels


def light_of(frames: int, cycle: float, rng: np.random.Generator) -> Rows:
    """Return the share of light by which each frame differs from the middle."""
    memory = np.exp(-1 / WANDER_FRAMES)
    steps = rng.standard_normal(frames) * WANDER / 2 * np.sqrt(1 - memory**2)
    light, now = np.empty(frames), rng.standard_normal() * WANDER / 2
    for frame, step in enumerate(steps):
        light[frame] = now = memory * now + step
    phase = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(frames) / CYCLE_FRAMES
    return np.asarray(np.clip(light, -WANDER, WANDER) + cycle * np.sin(phase))


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A line that has been commissioned, and its light and random numbers from then on."""

    reference: DriftReference
    scores: Rows
    lumas: Rows
    light: Rows
    rng: np.random.Generator

    @classmethod
    def commissioned(
        cls, pool: Pool, seed: int, later: int, frames: int = 3000, cycle: float = CYCLE
    ) -> Site:
        """Commission with so many frames; the light goes on for `later` more."""
        rng = np.random.default_rng(seed)
        light = light_of(frames + later, cycle, rng)
        rows = pool.clean(labels_of(frames, DEFECT_RATE, BURST_RATE, rng), light[:frames], 0, rng)
        scores, lumas = rows[:, 0], rows[:, SCALARS.index("luma")]
        return cls(DriftReference.from_rows(rows), scores, lumas, light[frames:], rng)


def follow(reference: DriftReference, rows: Rows, drift: Drift) -> tuple[Drift, list[DriftReport]]:
    """Return what is known of drift after the rows, and every report on the way."""
    length, told = reference.block_frames, []
    for end in range(length, len(rows) + 1, length):
        drift = update(drift, reference, summarise(rows[end - length : end]), end - 1, float(end))
        told.append(drift.report)
    return drift, told


def alarms(told: list[DriftReport]) -> int:
    """Count how often drift began."""
    states = [False, *(report.drifting for report in told)]
    return sum(now and not before for before, now in pairwise(states))
