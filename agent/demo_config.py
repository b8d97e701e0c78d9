"""The demo's config: demo.yaml with what only this machine knows, with torch where that is installed."""

from __future__ import annotations

import json
import socket
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from agent.broker import HOST
from agent.configfile import Loaded, load

STATION: Final = "line"

_CHECKPOINT = Path(__file__).parent.parent / "benchmarks" / "weights" / "mekiki-line.safetensors"
"""The shipped model for torch; it stays in the repository, an installed package has the bundle alone."""


def can_learn() -> bool:
    """Whether all that moving LayerNorms needs is there."""
    return all(find_spec(name) is not None for name in ("torch", "open_clip")) and _CHECKPOINT.exists()


def demo_config(folder: Path, fps: float | None, *, full: bool) -> Loaded:
    """Write demo.yaml into a folder and load it.

    Args:
        folder: for the config and the agent's data.
        fps: parts a second; None as fast as they are inspected.
        full: LayerNorms are to move; see `can_learn`.
    """
    text = (resources.files("agent") / "demo.yaml").read_text(encoding="utf-8")
    torch = {"engine": "torch", "name": "mekiki-line", "checkpoint": str(_CHECKPOINT)}
    values = {
        "data_dir": json.dumps(str(folder / "data")),
        "model": json.dumps(torch if full else {"engine": "onnx"}),
        "port": str(_free_port()),
        "fps": "null" if fps is None else str(float(fps)),
    }
    for name, value in values.items():
        text = text.replace(f"<{name}>", value)
    path = folder / "demo.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
