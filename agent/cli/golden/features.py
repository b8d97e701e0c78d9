"""The backbone that a recipe's reference compares parts by, opened for a command."""

from __future__ import annotations

from pathlib import Path

from adapters.backbone.factory import open_backbone
from adapters.core.patches import PatchExtractor
from agent.base.errors import UsageError
from agent.config.models import Config
from agent.config.recipes import CLIP, Recipe

CACHE = "backbones"
"""Folder in the data folder where graphs are kept that are made once."""


def open_features(config: Config, recipe: Recipe) -> PatchExtractor:
    """Open what makes the patch features that a recipe's reference names.

    Raises:
        ModelError: it cannot be opened; says why.
        UsageError: the recipe has no reference.
    """
    settings = recipe.reference
    if settings is None:
        raise UsageError("the recipe has no reference: add reference: {} to it")
    if settings.features == CLIP:
        raise UsageError("features: clip is not there yet")
    return open_backbone(settings.features, Path(config.agent.data_dir) / CACHE)
