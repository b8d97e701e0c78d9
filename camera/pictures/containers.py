"""Picture files without their metadata: what a decoder needs for the pixels, and nothing else.

Cameras, editors and phones write metadata in every shape, and decoders give up whole pictures over it: a text
where a number belongs, a colour profile that unpacks to gigabytes, a directory that points at itself. So the
decoder never sees it. A file is taken apart by its format's own lengths, and put together again of the pieces
that make pixels. What cannot be taken apart is returned as it is, for the decoder to say what is wrong.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from camera.pictures.orientation import TAG, value_of


@dataclass(frozen=True, slots=True)
class Bare:
    """A picture file for the decoder.

    Attributes:
        content: the file without metadata.
        exif: the EXIF data as a TIFF header with its directory; empty without any.
        xmp: the XMP packet; empty without one.
        significant: bits that PNG says a camera gave for grey; 0 where nothing is said.
    """

    content: bytes
    exif: bytes = b""
    xmp: bytes = b""
    significant: int = 0


def bare(content: bytes) -> Bare:
    """Return a picture file of any format without its metadata, as far as that can be told apart."""
    if content.startswith(b"\xff\xd8\xff"):
        return _jpeg(content)
    if content.startswith(_PNG):
        return _png(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _webp(content)
    if content[:4] in _TIFF:
        return _tiff(content)
    return Bare(content)


# JPEG: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, B.1.1

_XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
_EXIF_HEADER = b"Exif\0\0"


def _jpeg(content: bytes) -> Bare:
    """Leave out the application segments and comments before the first scan."""
    kept, found, at = [content[:2]], Bare(content), 2
    while True:
        at = content.find(b"\xff", at)
        while at >= 0 and content[at + 1 : at + 2] == b"\xff":  # any number of them may fill up
            at += 1
        if at < 0 or at + 4 > len(content):
            return Bare(content)
        marker = content[at + 1]
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # stands alone, or is no marker
            at += 2
            continue
        if marker in (0xD9, 0xDA):  # the end, or the first scan
            return replace(found, content=b"".join(kept) + content[at:])
        length = max(2, int.from_bytes(content[at + 2 : at + 4], "big"))
        end = at + 2 + length
        segment, body = content[at:end], content[at + 4 : end]
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            # These two say how the colours are stored. Decoders ignore them where they are too short.
            if (marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14) or (
                marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12
            ):
                kept.append(segment)
            elif marker == 0xE1 and body.startswith(_EXIF_HEADER) and not found.exif:
                found = replace(found, exif=body[len(_EXIF_HEADER) :])
            elif marker == 0xE1 and body.startswith(_XMP_HEADER) and not found.xmp:
                found = replace(found, xmp=body[len(_XMP_HEADER) :])
        else:
            kept.append(segment)
        at = end


# PNG: https://www.w3.org/TR/png-3/#5DataRep

_PNG = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
MAX_TEXT = 1 << 20
"""Of a compressed text no more than this is looked at."""


def _png(content: bytes) -> Bare:
    """Leave out all but the four critical chunks; an animation's first picture is among these."""
    kept, found, at = [_PNG], Bare(content), len(_PNG)
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        name, end = content[at + 4 : at + 8], at + 12 + length
        body = content[at + 8 : end - 4]
        # The case of its first letter says whether a picture can be understood without a chunk. One that
        # this standard does not know, but calls critical, is the decoder's to refuse.
        if name in _PIXELS or not name[:1].islower():
            kept.append(content[at:end])
        elif name == b"sBIT" and length == 1 and len(body) == 1:
            found = replace(found, significant=body[0])
        elif name == b"eXIf":
            found = replace(found, exif=found.exif or body)
        elif name == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\0"):
            found = replace(found, xmp=found.xmp or _international(body))
        elif name in (b"tEXt", b"zTXt") and body.startswith(b"Raw profile type exif\0"):
            found = replace(found, exif=found.exif or _raw_profile(body, packed=name == b"zTXt"))
        if name == b"IEND":
            break
        at = end
    return replace(found, content=b"".join(kept))


def _international(body: bytes) -> bytes:
    """Return the text of an iTXt chunk: keyword, two flags, language, keyword again, text."""
    packed, rest = body.partition(b"\0")[2][:1], body.partition(b"\0")[2][2:]
    text = rest.partition(b"\0")[2].partition(b"\0")[2]
    return _unpacked(text) if packed == b"\x01" else text


