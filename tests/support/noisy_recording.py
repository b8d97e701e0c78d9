"""Recordings of noise."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from camera.core.frame import Image
from camera.core.settings import (
    QualityLimits,
    RegionOfInterest,
)
from camera.recording.writer import Recorder, RecordingLimits

PLENTY = RecordingLimits(max_bytes=10**9)

BEGAN = datetime(2026, 11, 22, 3, 4, 5, 678901, tzinfo=UTC)


def recorder(folder: Path, *, limits: RecordingLimits = PLENTY, **roi: Any) -> Recorder:
    return Recorder(
        folder,
        station="top",
        camera={"kind": "simulated", "seed": 4},
        roi=RegionOfInterest(**roi),
        quality=QualityLimits(),
        limits=limits,
        started_at=BEGAN,
    )


def noise(seed: int) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
