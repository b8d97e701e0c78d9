"""Picture files: read strictly, or refused with one clear sentence."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from camera.frame import CameraError, Image

MAX_PIXELS = 100_000_000
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# The content decides which of these it is, whatever the name says. Pillow knows more, but some of its
# decoders start other programs (EPS) or have never seen a camera.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# Pillow warns of odd metadata, and of pictures above its limit; from twice that on it raises. Metadata is
# not judged here, and the size is checked below.
Pillow.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("ignore", module="PIL")

# What Pillow's decoders were seen to raise for flipped bytes, beside OSError.
BROKEN = (SyntaxError, ValueError, struct.error)


class UnreadableImage(CameraError):
    """A file is no picture, or a broken or an unreasonably large one."""


def read_image(path: Path) -> Image:
    """Read one picture file as ``(H, W, 3)`` uint8 RGB, turned as its EXIF data says.

    Grey and palette pictures become RGB, 16-bit grey is scaled 65535 -> 255, transparency is ignored,
    and of an animation the first picture counts.

    Raises:
        UnreadableImage: in one sentence that names the file.
    """
    try:
        with Pillow.open(path, formats=FORMATS) as picture:
            width, height = picture.size
            # open() has read no more than the header: nothing is allocated yet.
            if width * height > MAX_PIXELS:
                raise UnreadableImage(
                    f"{path}: {width} x {height} pixels are more than {MAX_PIXELS:,}: make it smaller"
                )
            return _rgb(picture, path)
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise UnreadableImage(f"{path}: more than {MAX_PIXELS:,} pixels: make it smaller") from error
    except UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        raise UnreadableImage(f"{path}: {'empty file' if empty else 'not a picture'}") from error
    except OSError as error:
        raise UnreadableImage(f"{path}: {error.strerror or error}") from error
    except BROKEN as error:
        raise UnreadableImage(f"{path}: broken picture: {error}") from error


def encode_jpeg(image: Image, *, max_width_px: int, quality: int) -> bytes:
    """Return `image` as a JPEG of `quality` 1..100, scaled down to `max_width_px` where it is wider."""
    picture = Pillow.fromarray(image)
    if picture.width > max_width_px:
        height = max(1, round(picture.height * max_width_px / picture.width))
        picture = picture.resize((max_width_px, height), Pillow.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _rgb(picture: Pillow.Image, path: Path) -> Image:
    """Decode `picture` to the end and return it as RGB."""
    picture.load()
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        grey = (np.asarray(picture).astype(np.uint32) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise UnreadableImage(f"{path}: 32-bit pictures have no agreed white: save it with 8 or 16 bits")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # straight to RGB, Pillow warns about the transparency
    return np.array(picture.convert("RGB"))
