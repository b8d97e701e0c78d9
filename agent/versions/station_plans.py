"""From config to what the inspector needs: recipes as prompts, and the provenance that results carry."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from adapters.backbone.wordless_engine import NO_MODEL, WordlessEngine
from adapters.baseline.baseline import Commissioning
from adapters.core.adapter import Adapter, NotFinite
from adapters.core.patches import PatchInfo
from adapters.core.prompts import TextCache
from adapters.core.protocol import Engine, PromptError
from adapters.core.version import SOURCE
from agent import __version__
from agent.base.errors import ConfigError
from agent.config.loader import Loaded
from agent.config.models import Config
from agent.config.recipes import Recipe, find_recipe, first_equal, same
from agent.config.recipes import prompts as prompts
from agent.domain.claim import Claim
from agent.domain.verdict import Provenance
from agent.inspection.predictor import Predictor
from agent.versions.commissioned import Commissioned, Uncommissioned
from camera.core.settings import QualityLimits
from camera.core.source import Source

_NOBODY = Adapter({})
_MEASURED_AT = 0.5
"""Of a recipe's threshold: a baseline's offset is the log-odds at which this is reached."""


def check_prompts(loaded: Loaded, engine: Engine, recipes: Mapping[str, Recipe] | None = None) -> None:
    """Make sure that the model can read every recipe that is used.

    Args:
        loaded: the config.
        engine: of the model.
        recipes: by name; None: those of all enabled stations.

    Raises:
        ConfigError: a prompt is longer than the model's context, two classes are the same words to it, or
            no model is loaded.
    """
    problems: list[str] = []
    for name, recipe in (used_recipes(loaded.config) if recipes is None else recipes).items():
        if recipe.needs_model and isinstance(engine, WordlessEngine):
            problems.append(loaded.problem(("recipes", name), NO_MODEL))
        if not recipe.has_words or isinstance(engine, WordlessEngine):
            continue
        too_long = len(problems)
        for label, texts in zip(recipe.classes, prompts(recipe).texts, strict=True):
            try:
                engine.tokenize(texts)
            except PromptError as error:
                problems.append(loaded.problem(("recipes", name, "classes", label, "phrases"), str(error)))
        if len(problems) == too_long and (pair := _same_tokens(recipe, engine)) is not None:
            problems.append(loaded.problem(("recipes", name, "classes", pair[1], "phrases"), same(*pair)))
    if problems:
        raise ConfigError(problems)


def _same_tokens(recipe: Recipe, engine: Engine) -> tuple[str, str] | None:
    """Return two classes whose phrases are the same tokens to the model."""
    labels = [(label, phrase) for label, one in recipe.classes.items() for phrase in one.phrases]
    rows = engine.tokenize([phrase for _, phrase in labels])
    tokens: dict[str, set[bytes]] = {}
    for (label, _), row in zip(labels, rows, strict=True):
        tokens.setdefault(label, set()).add(row.tobytes())
    return first_equal((label, frozenset(found)) for label, found in tokens.items())


def used_recipes(config: Config) -> dict[str, Recipe]:
    """Return the recipes of the enabled stations and their products by name, shipped ones included."""
    enabled = [name for name, station in config.stations.items() if station.enabled]
    found = {name: recipe for each in enabled for name, recipe in station_recipes(config, each).items()}
    return dict(sorted(found.items()))


def station_recipes(config: Config, station: str) -> dict[str, Recipe]:
    """Return the recipes of one station and its products by name."""
    one = config.stations[station]
    names = {one.recipe, *(product.recipe for product in one.products)}
    return {name: find_recipe(name, config.recipes) for name in sorted(names)}


def predictors(
    engine: Engine, recipe: Recipe, found: Commissioned | Uncommissioned
) -> tuple[Predictor, Predictor]:
    """Return the model as it was trained at the commissioned operating point, and what answers first.

    Of a recipe without words both are nobody: no class, and an adapter without a tensor.

    Raises:
        ConfigError: the model makes nothing that is a finite number of the recipe's words.
    """
    if not recipe.has_words:
        silent = Predictor(SOURCE, _NOBODY, np.zeros((0, 0), np.float32), failing(recipe))
        return silent, silent
    words, fails, texts = prompts(recipe), failing(recipe), TextCache(engine, capacity=2)
    offset = found.clean.offset if isinstance(found, Commissioned) else 0.0
    now = found.answering
    try:
        frozen = Predictor(SOURCE, engine.source, texts.features(words, engine.source), fails, offset)
        if now.number == SOURCE:
            return frozen, frozen
        first = Predictor(now.number, now.adapter, texts.features(words, now.adapter), fails, now.offset)
    except NotFinite as error:
        raise ConfigError([f"{error}; use other words, or fetch or build the model again"]) from error
    return frozen, first


def failing(recipe: Recipe) -> NDArray[np.bool_]:
    """Return ``(C,)`` which classes of a recipe fail a part, in its order."""
    return np.array([each.verdict == "fail" for each in recipe.classes.values()], dtype=np.bool_)


def provenance(
    loaded: Loaded,
    engine: Engine,
    recipe: Recipe,
    found: Commissioned | Uncommissioned,
    backbone: PatchInfo | None = None,
) -> Provenance:
    """Return what verdicts of the model as it was trained were made with.

    Args:
        loaded: the config.
        engine: of the model.
        recipe: of the product.
        found: what is there of its learning.
        backbone: what makes the features that its parts are compared by; it stands for the model where the
            recipe has no words.
    """
    clean = found.clean if isinstance(found, Commissioned) else None
    alone = None if recipe.has_words else backbone
    return Provenance(
        model=engine.info.name if alone is None else alone.name,
        weights=engine.info.weights if alone is None else alone.digest,
        adapter=SOURCE,
        adapter_digest=engine.source.digest if alone is None else _NOBODY.digest,
        recipe=recipe.digest,
        config=loaded.digest,
        version=__version__,
        offset=0.0 if clean is None else clean.offset,
        commissioning=None if clean is None else clean.digest,
        claim=None if clean is None else _claim(clean, recipe),
    )


def _claim(clean: Commissioning, recipe: Recipe) -> Claim | None:
    """Return what the baseline promises; None where it does not, or more is rejected by other rules."""
    measured = clean.testimony.claim
    votes = recipe.votes is not None and recipe.votes.n > 1  # what is claimed is of single pictures
    if measured is None or votes or recipe.threshold < _MEASURED_AT:
        return None
    return Claim(measured.false_rejects_at_most, measured.confidence, measured.good_parts)


def limits_of(quality: QualityLimits, source: Source) -> QualityLimits:
    """Return when a source's picture is too old to be inspected."""
    # A source that waits for us is late by our own doing; its pictures do not go stale.
    return quality if source.live else quality.model_copy(update={"stale_s": None})
