"""Picture files are read strictly, or refused with one clear sentence."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import TiffImagePlugin

from camera.pictures.images import MAX_PIXELS, UnreadableImage, decode, read_image
from tests.support.encoded_pictures import encoded, rainbow


def huge_png(file: Path, width: int, height: int) -> Path:
    """Write a valid grey PNG of any size that compresses to next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    squeeze = zlib.compressobj(9)
    row = bytes(width + 1)
    data = b"".join(squeeze.compress(row) for _ in range(height)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return file


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_a_picture_is_read_to_the_last_bit(tmp_path, kind):
    """A lossless picture gives exactly its pixels, whatever its name says it is."""
    file = tmp_path / "picture.jpg"
    file.write_bytes(encoded(rainbow(), kind))
    image = read_image(file)
    assert image.dtype == np.uint8
    assert np.array_equal(image, rainbow())


def test_grey_becomes_rgb(tmp_path):
    """A grayscale PNG gives three equal channels."""
    file = tmp_path / "grey.png"
    file.write_bytes(encoded(rainbow()[..., 0], "PNG"))
    image = read_image(file)
    assert np.array_equal(image, np.repeat(rainbow()[..., :1], 3, axis=2))


def test_16_bits_are_scaled_not_clipped(tmp_path):
    """A 16-bit PNG is scaled 65535 -> 255, rounded to the nearest step."""
    deep = np.array([[0, 128, 129, 257], [32768, 65278, 65406, 65535]], dtype=np.uint16)
    file = tmp_path / "deep.png"
    file.write_bytes(encoded(deep, "PNG"))
    expected = np.round(deep * (255 / 65535)).astype(np.uint8)
    assert np.array_equal(read_image(file)[..., 1], expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_common_mode_becomes_rgb(tmp_path, mode):
    """Bilevel, palette, alpha and print colours come out as (H, W, 3) uint8."""
    file = tmp_path / "picture"
    picture = Pillow.fromarray(rainbow()).convert(mode)
    picture.save(file, "JPEG" if mode in ("CMYK", "YCbCr") else "PNG")
    image = read_image(file)
    assert image.shape == (48, 64, 3)
    if mode == "RGBA":
        assert np.array_equal(image, rainbow())


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    """Pillow's advice about transparent palettes stays with us."""
    file = tmp_path / "palette.png"
    Pillow.fromarray(rainbow()).convert("P").save(file, "PNG", transparency=b"\x00\x80\xff")
    assert read_image(file).shape == (48, 64, 3)


def test_one_pixel_is_a_picture(tmp_path):
    """A 1x1 picture is fine to read."""
    file = tmp_path / "one.png"
    file.write_bytes(encoded(np.full((1, 1, 3), 7, dtype=np.uint8), "PNG"))
    assert read_image(file).tolist() == [[[7, 7, 7]]]


def test_a_photo_is_turned_as_its_exif_says(tmp_path):
    """A picture taken with the camera on its side comes out upright."""
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    file = tmp_path / "side.png"
    file.write_bytes(encoded(rainbow(), "PNG", exif=exif))
    assert np.array_equal(read_image(file), np.rot90(rainbow(), -1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
def test_a_truncated_file_is_unreadable(tmp_path, kind):
    """A file cut in the middle is refused, not half grey."""
    whole = encoded(rainbow(), kind)
    file = tmp_path / "cut"
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableImage, match="cut: "):
        read_image(file)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty file"), (b"no picture", "not a picture"), (b"%!PS-Adobe", "not a picture")],
)
def test_what_is_no_picture_is_refused_in_one_sentence(tmp_path, content, says):
    """An empty file, text and PostScript are refused, by name."""
    file = tmp_path / "thing.png"
    file.write_bytes(content)
    with pytest.raises(UnreadableImage) as refused:
        read_image(file)
    assert str(refused.value) == f"{file}: {says}"


def test_a_missing_file_is_unreadable(tmp_path):
    """A file that vanished is refused like any other."""
    with pytest.raises(UnreadableImage, match="No such file"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize("side", [11_000, 20_000])
def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path, side):
    """20 000 x 20 000 pixels are refused from the header: next to no memory is used."""
    file = huge_png(tmp_path / "huge.png", side, side)
    tracemalloc.start()
    with pytest.raises(UnreadableImage, match="more than 100,000,000"):
        read_image(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert side * side > MAX_PIXELS
    assert peak < 5_000_000


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]),
    flips=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 6000),
)
def test_damage_gives_a_picture_or_unreadable(tmp_path, kind, flips, cut):
    """Whatever bytes are flipped or lost, the answer is a picture or UnreadableImage, nothing else."""
    content = bytearray(encoded(rainbow(), kind))
    for position, value in flips:
        content[position % len(content)] = value
    file = tmp_path / "damaged"
    file.write_bytes(content[:cut])
    try:
        image = read_image(file)
    except UnreadableImage:
        return
    assert image.shape[2] == 3


