"""A commissioned station for tests: flanges of the simulated line, the shipped model, a config of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from adapters.baseline.baseline import Commissioning, ReferenceSamples
from adapters.baseline.build import commission
from adapters.core.observation import Observation, as_bytes
from adapters.core.protocol import Engine
from adapters.core.scorer import Scorer
from adapters.engines.factory import ModelSettings, open_engine
from agent.config.loader import Loaded, load
from agent.config.recipes import shipped
from agent.versions.station_plans import failing, prompts
from camera.core.frame import Image as Picture
from camera.core.settings import SimulatedCamera
from camera.pictures.preprocess import InputSpec, prepare
from camera.simulation.degradations import degrade
from camera.simulation.source import SimulatedLine
from tests.support.line_site import seen_by
from tests.support.places import ROOT

CHECKPOINT = ROOT / "benchmarks" / "weights" / "mekiki-line.safetensors"
TORCH = {"engine": "torch", "name": "mekiki-line", "checkpoint": str(CHECKPOINT), "threads": 1}
ONNX = {"threads": 1}
PARTS = 150
LINE = SimulatedLine(SimulatedCamera(seed=5, defect_rate=0.25, burst_rate=0.0))


@cache
def engine() -> Engine:
    """Return the shipped bundle: the same weights as `TORCH`, without torch."""
    return open_engine(ModelSettings(threads=1))


@cache
def photos(worse: str | None = None, severity: float = 4.0) -> tuple[Picture, ...]:
    """Return the line's first parts, a quarter of them defective; with a degradation if one is named."""
    plain = [LINE.picture(number) for number in range(1, PARTS + 1)]
    if worse is None:
        return tuple(plain)
    return tuple(degrade(photo, worse, severity, row) for row, photo in enumerate(plain))


def scorer() -> Scorer:
    """Return an eye of the shipped bundle with the line's recipe."""
    recipe = shipped("line")
    return Scorer(engine(), prompts(recipe), failing(recipe))


@cache
def looks(worse: str | None = None, severity: float = 4.0) -> tuple[Observation, ...]:
    """Return what the frozen model sees of them."""
    spec = engine().info.preprocess
    pixels = np.stack([prepare(photo, InputSpec(**asdict(spec))) for photo in photos(worse, severity)])
    return tuple(seen_by(scorer(), as_bytes(pixels, spec)))


def stream(
    count: int, worse: str | None = None, first: int = 1, defects: float = 0.05, severity: float = 4.0
) -> list[Observation]:
    """Return `count` frames: the parts come in any order and again and again."""
    rng, seen = np.random.default_rng(first), looks(worse, severity)
    good = [LINE.label(number) == "ok" for number in range(1, PARTS + 1)]
    kinds = [[one for one, ok in zip(seen, good, strict=True) if ok is wanted] for wanted in (True, False)]
    drawn = (kinds[int(rng.random() < defects)] for _ in range(count))
    return [_numbered(kind[rng.integers(len(kind))], first + row) for row, kind in enumerate(drawn)]


@cache
def clean() -> Commissioning:
    """Commission the line on 1000 frames and golden pictures of its defects."""
    recipe = shipped("line")
    classes = np.array([list(recipe.classes).index(LINE.label(number)) for number in range(1, PARTS + 1)])
    rows = np.flatnonzero(classes > 0)
    golden = ReferenceSamples(
        np.stack([looks()[row].picture for row in rows]), classes[rows].astype(np.int64)
    )
    return commission(
        stream(1000),
        golden,
        np.array([looks()[row].score for row in rows], np.float32),
        station="line",
        weights=engine().info.weights,
        recipe=recipe.words,
        labels=tuple(recipe.classes),
        fails=failing(recipe),
        made_at="2026-01-01T00:00:00.000Z",
    )


def site(
    folder: Path, *, commissioned: bool = True, camera: dict[str, Any] | None = None, **sections: Any
) -> Loaded:
    """Return the config of a station `line` with its data in `folder`; `adaptation` may be a section."""
    station = {"recipe": "line", "camera": camera or {"kind": "simulated", "seed": 5}}
    station["adaptation"] = sections.pop("adaptation", {})
    config = {
        "version": 1,
        "agent": {"id": "agent", "data_dir": "data"},
        "model": ONNX,
        "mqtt": {"enabled": False},
        "stations": {"line": station},
        "storage": {"min_free_mb": 0},
        **sections,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    if commissioned:
        place = folder / "data" / "stations" / "line"
        place.mkdir(parents=True, exist_ok=True)
        clean().save(place / "commissioning.safetensors")
    return load(path)


def write_photos(folder: Path, labels: Sequence[str], count: int) -> Path:
    """Write pictures of parts into ``folder/<label>/``."""
    for label in labels:
        (folder / label).mkdir(parents=True)
        rows = [row for row in range(PARTS) if LINE.label(row + 1) == label][:count]
        for row in rows:
            Image.fromarray(photos()[row]).save(folder / label / f"{row:04}.png")
    return folder


def _numbered(seen: Observation, number: int) -> Observation:
    return Observation(
        number, float(number), seen.picture, seen.feature, seen.score, seen.label, seen.entropy
    )
