"""A station that makes two products: the shipped `line`, of which a version answers, and a `lid`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from agent.config.loader import Loaded
from agent.config.recipes import find_recipe, shipped
from agent.versions.commissioned import commissioning_file
from agent.versions.station_plans import failing
from tests.support.learning_site import clean, site
from tests.support.learning_steps import promote
from tests.support.mqtt_peers import Mosquitto
from tests.support.running_agent import at

LID = 2.5
"""Offset of the second product."""


def plant(folder: Path, broker: Mosquitto | None = None) -> Loaded:
    """Return a station with two commissioned products; of the first, a version answers at offset -4."""
    lid = shipped("line").model_dump(mode="json")
    lid["classes"]["ok"]["phrases"] = ["a flawless lid"]
    lid["classes"]["chipped"] = {"verdict": "fail", "phrases": ["a chipped lid"]}
    camera = {"kind": "simulated", "seed": 5, "fps": 10}
    mqtt = {"enabled": False} if broker is None else {**at(broker), "commands": {"allow": ["*"]}}
    loaded = site(folder, camera=camera, mqtt=mqtt, recipes={"lid": lid}, adaptation={"mode": "frozen"})
    promote(loaded, -4.0)
    file = commissioning_file(loaded.config, "line", "lid")
    file.parent.mkdir(parents=True)
    recipe = find_recipe("lid", loaded.config.recipes)
    replace(
        clean(), recipe=recipe.words, offset=LID, labels=(*clean().labels, "chipped"),
        fails=failing(recipe),
    ).save(file)  # fmt: skip
    return loaded


def edit(loaded: Loaded, change: Callable[[dict[str, Any]], Any]) -> None:
    """Save the file with another station."""
    config = yaml.safe_load(loaded.path.read_text())
    change(config["stations"]["line"])
    loaded.path.write_text(yaml.safe_dump(config, sort_keys=False))
