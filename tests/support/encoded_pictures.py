"""Pictures in every format."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pillow


def rainbow(height: int = 48, width: int = 64) -> np.ndarray:
    ramp = np.add.outer(np.arange(height), np.arange(width))[..., np.newaxis]
    return (ramp * np.array([1, 2, 3]) % 256).astype(np.uint8)


def encoded(image: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()
