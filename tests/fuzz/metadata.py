"""Picture files with sound pixels and metadata that nobody should write, built by the formats' own structure.

Flipped bytes seldom get past a checksum or a length. Here chunks, segments and directories are right in form
and wrong in what they say: types, counts and offsets at random, directories that point at themselves, texts
that unpack to megabytes. The pixels are sound, so every one of these files is to be read, and turned as its
orientation says where that is one of the eight.
"""

from __future__ import annotations

import io
import random
import struct
import time
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camera.pictures.images import UnreadableImage, decode

SLOW_S = 5.0
KINDS = ("JPEG", "PNG", "WEBP", "TIFF")
Pixels = NDArray[np.uint8]

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_COUNTS = (0, 1, 1, 1, 2, 3, 4, 5, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1)
_TAGS = (
    *(270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 318, 319, 33432, 36864, 37121, 37500, 37510, 40960),
    *(0x8769, 0x8825, 0xA005, 0x014A, 0x0201, 0x0202, 0xC4A5, 0xC612, 0xEA1C, 33723, 34377, 34675, 50706),
    *(330, 269, 285, 297, 700, 40962, 40963, 41729, 41730, 65000, 0, 1, 65535),
)
"""What stands in the directories of cameras and editors, the pointers to further ones among it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A file, and the picture that it holds."""

    kind: str
    content: bytes
    expected: Pixels


@dataclass(frozen=True, slots=True)
class Result:
    """What came of so many files of one kind.

    Attributes:
        slowest_s: CPU time of one file.
        faults: files that were not read, or slowly, or as another picture, or with an unpromised error.
    """

    files: int
    slowest_s: float
    faults: tuple[tuple[bytes, str], ...]


def fuzz(kind: str, files: int, seed: int) -> Result:
    """Build `files` files of one kind and read them."""
    rng = random.Random(f"{kind} {seed}")
    faults, slowest_s = [], 0.0  # of this thread alone: the machine may be busy
    for _ in range(files):
        sample = build(kind, rng)
        began = time.thread_time()
        try:
            image = decode(sample.content, "file")
            if not np.array_equal(image, sample.expected):
                faults.append((sample.content, f"another picture, {image.shape}"))
        except UnreadableImage as error:
            faults.append((sample.content, f"sound pixels refused: {error}"))
        except Exception:  # noqa: BLE001 - what it is, is the finding
            faults.append((sample.content, traceback.format_exc(limit=-6)))
        took_s = time.thread_time() - began
        slowest_s = max(slowest_s, took_s)
        if took_s > SLOW_S:
            faults.append((sample.content, f"took {took_s:.1f} s"))
    return Result(files, slowest_s, tuple(faults))


def build(kind: str, rng: random.Random) -> Sample:
    """Return one file of `kind`."""
    return _BUILDERS[kind](rng)


def _turned(pixels: Pixels, orientation: int | None) -> Pixels:
    turn = _TURNS.get(orientation or 1)
    return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


# EXIF and XMP


@dataclass(frozen=True, slots=True)
class _Entry:
    tag: int
    kind: int
    count: int
    value: int


def _entry(rng: random.Random, size: int) -> _Entry:
    """Return a tag that is no orientation; its offset may lead anywhere, also into the directory itself."""
    tag = rng.choice(_TAGS) if rng.random() < 0.8 else rng.choice((rng.randrange(700, 65536), 0x9C9B))
    kind = rng.choice((*range(1, 14), 16, 17, 18, 0, 99, 65535))
    value = rng.choice((0, 8, 10, 22, size - 1, size, size + 1, rng.randrange(1 << 32), 0xFFFFFFFF, 1))
    return _Entry(tag, kind, rng.choice((*_COUNTS, size)), max(0, value))


def _orientation(rng: random.Random, order: str) -> tuple[_Entry | None, int | None]:
    """Return an entry for the orientation, and what it says where that is one of the eight."""
    value = rng.randrange(1, 9)
    small = value if order == "<" else value << 16  # a SHORT stands left in its four bytes
    match rng.randrange(8):
        case 0:
            return None, None
        case 1 | 2:
            return _Entry(0x0112, 3, 1, small), value
        case 3:
            return _Entry(0x0112, 4, 1, value), value
        case 4:
            bad = rng.choice((0, 9, 255, 65535))
            return _Entry(0x0112, 3, 1, bad if order == "<" else bad << 16), None
        case 5:  # text, fraction, number with a point, nothing known
            return _Entry(0x0112, rng.choice((2, 5, 10, 11, 12, 7, 0, 14, 200)), 1, small), None
        case 6:  # a list, or none at all
            return _Entry(0x0112, 3, rng.choice([n for n in _COUNTS if n != 1]), small), None
        case _:
            return _Entry(0x0112, 4, 1, rng.choice((0, 9, 2**31, 2**32 - 1))), None


