"""Pictures of parts in a folder, a config that compares them, and references of the packaged backbone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import yaml
from PIL import Image as Pillow

from adapters.backbone.factory import open_backbone
from adapters.core.patches import PatchExtractor
from adapters.reference.reference import Reference
from agent.config.loader import Loaded, load
from agent.inspection.feed_factory import framing_of
from agent.versions.products import product
from agent.versions.station_reference import facts_of
from camera.pictures.region import Region
from tests.support.small_backbone import part

SPOT = (36, 18)
WIDTH, HEIGHT = 96, 64


@cache
def backbone() -> PatchExtractor:
    return open_backbone("backbone", Path(gettempdir()) / "mekiki-test-backbones", threads=1)


def good(number: int) -> np.ndarray:
    return part(number, width=WIDTH, height=HEIGHT)


def bad(number: int) -> np.ndarray:
    return part(number, width=WIDTH, height=HEIGHT, spot=SPOT)


def write_parts(folder: Path, *, count: int = 2) -> Path:
    """Write good parts, and as many with a white spot."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Pillow.fromarray(good(500 + number)).save(folder / f"good-{number}.png")
        Pillow.fromarray(bad(600 + number)).save(folder / f"spot-{number}.png")
    return folder


WORDS: dict[str, Any] = {
    "templates": ["a photo of {}"],
    "threshold": 1.0,  # so that the words alone fail next to nothing
    "classes": {
        "ok": {"verdict": "pass", "phrases": ["a good part"]},
        "bad": {"verdict": "fail", "phrases": ["a bad part"]},
    },
}


def edit(loaded: Loaded, change: Callable[[dict[str, Any]], Any]) -> Loaded:
    """Save another config, and load it."""
    config = yaml.safe_load(loaded.path.read_text())
    change(config)
    loaded.path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load(loaded.path)


def line(folder: Path, **sections: Any) -> Loaded:
    """Return a config of one station, `top`, whose recipe compares; its model is nowhere."""
    own: dict[str, Any] = {"reference": {"severity": "critical"}}
    config = {
        "version": 1,
        "agent": {"id": "agent", "data_dir": "data"},
        "model": {"bundle": "nowhere"},
        "mqtt": {"enabled": False},
        "recipes": {"own": own},
        "stations": {
            "top": {
                "recipe": "own",
                "camera": {"kind": "folder", "path": "parts", "loop": True},
                "trigger": {"mode": "interval", "every_s": 0.2},
            }
        },
        "storage": {"min_free_mb": 0},
    }
    write_parts(folder / "parts")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**config, **sections}, sort_keys=False))
    return load(path)


def give_reference(loaded: Loaded, *, seed: int = 0, count: int = 6) -> Reference:
    """Build the reference of the station's product and put it where the agent looks for it."""
    made_of, config = backbone(), loaded.config
    station = config.stations["top"]
    region, framing = Region(station.roi), framing_of(station, made_of.info.preprocess)
    shown = [framing.inputs(region.cut(good(100 * seed + n))[0]).pixels for n in range(count)]
    features = np.stack([made_of.patches(pixels) for pixels in shown])
    made = Reference.build(
        features, made_of.info, most=200, facts=facts_of(config, "top", "own", made_of.info)
    )
    file = product(config, "top", "own").reference
    file.parent.mkdir(parents=True, exist_ok=True)
    made.save(file)
    return made