def _raw_profile(body: bytes, *, packed: bool) -> bytes:
    """Return EXIF data as ImageMagick wrote it before PNG had a chunk for it: name, length, hex digits."""
    text = body.partition(b"\0")[2]
    lines = (_unpacked(text[1:]) if packed else text).split(b"\n", 3)
    try:
        return bytes.fromhex(lines[3].decode("ascii")) if len(lines) == 4 else b""
    except ValueError:
        return b""


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, MAX_TEXT)
    except zlib.error:
        return b""


# WebP: https://developers.google.com/speed/webp/docs/riff_container

_PIXEL_FLAGS = 0x10 | 0x02  # transparency, animation; readers are to ignore the reserved ones


def _webp(content: bytes) -> Bare:
    """Leave out the chunks of colour profile, EXIF and XMP, and those that nobody knows."""
    kept, found, size = [], Bare(content), len(b"WEBP")
    for name, length, body in _riff(content):
        if name in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            if name == b"VP8X" and len(body) >= 4:
                body = bytes((body[0] & _PIXEL_FLAGS, 0, 0, 0)) + body[4:]
            # A chunk that is cut off keeps its length: half a picture is not to pass for a whole one.
            padding = b"\0" * (length % 2) if len(body) == length else b""
            kept += [name, struct.pack("<I", length), body, padding]
            size += 8 + length + length % 2
        elif name == b"EXIF":
            found = replace(found, exif=found.exif or body)
        elif name == b"XMP ":
            found = replace(found, xmp=found.xmp or body)
    if not kept or size >= 1 << 32:
        return Bare(content)
    return replace(found, content=b"".join((b"RIFF", struct.pack("<I", size), b"WEBP", *kept)))


def _riff(content: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield name, length and body of every chunk; the last body is shorter where the file is cut off."""
    at = 12
    while at + 8 <= len(content):
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        yield content[at : at + 4], length, content[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


# TIFF: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf; its metadata stands among what makes
# the pixels, so a second directory with the latter alone is put behind the file and the header points there.

# Two of these are mistakes that Pillow forgives; it does not read big-endian files with 64-bit offsets.
_TIFF = {b"II*\0": "<", b"II\0*": "<", b"II+\0": "<", b"MM\0*": ">", b"MM*\0": ">"}
_XMP_TAG = 700
_PIXEL_TAGS = frozenset(
    {
        *(256, 257, 258, 259, 262, 266, 277, 281, 284, 317, 320, 338, 339),  # size, bits, colours
        *(273, 278, 279, 322, 323, 324, 325),  # where strips and tiles lie
        *(292, 293, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521),  # of fax and JPEG within
        *(529, 530, 531, 532),  # YCbCr
    }
)


def _tiff(content: bytes) -> Bare:
    """Leave out all tags but those that make the first picture's pixels, and all further directories."""
    order, big = _TIFF[content[:4]], content[2:4] == b"+\0"
    head, counted, entry, word = ("Q", "Q", "HHQ", 8) if big else ("I", "H", "HHI", 4)
    size = struct.calcsize(f"{order}{entry}") + word
    place = 8 if big else 4  # of the offset in the header
    if len(content) < place + word:
        return Bare(content)
    start = struct.unpack_from(order + head, content, place)[0]
    first = start + struct.calcsize(order + counted)
    if first > len(content):
        return Bare(content)
    count = struct.unpack_from(order + counted, content, start)[0]
    entries: dict[int, bytes] = {}
    xmp, turned = b"", None
    for at in range(first, min(first + size * count, len(content) - size + 1), size):
        tag, kind, values = struct.unpack_from(order + entry, content, at)
        field = content[at + size - word : at + size]
        if tag in _PIXEL_TAGS:
            entries.setdefault(tag, content[at : at + size])
        elif tag == TAG and turned is None:
            turned = value_of(kind, values, field, order)
        elif tag == _XMP_TAG and kind in (1, 7) and values > word:  # bytes
            where = struct.unpack(order + head, field)[0]
            xmp = xmp or content[where : where + values]
    if not entries:
        return Bare(content)
    padding = b"\0" * (len(content) % 2)  # a directory begins at a word
    directory = b"".join(
        (
            struct.pack(order + counted, len(entries)),
            *(entries[tag] for tag in sorted(entries)),
            bytes(word),  # no further one
        )
    )
    there = struct.pack(order + head, len(content) + len(padding))
    without = content[:place] + there + content[place + word :] + padding + directory
    return Bare(without, b"" if turned is None else _directory_of(turned), xmp)


def _directory_of(turned: int) -> bytes:
    """Return EXIF data that says nothing but an orientation."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, TAG, 3, 1, turned, 0, 0)