def _exif(rng: random.Random) -> tuple[bytes, int | None]:
    """Return EXIF data and the orientation that it says."""
    order = rng.choice("<>")
    if rng.random() < 0.1:
        return rng.randbytes(rng.choice((0, 1, 7, 8, 9, 40))), None
    orientation, said = _orientation(rng, order)
    body = rng.randbytes(rng.choice((0, 4, 64, 300)))
    others = [_entry(rng, 200) for _ in range(rng.randrange(12))]
    entries = ([] if orientation is None else [orientation]) + others
    start = rng.choice((8, 8, 8, 8 + len(body)))
    listed = rng.choice((len(entries), len(entries), len(entries) + 1, 65535))
    following = rng.choice((0, 0, start, start + 2, 8, 0xFFFFFFFF, rng.randrange(1 << 32)))
    directory = struct.pack(order + "H", listed)
    directory += b"".join(struct.pack(order + "HHII", e.tag, e.kind, e.count, e.value) for e in entries)
    directory += struct.pack(order + "I", following)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    exif = head + (directory + body if start == 8 else body + directory)
    # Cut off behind the orientation at the earliest, so that it stays readable.
    if rng.random() < 0.3:
        exif = exif[: rng.randrange(start + 2 + (12 if said else 0), len(exif) + 1)]
    return exif, said


def _xmp(rng: random.Random) -> tuple[bytes, int | None]:
    """Return an XMP packet and the orientation that it says."""
    value: int | None = rng.randrange(1, 9)
    match rng.randrange(6):
        case 0:
            inner = f'<rdf:Description tiff:Orientation="{value}"/>'.encode()
        case 1:
            inner = f"<tiff:Orientation>{value}</tiff:Orientation>".encode()
        case 2:
            inner, value = b'<rdf:Description tiff:Orientation="9"/>', None
        case 3:
            inner, value = b"<tiff:Orientation>" + b"1" * 400, None
        case 4:
            inner, value = b'<!DOCTYPE a [<!ENTITY b "' + b"&a;" * 200 + b'">]>&b;', None
        case _:
            inner, value = rng.randbytes(rng.randrange(200)), None
    head = b'<?xpacket begin="\xef\xbb\xbf"?><x:xmpmeta><rdf:RDF>'
    return rng.choice((head, b"", b"\xff\xfe\0")) + inner + rng.choice((b"</rdf:RDF>", b"\0", b"")), value


@dataclass(frozen=True, slots=True)
class _Said:
    """What the metadata of one file says of its orientation: EXIF before XMP."""

    exif: bytes | None
    xmp: bytes | None
    orientation: int | None


def _metadata(rng: random.Random) -> _Said:
    exif, by_exif = _exif(rng) if rng.random() < 0.8 else (None, None)
    xmp, by_xmp = _xmp(rng) if rng.random() < 0.5 else (None, None)
    return _Said(exif, xmp, by_exif or by_xmp)


# JPEG


@cache
def _pixels(number: int) -> Pixels:
    rng = np.random.default_rng(number)
    height, width = ((11, 17), (24, 9), (1, 5), (16, 16))[number]
    return rng.integers(0, 255, (height, width, 3), dtype=np.uint8)


@cache
def _encoded(kind: str, number: int, option: int) -> tuple[bytes, Pixels]:
    """Return a sound file without metadata, and its pixels as Pillow reads them."""
    options: dict[str, object] = {
        "JPEG": ({"quality": 90}, {"quality": 60, "progressive": True}, {"quality": 80}),
        "PNG": ({}, {}, {}),
        "WEBP": ({"lossless": True}, {"quality": 70}, {"lossless": True}),
    }[kind][option]
    mode = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "P", "L"), "WEBP": ("RGB", "RGB", "RGBA")}[kind][
        option
    ]
    buffer = io.BytesIO()
    Image.fromarray(_pixels(number)).convert(mode).save(buffer, kind, **options)
    with Image.open(io.BytesIO(buffer.getvalue())) as picture:
        return buffer.getvalue(), np.asarray(picture.convert("RGB"))


def _any(kind: str, rng: random.Random) -> tuple[bytes, Pixels]:
    return _encoded(kind, rng.randrange(4), rng.randrange(3))


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


