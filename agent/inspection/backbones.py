"""What makes the patch features that parts are compared by, opened once for all stations."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from adapters.backbone.factory import open_backbone
from adapters.core.patches import PatchExtractor
from agent.config.models import Config
from agent.config.recipes import BACKBONE, BACKBONE_INT8

FOLDER: Final = "backbones"
"""In the data folder, for graphs that are made once."""


class Backbones:
    """Opens each backbone when it is first asked for, and keeps it. The main thread asks.

    Args:
        config: whose device and threads they run with, and whose data folder keeps their graphs.
        opened: those that are open already, by what recipes call their features.
    """

    def __init__(self, config: Config, opened: Mapping[str, PatchExtractor] | None = None) -> None:
        self._model, self._data = config.model, Path(config.agent.data_dir)
        self._opened = dict(opened or {})

    def of(self, features: str) -> PatchExtractor:
        """Return what makes the features of this name.

        Args:
            features: of a recipe's reference; not those of the model that judges by words.

        Raises:
            ModelError: it cannot be opened; says which file, and what to do.
        """
        if features not in self._opened:
            settings = self._model
            integers = features == BACKBONE_INT8
            self._opened[features] = open_backbone(
                BACKBONE if integers else features,
                self._cache(),
                device="cpu" if integers else settings.device,
                threads=settings.threads,
                precision="int8" if integers else "fp32",
            )
        return self._opened[features]

    def _cache(self) -> Path:
        """Return where graphs are kept; a command's user may not be allowed to write in the data folder."""
        kept = self._data / FOLDER
        nearest = next(path for path in (kept, *kept.absolute().parents) if path.exists())
        if os.access(nearest, os.W_OK | os.X_OK):
            return kept
        return Path(tempfile.gettempdir()) / f"mekiki-{os.getuid()}" / FOLDER
