"""The demo's line on the day before: it is well, and the station is commissioned on it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from PIL import Image

from adapters.baseline.baseline import Commissioning
from adapters.baseline.build import commission
from adapters.core.measured_with import MeasuredWith
from adapters.core.protocol import Engine
from adapters.core.scorer import Scorer
from adapters.core.version import SOURCE
from agent.base.codec import timestamp
from agent.baseline.capture import watch
from agent.baseline.golden_samples import read_golden
from agent.config.loader import Loaded
from agent.config.recipes import find_recipe
from agent.domain.active_version import ActiveVersion
from agent.versions.commissioned import Uncommissioned, commissioning_file
from agent.versions.station_picture import picture_of
from agent.versions.station_plans import failing, prompts
from camera.core.settings import SimulatedCamera
from camera.simulation.source import SimulatedLine

PARTS: Final = 1000
"""As few as drift can be calibrated on."""
GOLDEN: Final = 20
"""Pictures per class."""
_SEED: Final = 1007
"""Of the parts that are commissioned on; those of the story are others."""


def commission_line(loaded: Loaded, station: str, engine: Engine) -> Commissioning:
    """Commission the demo's station and keep it where the agent finds it.

    Args:
        loaded: the demo's config.
        station: its station.
        engine: of the same weights as the agent's; ONNX Runtime needs half of torch's time for it.

    Raises:
        AdapterError: the line does not allow it.
    """
    settings = loaded.config.stations[station]
    recipe = find_recipe(settings.recipe, loaded.config.recipes)
    fails = failing(recipe)
    scorer = Scorer(engine, prompts(recipe), fails)
    with tempfile.TemporaryDirectory(prefix="mekiki-golden-") as folder:
        _write_golden(Path(folder), tuple(recipe.classes))
        golden = read_golden(Path(folder), recipe, settings, scorer).samples
    scores = scorer.look(golden.pictures, engine.source).scores
    source = ActiveVersion(SOURCE, engine.source, 0.0)
    found = Uncommissioned(station, settings.adaptation, "operating_point", source, "")
    day = _the_day_before(loaded, station)
    seen = watch(day, found, recipe, engine, PARTS, lambda count, fault: None).seen
    clean = commission(
        seen,
        golden,
        scores,
        station=station,
        weights=engine.info.weights,
        recipe=recipe.words,
        labels=tuple(recipe.classes),
        fails=fails,
        made_at=timestamp(datetime.now(UTC)),
        made_by="the demo, which knows the simulated line's truth",
        measured=MeasuredWith.of(engine.info, picture_of(settings, engine.info.preprocess.resize_mode)),
    )
    file = commissioning_file(loaded.config, station)
    file.parent.mkdir(parents=True)
    clean.save(file)
    return clean


def sentences(clean: Commissioning) -> str:
    """Say in two sentences what commissioning came to."""
    numbers, claim = clean.numbers, clean.testimony.claim
    assert claim is not None  # there are golden samples of good parts
    return (
        f"Commissioned on {numbers['parts']:.0f} parts of the clean line and {GOLDEN} golden pictures"
        f" per class: a part fails from {clean.offset:.2f} on, where good ones score about"
        f" {numbers['good_score']:.1f} and confirmed defects {numbers['defect_score']:.1f}."
        f" Of {claim.good_parts} golden good parts it rejects {claim.rejected}: at most"
        f" {claim.false_rejects_at_most:.1%} of all, with {claim.confidence:.0%} confidence; it misses"
        f" {numbers['missed']:.1%} of the confirmed defects."
    )


def _the_day_before(loaded: Loaded, station: str) -> Loaded:
    """Return the config with a line that makes other parts, is well, and waits for nobody."""
    config = loaded.config
    camera = SimulatedCamera(seed=_SEED, parts=PARTS)
    stations = {**config.stations, station: config.stations[station].model_copy(update={"camera": camera})}
    return replace(loaded, config=config.model_copy(update={"stations": stations}))


def _write_golden(folder: Path, labels: tuple[str, ...]) -> None:
    line = SimulatedLine(SimulatedCamera(seed=_SEED + 1, defect_rate=0.85, burst_rate=0.0))
    missing = dict.fromkeys(labels, GOLDEN)
    for label in labels:
        (folder / label).mkdir()
    number = 0
    while any(missing.values()):
        number += 1
        label = line.label(number)
        if missing[label]:
            missing[label] -= 1
            Image.fromarray(line.picture(number)).save(folder / label / f"{number:04}.png")
