"""The product whose golden samples a command is about."""

from __future__ import annotations

import argparse
import difflib
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import UsageError
from agent.config.absent import whatever_is_spared
from agent.config.diagnostics import did_you_mean
from agent.config.loader import load
from agent.config.models import Config, Station
from agent.config.recipes import Recipe, find_recipe
from agent.golden.index import GOOD
from agent.golden.store import GoldenStore
from agent.versions.file_plan import in_force, with_recipe
from agent.versions.products import product


@dataclass(frozen=True, slots=True)
class GoldenTarget:
    """A product of a station.

    Attributes:
        config: with the recipe in force that the command is about.
        name: of the station.
        recipe: its name.
    """

    config: Config
    name: str
    recipe: str

    @property
    def station(self) -> Station:
        """Return the station's config."""
        return self.config.stations[self.name]

    @property
    def rules(self) -> Recipe:
        """Return the recipe."""
        return find_recipe(self.recipe, self.config.recipes)

    @property
    def data(self) -> Path:
        """Return the data folder."""
        return Path(self.config.agent.data_dir)

    @property
    def store(self) -> GoldenStore:
        """Return the golden set."""
        return GoldenStore(product(self.config, self.name, self.recipe).golden, self.name)

    def require_class(self, label: str) -> None:
        """Raise UsageError where a recipe with words has no such class."""
        known = [*self.rules.classes]
        if known and label not in {*known, GOOD}:
            raise UsageError(
                f"{label}: no class of recipe {self.recipe}: {did_you_mean(label, [*known, GOOD])}"
            )

    def note_on(self, label: str) -> str | None:
        """Return a question where a class of a recipe without words is new, and its name almost another."""
        known = {*self.store.index().classes().values(), GOOD}
        if self.rules.classes or label in known:
            return None
        close = difflib.get_close_matches(label.lower(), known, n=1)
        if not close:
            return None
        return (
            f"class {label} is new here and counts as a defect: did you mean {close[0]}? Then mekiki golden"
            f" remove {label}/, and add again"
        )


def target_of(arguments: argparse.Namespace) -> GoldenTarget:
    """Return the product that is meant: of the station that is named, or of the only one.

    Raises:
        UsageError: there is none of that name, or there are several.
    """
    loaded = load(Path(arguments.config), whatever_is_spared)
    names, station = list(loaded.config.stations), arguments.station
    if station is None:
        if len(names) > 1:
            raise UsageError(f"which station? add -s with one of {', '.join(names)}")
        station = names[0]
    if station not in names:
        raise UsageError(f"no station is called {station!r}: {did_you_mean(station, names)}")
    config = with_recipe(in_force(loaded), station, arguments.recipe).config
    return GoldenTarget(config, station, config.stations[station].recipe)
