"""What makes the features that a recipe's reference compares parts by, opened for a command."""

from __future__ import annotations

from adapters.core.patches import PatchExtractor
from agent.app.factories import extractor_of, open_model
from agent.base.errors import UsageError
from agent.config.models import Config
from agent.config.recipes import CLIP, Recipe
from agent.inspection.backbones import Backbones


def open_features(config: Config, recipe: Recipe) -> PatchExtractor:
    """Open what makes the patch features that a recipe's reference names.

    Raises:
        ModelError: it cannot be opened; says why.
        UsageError: the recipe has no reference.
    """
    settings = recipe.reference
    if settings is None:
        raise UsageError("the recipe has no reference: add reference: {} to it")
    backbones = Backbones(config)
    if settings.features != CLIP:
        return backbones.of(settings.features)
    return extractor_of(settings.features, open_model(config), backbones)
