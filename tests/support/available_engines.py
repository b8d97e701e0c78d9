"""Engines that run on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.engines.bundle_model import BundleModel, Kind
from adapters.engines.openvino_tower import openvino_core

if TYPE_CHECKING:
    pass


def runs_here(kind: Kind) -> bool:
    if kind.precision != "bf16":
        return True
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def model(folder: Path, **other: Any) -> BundleModel:
    return BundleModel(folder, **{"sha256": None, "device": "cpu", "threads": 1, **other})