def with_sbit(png: bytes, bits: int) -> bytes:
    """Return a PNG that says how many bits of it are significant."""
    chunk = b"sBIT" + bytes((bits,))
    return png[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


def mono12(kind: str, says: int | None = None) -> bytes:
    """Return a ramp from 0 to 4095 in a file of 16 bits; it says how many there are where that is given."""
    ramp = np.linspace(0, 4095, 64 * 48).round().astype(np.uint16).reshape(48, 64)
    largest = (1 << (says or 16)) - 1
    if kind == "PGM":
        return b"P5 64 48 %d\n" % largest + ramp.astype(">u2").tobytes()
    if kind == "TIFF":
        return encoded(ramp, kind, **({} if says is None else {"tiffinfo": {281: largest}}))
    return encoded(ramp, kind) if says is None else with_sbit(encoded(ramp, kind), says)


TWELVE = np.round(np.linspace(0, 4095, 64 * 48).round() * 255 / 4095).astype(np.uint8).reshape(48, 64)


@pytest.mark.parametrize("kind", ["PGM", "PNG", "TIFF"])
@pytest.mark.parametrize("stated", [None, 12])
def test_a_file_that_says_its_depth_is_scaled_by_it(kind, stated):
    """PGM's largest value, PNG's sBIT, TIFF's MaxSampleValue; a setting that says the same is fine."""
    notes = []
    image = decode(mono12(kind, 12), "a", stated, notes.append)
    assert np.abs(image[..., 0].astype(int) - TWELVE).max() <= 1
    assert notes == []


@pytest.mark.parametrize("kind", ["PGM", "PNG", "TIFF"])
def test_a_stated_depth_scales_what_does_not_say_its_own(kind):
    """Without it such a picture is dark, and a note says what to set; more bits than stated are refused."""
    content, notes = mono12(kind), []
    assert np.array_equal(decode(content, "a", 12, notes.append)[..., 1], TWELVE)
    assert notes == []
    assert decode(content, "a", None, notes.append).max() == 16
    assert notes == [
        "a: its largest value is 4,095 of 65,535: if the camera gives 12 bits, set bit_depth: 12;"
        " else it is a dark picture"
    ]
    with pytest.raises(UnreadableImage, match="a: its largest value is 4,095, more than 10 bits"):
        decode(content, "a", 10)


def test_upper_bits_as_png_wants_them_are_not_scaled_again():
    """A dark picture whose 12 bits are the upper ones of 16 stays dark."""
    ramp = (np.arange(200, dtype=np.uint16).reshape(10, 20)) << 4
    assert decode(with_sbit(encoded(ramp, "PNG"), 12), "a").max() == round(199 * 16 / 257)


def test_eight_bits_need_no_depth():
    """The setting is of deeper grey alone."""
    content = encoded(rainbow(), "PNG")
    assert np.array_equal(decode(content, "a", 12), decode(content, "a"))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (2, "abc"),
        (5, TiffImagePlugin.IFDRational(0, 0)),
        (12, float("nan")),
        (4, 2**32 - 1),
        (7, b""),
        (8, -5),
        (3, 0),
    ],
)
def test_an_odd_tag_of_depth_is_no_reason_against_sound_pixels(kind: int, value: object) -> None:
    """As with all metadata: text, a fraction, nothing, a number that is none."""
    grey = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    tags, plain, odd = TiffImagePlugin.ImageFileDirectory_v2(), io.BytesIO(), io.BytesIO()
    tags.tagtype[281] = kind
    tags[281] = value
    Pillow.fromarray(grey).save(plain, "TIFF")
    Pillow.fromarray(grey).save(odd, "TIFF", tiffinfo=tags)
    assert np.array_equal(decode(odd.getvalue(), "odd.tif"), decode(plain.getvalue(), "plain.tif"))
