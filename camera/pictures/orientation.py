"""Which way up a picture is: the one thing that is read of its metadata, and what is done about it.

Everything else that EXIF and XMP may hold is written by strangers and says nothing about a part, so nothing
here follows a pointer, and a value that is none of the eight means that the picture is as it should be.
"""

from __future__ import annotations

import re
import struct

import numpy as np

from camera.core.frame import Image

TAG = 0x0112
UPRIGHT = 1

# https://www.cipa.jp/std/documents/download_e.html?DC-008-Translation-2023-E, table 7. The standard asks for
# SHORT; other whole numbers mean the same. Text, fractions and lists do not say which way up a picture is.
_WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")


def orientation(exif: bytes, xmp: bytes) -> int:
    """Return 1..8 as EXIF says it, else as XMP does, else 1.

    Args:
        exif: a TIFF header with its directory, as all formats carry it; empty without one.
        xmp: the packet; empty without one.
    """
    if (found := _from_exif(exif)) is not None:
        return found
    match = _XMP.search(xmp)
    return int(match[1]) if match else UPRIGHT


def upright(image: Image, turned: int) -> Image:
    """Return `image` as it is to be looked at, given the orientation that it was stored in."""
    if turned in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if turned in (2, 3, 6, 7):
        image = image[:, ::-1]
    if turned in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def value_of(kind: int, count: int, field: bytes, order: str) -> int | None:
    """Return the orientation in one entry of a directory, None where it holds none.

    Args:
        kind: the type of the value, as TIFF numbers them.
        count: how many values there are.
        field: the four or eight bytes that hold a small value.
        order: ``<`` or ``>``.
    """
    if kind not in _WHOLE or count != 1:
        return None
    value = int(struct.unpack_from(order + _WHOLE[kind], field)[0])
    return value if 1 <= value <= 8 else None


def _from_exif(exif: bytes) -> int | None:
    """Look through the first directory alone, as far as it reaches within `exif`."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    start = struct.unpack_from(order + "I", exif, 4)[0]
    if start + 2 > len(exif):
        return None
    count = struct.unpack_from(order + "H", exif, start)[0]
    for at in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, values = struct.unpack_from(order + "HHI", exif, at)
        if tag == TAG:
            return value_of(kind, values, exif[at + 8 : at + 12], order)
    return None