def _jpeg(rng: random.Random) -> Sample:
    content, pixels = _any("JPEG", rng)
    said = _metadata(rng)
    segments = []
    if said.exif is not None:
        segments.append(_segment(0xE1, b"Exif\0\0" + said.exif))
    if said.xmp is not None:
        segments.append(_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + said.xmp))
    mp = b"MPF\0" + (said.exif or b"") + rng.randbytes(20)
    odd = (
        _segment(0xE0, b"JFIF\0" + rng.randbytes(rng.randrange(9))),
        _segment(0xE2, b"ICC_PROFILE\0" + rng.randbytes(rng.randrange(30))),
        _segment(0xE2, mp),
        _segment(0xE2, b"FPXR\0"),
        _segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed" + rng.randbytes(rng.randrange(40))),
        _segment(0xED, b"Photoshop 3.0\0"),
        _segment(0xEE, b"Adobe" + rng.randbytes(rng.randrange(6))),
        _segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + rng.randbytes(40)),
        _segment(0xE1, b"Exif"),
        _segment(rng.randrange(0xE3, 0xEE), rng.randbytes(rng.randrange(60))),
        _segment(0xFE, rng.randbytes(rng.randrange(60))),
        b"\xff" * rng.randrange(1, 5) + _segment(0xFE, b""),
    )
    segments += rng.sample(odd, rng.randrange(5))
    rng.shuffle(segments)
    # APP0 of the encoder stays the first, or stands behind.
    return Sample("JPEG", content[:2] + b"".join(segments) + content[2:], _turned(pixels, said.orientation))


# PNG


def _chunk(name: bytes, body: bytes, check: int = 0) -> bytes:
    crc = zlib.crc32(name + body) ^ check
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)


@cache
def _bomb() -> bytes:
    return zlib.compress(bytes(8 << 20), 9)


def _png(rng: random.Random) -> Sample:
    content, pixels = _any("PNG", rng)
    said = _metadata(rng)
    chunks = []
    if said.exif is not None:
        profile = b"\nexif\n" + f"{len(said.exif):8}\n{said.exif.hex()}\n".encode()
        chunks.append(
            rng.choice(
                (
                    _chunk(b"eXIf", said.exif),
                    _chunk(b"tEXt", b"Raw profile type exif\0" + profile),
                    _chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
                )
            )
        )
    if said.xmp is not None:
        packed = rng.random() < 0.5
        text = zlib.compress(said.xmp) if packed else said.xmp
        chunks.append(_chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes((packed, 0)) + b"\0\0" + text))
    odd = (
        _chunk(b"zTXt", b"Comment\0\0" + _bomb()),
        _chunk(b"zTXt", b"Comment\0\x07" + rng.randbytes(20)),
        _chunk(b"iTXt", b"Comment\0\x01\0\0\0" + _bomb()),
        _chunk(b"iTXt", rng.randbytes(rng.randrange(30))),
        _chunk(b"tEXt", rng.randbytes(rng.randrange(30))),
        _chunk(b"tEXt", b"exif\0" + rng.randbytes(30)),
        _chunk(b"iCCP", b"profile\0\0" + _bomb()),
        _chunk(b"iCCP", b"p\0\x09" + rng.randbytes(9)),
        _chunk(b"iCCP", b"p\0"),
        _chunk(rng.choice((b"gAMA", b"cHRM", b"pHYs", b"sRGB", b"sBIT", b"tIME", b"bKGD")), rng.randbytes(3)),
        _chunk(b"tRNS", rng.randbytes(rng.randrange(8))),
        _chunk(b"acTL", rng.randbytes(rng.choice((0, 4, 8)))),
        _chunk(b"fcTL", rng.randbytes(rng.choice((0, 26)))),
        _chunk(b"fdAT", rng.randbytes(20)),
        _chunk(b"prVt", rng.randbytes(rng.randrange(100))),
        _chunk(b"tEXt", b"Comment\0wrong sum", check=1),
    )
    chunks += rng.sample(odd, rng.randrange(5))
    rng.shuffle(chunks)
    before = rng.randrange(len(chunks) + 1)
    head = 8 + 25  # signature and IHDR
    middle, end = content[head:-12], content[-12:]
    whole = content[:head] + b"".join(chunks[:before]) + middle + b"".join(chunks[before:]) + end
    return Sample("PNG", whole, _turned(pixels, said.orientation))


# WebP


