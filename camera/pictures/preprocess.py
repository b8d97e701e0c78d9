"""From a picture to the model's input as open_clip prepares it, without torch.

The resizing is Pillow's own, which is what open_clip uses through torchvision; the rest is exact float32
arithmetic in numpy. Pictures up to six times as large as the input come out bit for bit as open_clip's, and
larger ones within one grey level in a third to a half of the time. `test_preprocess.py` holds
both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from camera.core.frame import Image

# A picture of 1 x 100 000 pixels would be resized to 224 x 22 400 000 before its middle is cut out.
# Only where the sides differ by more than this factor, the ends are cut off first.
MAX_ASPECT = 64

# Where a side shrinks to a sixth or less, whole blocks of pixels are averaged first, so that the filter still
# sees three pixels for each of its own. With a gap of 2 single pixels of photos are off by four grey levels.
_GAP = 3.0

_RESAMPLING = {"bicubic": Pillow.Resampling.BICUBIC, "bilinear": Pillow.Resampling.BILINEAR}


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What open_clip's `PreprocessCfg` says, as far as inference needs it.

    Attributes:
        size: side of the model's input in pixels.
        mean: per channel, of pictures in 0..1.
        std: per channel, of pictures in 0..1.
        resize_mode: shortest side to `size` and the middle cut out; squashed to a square; or longest
            side to `size` and padded.
        fill: brightness of the padding, 0..255, or its colour in RGB.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: Literal["shortest", "squash", "longest"] = "shortest"
    fill: int | tuple[int, int, int] = 0


def prepare(image: Image, spec: InputSpec) -> NDArray[np.float32]:
    """Return ``(3, S, S)`` float32, the model's input for an ``(H, W, 3)`` uint8 RGB picture."""
    if spec.resize_mode == "squash":
        square = _resized(image, spec.size, spec.size, spec)
    elif spec.resize_mode == "shortest":
        square = _middle(_shortest(image, spec), spec.size)
    else:
        square = _padded(_longest(image, spec), spec)
    pixels = np.ascontiguousarray(square.transpose(2, 0, 1), dtype=np.float32)  # (3, S, S)
    pixels /= np.float32(255)
    pixels -= np.array(spec.mean, dtype=np.float32)[:, np.newaxis, np.newaxis]
    pixels /= np.array(spec.std, dtype=np.float32)[:, np.newaxis, np.newaxis]
    return pixels


def _shortest(image: Image, spec: InputSpec) -> Image:
    image = _shortened(image)
    height, width = image.shape[:2]
    if width <= height:
        return _resized(image, int(spec.size * height / width), spec.size, spec)
    return _resized(image, spec.size, int(spec.size * width / height), spec)


def _longest(image: Image, spec: InputSpec) -> Image:
    height, width = image.shape[:2]
    ratio = max(height / spec.size, width / spec.size)
    # At least one pixel: open_clip itself fails on a side that rounds to none.
    return _resized(image, max(1, round(height / ratio)), max(1, round(width / ratio)), spec)


def _resized(image: Image, height: int, width: int, spec: InputSpec) -> Image:
    if image.shape[:2] == (height, width):
        return image
    kind = _RESAMPLING[spec.interpolation]
    return np.asarray(Pillow.fromarray(image).resize((width, height), kind, reducing_gap=_GAP))


def _shortened(image: Image) -> Image:
    """Cut the ends off a picture that is longer than `MAX_ASPECT` times its width."""
    height, width = image.shape[:2]
    high, wide = min(height, MAX_ASPECT * width), min(width, MAX_ASPECT * height)
    top, left = (height - high) // 2, (width - wide) // 2
    return image[top : top + high, left : left + wide]


def _middle(image: Image, size: int) -> Image:
    # round() to even, as torchvision's center_crop does.
    top, left = (round((side - size) / 2.0) for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def _padded(image: Image, spec: InputSpec) -> Image:
    height, width = image.shape[:2]
    square = np.full((spec.size, spec.size, 3), spec.fill, dtype=np.uint8)
    top, left = (spec.size - height) // 2, (spec.size - width) // 2
    square[top : top + height, left : left + width] = image
    return square
