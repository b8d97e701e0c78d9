"""Picture files: read strictly, or refused with one clear sentence."""

from __future__ import annotations

import io
import logging
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from camera.core.frame import CameraError, Image
from camera.pictures.containers import bare
from camera.pictures.orientation import orientation, upright

MAX_PIXELS = 100_000_000
MAX_BYTES = 1_000_000_000
"""Of a file: more than `MAX_PIXELS` take with 16 bits for each colour."""
MAX_JPEG_PX = 65_500
"""What libjpeg takes on one side."""
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# The content decides which of these it is, whatever the name says. Pillow knows more, but some of its
# decoders start other programs (EPS) or have never seen a camera.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# Pillow warns and writes to the log of what it finds odd, and warns of pictures above its limit; from twice
# that on it raises. What keeps a picture from being read is told here, and the size is checked below.
Pillow.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


_BITS_PER_SAMPLE, _MAX_SAMPLE = 258, 281  # tags of TIFF
_USUAL_BITS = (10, 12, 14)
_BLACK = 255
"""A largest value up to this is a black picture at any of them."""


class UnreadableImage(CameraError):
    """A file is no picture, or a broken or an unreasonably large one."""


class _Refused(Exception):
    """A picture that Pillow can read and we do not take; says why."""


def read_image(
    path: Path, bit_depth: int | None = None, note: Callable[[str], None] = lambda _: None
) -> Image:
    """Read one picture file; see `decode`.

    Raises:
        UnreadableImage: in one sentence that names the file.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableImage(f"{path}: not a file of pictures: name one")
        if found.st_size > MAX_BYTES:
            raise UnreadableImage(f"{path}: more than {MAX_BYTES:,} bytes: make it smaller")
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{path}: {error.strerror or error}") from error
    except MemoryError as error:
        raise UnreadableImage(f"{path}: {_NO_MEMORY}") from error
    return decode(content, str(path), bit_depth, note)


def decode(
    content: bytes,
    name: str,
    bit_depth: int | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Image:
    """Return a picture file's content as ``(H, W, 3)`` uint8 RGB, turned as its metadata says.

    Grey and palette pictures become RGB, 16-bit grey is scaled so that the largest value of its depth becomes
    255, transparency is ignored, and of an animation the first picture counts. Of the metadata nothing but
    orientation and depth is read, so sound pixels are a picture whatever else is in the file.

    Args:
        content: of the file.
        name: of the file, for messages.
        bit_depth: of 16-bit grey pictures, where it is known; None: what the file says, else 16.
        note: told where a picture looks like one of fewer bits than that.

    Raises:
        UnreadableImage: in one sentence that begins with `name`.
    """
    if not content:
        raise UnreadableImage(f"{name}: empty file")
    try:
        file = bare(content)
        image = _decoded(file.content, bit_depth, file.significant, lambda text: note(f"{name}: {text}"))
    except _Refused as error:
        raise UnreadableImage(f"{name}: {error}") from error
    except MemoryError as error:
        raise UnreadableImage(f"{name}: {_NO_MEMORY}") from error
    return upright(image, orientation(file.exif, file.xmp))


_NO_MEMORY = "not enough memory for it: make it smaller"


def _decoded(content: bytes, bit_depth: int | None, significant: int, note: Callable[[str], None]) -> Image:
    """Return the pixels as they are stored. Only Pillow and numpy are called in here."""
    try:
        with Pillow.open(io.BytesIO(content), formats=FORMATS) as picture:
            width, height = picture.size
            # open() has read no more than the header: nothing is allocated yet.
            if width * height > MAX_PIXELS:
                raise _Refused(f"{width} x {height} pixels are more than {MAX_PIXELS:,}: make it smaller")
            return _rgb(picture, bit_depth, significant, note)
    except (_Refused, MemoryError):
        raise
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise _Refused(f"more than {MAX_PIXELS:,} pixels: make it smaller") from error
    except UnidentifiedImageError as error:
        raise _Refused("not a picture") from error
    except OSError as error:
        raise _Refused(str(error.strerror or error)) from error
    except Exception as error:
        # Pillow promises nothing of what its decoders raise for a file that is broken: IndexError, TypeError,
        # KeyError, RecursionError and others were seen. Whichever it is, it is about this file, and must not
        # end the agent with its other stations.
        raise _Refused(f"broken picture: {str(error) or type(error).__name__}") from error


def encode_jpeg(image: Image, *, max_width_px: int, quality: int, comment: bytes = b"") -> bytes:
    """Return `image` as a JPEG of `quality` 1..100, scaled down to `max_width_px` where it is wider.

    Args:
        image: to encode.
        max_width_px: of the JPEG.
        quality: of the JPEG.
        comment: that stands in it; none where it is empty.
    """
    buffer = io.BytesIO()
    picture = Pillow.fromarray(scaled_down(image, max_width_px))
    picture.save(buffer, "JPEG", quality=quality, comment=comment)
    return buffer.getvalue()


def scaled_down(image: Image, max_width_px: int) -> Image:
    """Return `image`, scaled down to `max_width_px` where it is wider, and to what JPEG can hold."""
    picture = Pillow.fromarray(image)
    scale = min(1.0, max_width_px / picture.width, MAX_JPEG_PX / picture.height)
    if scale == 1:
        return image
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return np.asarray(picture.resize(size, Pillow.Resampling.BOX))


def _rgb(picture: Pillow.Image, stated: int | None, significant: int, note: Callable[[str], None]) -> Image:
    """Decode `picture` to the end and return it as RGB."""
    # Pillow makes 16 bits of the deeper ones of this format, and keeps them as 32 (Mono12 of a camera).
    tiles: Any = getattr(picture, "tile", ())
    scaled = picture.format == "PPM" and bool(tiles) and tiles[0][0] != "raw"
    picture.load()
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM"):
        grey = np.asarray(picture).astype(np.uint32)
        depth = 16 if scaled else stated or _said_depth(picture, grey, significant)
        if depth == 16 and stated is None:
            _look_at_depth(int(grey.max()), note)
        return np.repeat(_scaled(grey, depth)[:, :, np.newaxis], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise _Refused("32-bit pictures have no agreed white: save it with 8 or 16 bits")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # straight to RGB, Pillow warns about the transparency
    return np.array(picture.convert("RGB"))


def _said_depth(picture: Pillow.Image, grey: NDArray[np.uint32], significant: int) -> int:
    """Return how many bits a 16-bit grey picture says that it has, in TIFF's tags or PNG's sBIT."""
    if 8 < significant < 16:
        # PNG wants them in the upper bits. Who has used the lower ones left them where they were.
        return significant if bool((grey & ((1 << (16 - significant)) - 1)).any()) else 16
    bits, largest = _whole(picture, _BITS_PER_SAMPLE, 16), _whole(picture, _MAX_SAMPLE, 0)
    said = largest.bit_length() if largest & (largest + 1) == 0 else 0
    return said if 8 < said < bits else min(max(bits, 9), 16)


def _whole(picture: Pillow.Image, tag: int, usual: int) -> int:
    """Return the first number of a TIFF's tag; the usual one where it is missing, or no such number."""
    tags: Any = getattr(picture, "tag_v2", {})
    try:
        found = tags[tag]
    except Exception:  # noqa: BLE001 - Pillow reads it only now; whatever is wrong with it, the pixels are sound
        return usual
    first = found[0] if isinstance(found, tuple) and found else found
    return first if isinstance(first, int) and 0 <= first < 1 << 16 else usual


def _scaled(grey: NDArray[np.uint32], depth: int) -> NDArray[np.uint8]:
    """Return 16-bit grey as 8-bit grey, rounded to the nearest step."""
    largest, white = int(grey.max()), (1 << depth) - 1
    if largest > white:
        raise _Refused(f"its largest value is {largest:,}, more than {depth} bits: set the right bit_depth")
    return ((grey * 255 + white // 2) // white).astype(np.uint8)


def _look_at_depth(largest: int, note: Callable[[str], None]) -> None:
    """Tell where a 16-bit picture may be one of fewer bits."""
    bits = next((bits for bits in _USUAL_BITS if largest < 1 << bits), None)
    if bits is not None and largest > _BLACK:
        note(
            f"its largest value is {largest:,} of 65,535: if the camera gives {bits} bits,"
            f" set bit_depth: {bits}; else it is a dark picture"
        )
