"""What cannot be at stations that watch a folder: each file is a part, which exactly one station takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePath

from agent.config.models import Config
from agent.config.yaml_tree import Path
from camera.core.settings import FolderCamera


def watching_problems(config: Config) -> Iterator[tuple[Path, str]]:
    """Yield the setting that cannot be, and why.

    Args:
        config: with absolute paths.
    """
    data = _place(config.agent.data_dir)
    seen: dict[str, PurePath] = {}
    for name, station in config.stations.items():
        camera = station.camera
        if not isinstance(camera, FolderCamera) or camera.watch is None:
            continue
        if station.trigger.mode != "continuous":
            # A file comes late by its transfer and by settle_s: it would be taken for the next part.
            yield (
                ("stations", name, "trigger"),
                "a watched folder inspects every file when it comes: remove trigger, or camera.watch",
            )
        path, place = _place(camera.path), ("stations", name, "camera", "path")
        if data.is_relative_to(path):
            yield (
                place,
                "agent.data_dir lies in it, and its pictures would be inspected: watch another folder",
            )
        for other, taken in seen.items():
            if path.is_relative_to(taken) or taken.is_relative_to(path):
                yield place, f"stations.{other} watches these files already: watch another folder"
        seen[name] = path


def _place(path: str) -> PurePath:
    return PurePath(os.path.normpath(path))