def _riff(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _webp(rng: random.Random) -> Sample:
    content, pixels = _any("WEBP", rng)
    said = _metadata(rng)
    width, height = pixels.shape[1] - 1, pixels.shape[0] - 1
    flags = rng.choice((0x0C, 0x2C, 0, 0xC1 | 0x2C)) | 0x10
    extended = _riff(
        b"VP8X", bytes((flags, 0, 0, 0)) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
    )
    # An encoder writes its own where there is transparency.
    image = content[12 + 18 :] if content[12:16] == b"VP8X" else content[12:]
    chunks = []
    if said.exif is not None:
        chunks.append(_riff(b"EXIF", rng.choice((b"Exif\0\0", b"")) + said.exif))
    if said.xmp is not None:
        chunks.append(_riff(b"XMP ", said.xmp))
    for _ in range(rng.randrange(4)):
        name = rng.choice((b"ICCP", b"ABCD", b"\0\0\0\0", b"exif"))
        chunks.append(_riff(name, rng.randbytes(rng.choice((0, 1, 7, 128)))))
    rng.shuffle(chunks)
    before = rng.randrange(len(chunks) + 1)
    body = b"WEBP" + extended + b"".join(chunks[:before]) + image + b"".join(chunks[before:])
    if rng.random() < 0.2:  # a last chunk that promises more than there is
        body += b"EXIF" + struct.pack("<I", rng.choice((100, 2**31, 2**32 - 2))) + b"II"
    return Sample("WEBP", b"RIFF" + struct.pack("<I", len(body)) + body, _turned(pixels, said.orientation))


# TIFF


def _tiff(rng: random.Random) -> Sample:
    pixels = _pixels(rng.randrange(4))
    order, packed = rng.choice("<>"), rng.random() < 0.5
    big = order == "<" and rng.random() < 0.5
    head, counted, entry, word = ("Q", "Q", "HHQ", 8) if big else ("I", "H", "HHI", 4)
    data = zlib.compress(pixels.tobytes()) if packed else pixels.tobytes()
    first = 16 if big else 8
    bits = struct.pack(order + "3H", 8, 8, 8)
    xmp, by_xmp = _xmp(rng) if rng.random() < 0.3 else (b"", None)
    blob = data + b"\0" * (len(data) % 2) + bits + xmp
    start = first + len(blob) + len(blob) % 2
    shape = pixels.shape
    fixed = [
        (256, 4, 1, shape[1]), (257, 4, 1, shape[0]), (259, 3, 1, 8 if packed else 1), (262, 3, 1, 2),
        (273, 4, 1, first), (277, 3, 1, 3), (278, 4, 1, shape[0]), (279, 4, 1, len(data)),
    ]  # fmt: skip

    def packed_entry(tag: int, kind: int, count: int, field: bytes) -> tuple[int, bytes]:
        return tag, struct.pack(order + entry, tag, kind, count) + field.ljust(word, b"\0")[:word]

    entries = [packed_entry(t, k, n, struct.pack(order + {3: "H", 4: "I"}[k], v)) for t, k, n, v in fixed]
    where = first + len(data) + len(data) % 2
    small = bits if big else struct.pack(order + head, where)
    entries.append(packed_entry(258, 3, 3, small))
    if xmp:
        entries.append(packed_entry(700, 1, len(xmp), struct.pack(order + head, where + 6)))
        by_xmp = by_xmp if len(xmp) > word else None
    orientation, said = _orientation(rng, order)
    if orientation is not None:
        field = struct.pack(order + "I", orientation.value)
        entries.append(packed_entry(orientation.tag, orientation.kind, orientation.count, field))
    pixel_tags = {
        255,
        266,
        284,
        317,
        320,
        338,
        339,
        *range(512, 533),
        *range(256, 280),
        *range(322, 326),
        347,
    }
    for _ in range(rng.randrange(10)):
        one = _entry(rng, start + 100)
        if one.tag not in pixel_tags | {700, 0x0112, 292, 293}:
            value = struct.pack(order + head, rng.choice((one.value, start, 2**63 - 1 if big else one.value)))
            entries.append(packed_entry(one.tag, one.kind, one.count, value))
    entries.sort(key=lambda each: each[0])
    following = rng.choice((0, 0, start, first, 0xFFFFFFFF, 1))
    directory = struct.pack(order + counted, len(entries)) + b"".join(field for _, field in entries)
    directory += struct.pack(order + head, following)
    magic = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    magic += struct.pack(order + "HH", 8, 0) if big else b""
    content = magic + struct.pack(order + head, start) + blob + b"\0" * (len(blob) % 2) + directory
    return Sample("TIFF", content, _turned(pixels, said or by_xmp))


_BUILDERS: dict[str, Callable[[random.Random], Sample]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "TIFF": _tiff,
}
