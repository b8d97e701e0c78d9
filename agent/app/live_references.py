"""The references that parts are compared with while the agent runs: read at the start, and on a change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from adapters.core.patches import PatchExtractor
from adapters.core.protocol import ModelError
from adapters.reference.reference import Reference, UnusableReference
from agent.audit.agent_log import Trail
from agent.base.codec import JSON
from agent.base.errors import ConfigError
from agent.config.loader import Loaded
from agent.config.recipes import find_recipe
from agent.domain.conditions import Condition
from agent.inspection.reference_plan import ReferencePlan
from agent.versions.product_plans import other_recipes
from agent.versions.products import product
from agent.versions.station_reference import open_reference, sentence

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 2.0

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class InUse:
    """What there is of a reference.

    Attributes:
        reference: that parts are compared with; None: with none.
        problem: why the file cannot be used; None where it can.
    """

    reference: Reference | None
    problem: str | None


class LiveReference:
    """Owns the reference of one product. The main thread looks; any thread may ask what answers.

    Args:
        station: its name.
        recipe: name of the product's recipe.
        file: where the reference lies, or will.
        opened: reads and checks it.
        alone: the recipe has no words, so that nothing else judges the parts.
        in_force: the product is the one that the station makes where no part id says otherwise.
    """

    def __init__(
        self,
        station: str,
        recipe: str,
        file: Path,
        opened: Callable[[], Reference],
        *,
        alone: bool,
        in_force: bool = True,
    ) -> None:
        self.station, self.recipe, self._file, self._opened = station, recipe, file, opened
        self._alone, self._in_force = alone, in_force
        self._stamp = _stamp(file)
        self.in_use = self._read(None)

    def answering(self) -> Reference | None:
        """Return what to compare with now."""
        return self.in_use.reference

    def look(self) -> bool:
        """Read the file again where it is another one; return whether it is."""
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        # One that is gone was taken away on purpose; of one that is damaged nobody has said that it may go.
        self.in_use = self._read(self.in_use.reference if stamp is not None else None)
        return True

    def condition(self) -> Condition | None:
        """Return what is wrong with it."""
        if self.in_use.problem is None:
            return None
        if self.in_use.reference is not None:
            goes_on = "the one before goes on"
        elif self._alone:
            goes_on = f"parts of recipe {self.recipe} are not inspected"
        else:
            goes_on = f"parts of recipe {self.recipe} are judged by words alone"
        message = f"{self.in_use.problem}; {goes_on}"
        blind = self._alone and self._in_force and self.in_use.reference is None
        return Condition("reference_unusable", self.station, message, blind=blind)

    def facts(self) -> JSON | None:
        """Return what is in force, for the audit trail."""
        one = self.in_use.reference
        if one is None:
            return None
        return {
            "recipe": self.recipe,
            "digest": one.digest,
            "samples": one.samples,
            "threshold": one.threshold,
        }

    def _read(self, before: Reference | None) -> InUse:
        try:
            return InUse(self._opened(), None)
        except UnusableReference as error:
            return InUse(before, str(error))


class LiveReferences:
    """Owns the references of all stations that run; used by the main thread.

    Args:
        extractor: a recipe's word for features -> what makes them.
        trail: where each change goes; None: nowhere.
    """

    def __init__(self, extractor: Callable[[str], PatchExtractor], trail: Trail | None = None) -> None:
        self._extractor, self._trail = extractor, trail
        self._live: Mapping[tuple[str, str], LiveReference] = {}
        self._look_at = 0.0

    def prepare(
        self, loaded: Loaded, names: Iterable[str]
    ) -> tuple[dict[tuple[str, str], LiveReference], dict[str, dict[str, ReferencePlan]]]:
        """Return the references by a config, and station -> recipe -> what its parts are compared with.

        Args:
            loaded: the config.
            names: of the stations.

        Raises:
            ConfigError: a backbone cannot be opened, or a station is pinned to another reference.
        """
        live: dict[tuple[str, str], LiveReference] = {}
        plans: dict[str, dict[str, ReferencePlan]] = {}
        config = loaded.config
        for name in names:
            plans[name] = {}
            for recipe_name in (config.stations[name].recipe, *other_recipes(config, name)):
                recipe = find_recipe(recipe_name, config.recipes)
                if recipe.reference is None:
                    continue
                features = recipe.reference.features
                extractor = self._opened(loaded, recipe_name, features)
                file = product(config, name, recipe_name).reference
                opened = partial(open_reference, config, name, recipe_name, extractor.info)
                one = LiveReference(
                    name,
                    recipe_name,
                    file,
                    opened,
                    alone=not recipe.has_words,
                    in_force=recipe_name == config.stations[name].recipe,
                )
                self._require_pinned(loaded, one)
                live[name, recipe_name] = one
                plans[name][recipe_name] = ReferencePlan(features, extractor, one.answering)
        return live, plans

    def _require_pinned(self, loaded: Loaded, one: LiveReference) -> None:
        """Make sure that what a station is pinned to is there; pins are those of the product in force."""
        station, problem = loaded.config.stations[one.station], one.in_use.problem
        if station.adaptation.pins.reference is None or station.recipe != one.recipe or problem is None:
            return
        where = ("stations", one.station, "adaptation", "pins", "reference")
        raise ConfigError([loaded.problem(where, problem)])

    def _opened(self, loaded: Loaded, recipe: str, features: str) -> PatchExtractor:
        try:
            return self._extractor(features)
        except ModelError as error:
            where = ("recipes", recipe, "reference", "features")
            raise ConfigError([loaded.problem(where, str(error))]) from error

    def use(self, live: Mapping[tuple[str, str], LiveReference]) -> None:
        """Let these be in force, and say of each that is another one."""
        before, self._live = self._live, live
        for key, one in live.items():
            old = before.get(key)
            self._say(one, None if old is None else old.facts(), new=old is None)

    def look(self, now_s: float) -> None:
        """Take over the references whose files have changed, now and then.

        Args:
            now_s: `time.monotonic`.
        """
        if now_s < self._look_at:
            return
        self._look_at = now_s + LOOK_EVERY_S
        for one in self._live.values():
            before = one.facts()
            if one.look():
                self._say(one, before)

    def conditions(self) -> list[Condition]:
        """Return what is wrong with them."""
        found = (one.condition() for one in self._live.values())
        return [condition for condition in found if condition is not None]

    def _say(self, one: LiveReference, before: JSON | None, *, new: bool = False) -> None:
        after, reference = one.facts(), one.in_use.reference
        if after == before:
            return
        if reference is None:
            log.warning("station %s: recipe %s has no reference any more", one.station, one.recipe)
        else:
            log.info("station %s: recipe %s: %s", one.station, one.recipe, sentence(reference))
        if not new and self._trail is not None:
            why = f"station {one.station}, recipe {one.recipe}: the file is another one"
            self._trail.record("reference", "agent", why, before=before, after=after)


def no_backbone(features: str) -> PatchExtractor:
    """Refuse: nothing was told that makes features."""
    raise ModelError(f"features {features!r}: nothing here makes them")


def _stamp(file: Path) -> Stamp | None:
    """Return what tells one file from the next; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
