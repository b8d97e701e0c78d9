"""What a learner does, at once, for a test."""

from __future__ import annotations

from pathlib import Path

from adapters.core.adapter import Adapter
from adapters.core.version import Version, Window
from adapters.core.version_store import AdapterStore
from agent.config.loader import Loaded
from agent.config.recipes import shipped
from tests.support.learning_site import engine


def line_folder(loaded: Loaded) -> Path:
    return Path(loaded.config.agent.data_dir) / "stations" / "line"


def a_store(loaded: Loaded) -> AdapterStore:
    return AdapterStore(line_folder(loaded) / "adapters", engine().source, engine().info.weights)


def promote(loaded: Loaded, offset: float, shift: float = 0.01) -> Version:
    """Put a version into the station's store, as a learner does."""
    tensors = {name: tensor + shift for name, tensor in engine().source.tensors.items()}
    version = Version(
        Adapter(tensors), 0, "learned", "2026-01-02T00:00:00.000Z", Window(1, 50, 50), offset,
        shipped("line").words, {}, {},
    )  # fmt: skip
    return a_store(loaded).promote(version, "2026-01-02T00:00:00.000Z", {"frozen_by": None, "frame": 500})
