"""Sound pixels are a picture, whatever the metadata around them says."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from PIL import Image as Pillow

from camera.core.frame import Fault
from camera.core.settings import FolderCamera
from camera.pictures import images
from camera.pictures.images import MAX_JPEG_PX, UnreadableImage, decode, encode_jpeg, read_image
from camera.pictures.orientation import UPRIGHT, orientation
from camera.pictures.quality import MIN_SIDE_PX
from camera.sources.folder import Folder
from tests.fuzz.metadata import KINDS, build, fuzz
from tests.support.encoded_pictures import encoded, rainbow

ORDERS = {"<": b"II*\0", ">": b"MM\0*"}


def exif(kind: int, count: int, value: bytes, order: str = "<") -> bytes:
    """Return EXIF data with an orientation and nothing else."""
    entry = struct.pack(order + "HHI", 0x0112, kind, count) + value.ljust(4, b"\0")
    return ORDERS[order] + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def jpeg(metadata: bytes) -> bytes:
    """Return a JPEG with a segment of EXIF."""
    content, body = encoded(rainbow(), "JPEG"), b"Exif\0\0" + metadata
    return content[:2] + struct.pack(">HH", 0xFFE1, 2 + len(body)) + body + content[2:]


@pytest.mark.parametrize("kind", KINDS)
def test_sound_pixels_are_read_whatever_the_metadata_says(kind: str) -> None:
    """Directories, segments and chunks that are right in form and wrong in what they say."""
    result = fuzz(kind, 250, seed=1)
    assert [what for _, what in result.faults] == []


def test_the_metadata_that_is_tried_is_what_others_stumble_over() -> None:
    """Pillow itself, asked for all of it, refuses or raises at many of the same files."""
    rng, stumbled = random.Random(0), 0
    for number in range(200):
        sample = build(KINDS[number % len(KINDS)], rng)
        try:
            with Pillow.open(io.BytesIO(sample.content)) as picture:
                picture.load()
                dict(picture.getexif())
        except Exception:  # noqa: BLE001 - any is one
            stumbled += 1
    assert stumbled > 20


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("turned", range(1, 9))
def test_a_picture_is_turned_as_each_orientation_says(order: str, turned: int) -> None:
    """All eight of them, in both byte orders, in the three whole numbers that people write."""
    expected = {
        1: lambda p: p, 2: np.fliplr, 3: lambda p: np.rot90(p, 2), 4: np.flipud,
        5: lambda p: np.swapaxes(p, 0, 1), 6: lambda p: np.rot90(p, -1),
        7: lambda p: np.rot90(np.swapaxes(p, 0, 1), 2), 8: np.rot90,
    }[turned](decode(encoded(rainbow(), "JPEG"), "x"))  # fmt: skip
    for kind, letter in ((1, "B"), (3, "H"), (4, "I")):
        content = jpeg(exif(kind, 1, struct.pack(order + letter, turned), order))
        image = decode(content, "x")
        assert np.array_equal(image, expected)
        assert image.flags.c_contiguous


@pytest.mark.parametrize(
    "metadata",
    [
        exif(2, 2, b"6\0"),  # text
        exif(5, 1, b"\x08\0\0\0"),  # a fraction that stands elsewhere
        exif(11, 1, struct.pack("<f", 6.0)),
        exif(3, 2, struct.pack("<HH", 6, 6)),  # a list
        exif(3, 0, b"\x06\0"),
        exif(3, 2**32 - 1, b"\x06\0"),
        exif(3, 1, b"\0\0"),
        exif(3, 1, b"\x09\0"),
        exif(3, 1, b"\xff\xff"),
        exif(99, 1, b"\x06\0"),
        exif(3, 1, b"\x06\0")[:20],  # cut off
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"",
        b"no exif at all",
    ],
)
def test_an_orientation_that_is_none_leaves_the_picture_as_it_is(metadata: bytes) -> None:
    """Text, fractions, lists, 0, 9 and what is cut off do not say which way up a picture is."""
    assert orientation(metadata, b"") == UPRIGHT
    assert np.array_equal(decode(jpeg(metadata), "x"), decode(encoded(rainbow(), "JPEG"), "x"))


def test_exif_counts_before_xmp_and_xmp_where_exif_says_nothing() -> None:
    """Where both say something, cameras have kept EXIF true and editors have not."""
    element = b"<tiff:Orientation>8</tiff:Orientation>"
    assert orientation(exif(3, 1, b"\x06\0"), element) == 6
    assert orientation(exif(3, 1, b"\x09\0"), element) == 8
    assert orientation(b"", b"<x tiff:Orientation='3'/>") == 3
    assert orientation(b"", b'<x tiff:Orientation="9"/>') == UPRIGHT


@pytest.mark.parametrize("mode", ["CMYK", "L", "YCbCr"])
def test_colours_of_a_jpeg_are_as_without_its_metadata(mode: str) -> None:
    """The two segments that say how the colours are stored stay in the file."""
    buffer = io.BytesIO()
    Pillow.fromarray(rainbow()).convert(mode).save(buffer, "JPEG", comment=b"x" * 100)
    with Pillow.open(io.BytesIO(buffer.getvalue())) as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(decode(buffer.getvalue(), "x"), expected)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_pictures_the_first_counts(kind: str) -> None:
    """Animations and files of several pages."""
    first, second = Pillow.fromarray(rainbow()), Pillow.fromarray(255 - rainbow())
    buffer = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    first.save(buffer, kind, save_all=True, append_images=[second], **options)
    with Pillow.open(io.BytesIO(buffer.getvalue())) as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(decode(buffer.getvalue(), "x"), expected)
    if kind != "GIF":
        assert np.array_equal(expected, rainbow())


def test_the_first_of_a_phones_pictures_is_read() -> None:
    """MPO: further JPEGs behind the first, and an index of them that may be broken."""
    buffer = io.BytesIO()
    Pillow.fromarray(rainbow()).save(
        buffer, "MPO", save_all=True, append_images=[Pillow.fromarray(255 - rainbow())]
    )
    content = bytearray(buffer.getvalue())
    expected = decode(bytes(content), "x")
    assert np.abs(expected.astype(int) - rainbow()).mean() < 20
    content[content.index(b"MPF\0") + 8 : content.index(b"MPF\0") + 40] = bytes(32)
    assert np.array_equal(decode(bytes(content), "x"), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_file_that_is_cut_off_within_its_pixels_stays_unreadable(kind: str) -> None:
    """Half a picture is not made to look like a whole one, whatever is in front of it."""
    options = {"exif": exif(3, 1, b"\x06\0")} if kind != "TIFF" else {}
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    for quality in ({"lossless": True}, {"quality": 80}) if kind == "WEBP" else ({},):
        whole = encoded(noise, kind, **options, **quality)
        with pytest.raises(UnreadableImage):
            decode(whole[: len(whole) * 2 // 3], "x")


@pytest.mark.parametrize(
    "error",
    [
        TypeError("x"),
        AttributeError(),
        KeyError("y"),
        OverflowError(),
        RecursionError(),
        MemoryError(),
        IndexError(),
    ],
)
def test_whatever_a_decoder_raises_is_an_unreadable_picture_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The reason is told and the next picture follows: no exception of a library leaves its station."""
    for name in ("1.png", "2.png", "3.png"):
        (tmp_path / name).write_bytes(encoded(rainbow(), "PNG"))
    real, count = Pillow.open, iter(range(3))

    def broken(*arguments: object, **options: object) -> object:
        if next(count) == 1:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(images.Pillow, "open", broken)
    captures = list(Folder(FolderCamera(path=str(tmp_path))).captures(Event()))
    assert [capture.fault for capture in captures] == [None, Fault.UNREADABLE, None]
    assert captures[1].detail.startswith(f"{tmp_path / '2.png'}: ")
    assert len(captures[1].detail) > len(f"{tmp_path / '2.png'}: ")


def test_a_mistake_of_ours_is_not_taken_for_a_broken_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a library raises is; the rest is to be seen."""
    monkeypatch.setattr(images, "upright", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        decode(encoded(rainbow(), "PNG"), "x")


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A folder or a device is refused, and a file beyond the limit before it is read."""
    with pytest.raises(UnreadableImage, match="not a file of pictures"):
        read_image(Path("/dev/zero"))
    with pytest.raises(UnreadableImage, match="not a file of pictures"):
        read_image(tmp_path)
    file = tmp_path / "huge.png"
    with file.open("wb") as handle:
        handle.truncate(images.MAX_BYTES + 1)
    with pytest.raises(UnreadableImage, match="more than 1,000,000,000 bytes"):
        read_image(file)


def test_pixels_of_12_bits_are_scaled_as_those_of_16(tmp_path: Path) -> None:
    """A camera's Mono12 as PGM: 4095 is white."""
    deep = np.array([[0, 4095], [2048, 16]], dtype=">u2")
    file = tmp_path / "mono12.pgm"
    file.write_bytes(b"P5 2 2 4095\n" + deep.tobytes())
    assert read_image(file)[..., 0].tolist() == [[0, 255], [128, 1]]


def test_a_very_tall_picture_is_kept_as_evidence() -> None:
    """Libjpeg takes no more than 65 500 lines; the picture is scaled down to that."""
    jpeg = encode_jpeg(np.zeros((100_000, 3, 3), np.uint8), max_width_px=640, quality=80)
    with Pillow.open(io.BytesIO(jpeg)) as picture:
        assert picture.size == (2, MAX_JPEG_PX)


def test_odd_metadata_is_no_noise_and_no_end_of_inspect(tmp_path: Path) -> None:
    """`mekiki inspect`: one verdict each, on standard error what is seen and totals alone, exit code 0."""
    rng = random.Random(7)
    for number in range(12):
        kind = KINDS[number % len(KINDS)]
        sample = build(kind, rng)
        while min(sample.expected.shape[:2]) < MIN_SIDE_PX:  # is refused for that, on the line too
            sample = build(kind, rng)
        (tmp_path / f"{number:02}.{kind.lower()}").write_bytes(sample.content)
    whole = exif(3, 1, b"\x06\0") + struct.pack("<HHII", 0x011A, 2, 5, 0x41424344)
    (tmp_path / "99.jpeg").write_bytes(jpeg(whole))
    command = [sys.executable, "-m", "agent", "inspect", str(tmp_path), "--recipe", "line"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0
    *seen, totals = done.stderr.splitlines()
    assert all("picture pixels per model pixel" in line for line in seen)
    assert totals.startswith("13 results: ")
    assert len(done.stdout.splitlines()) == 13
    assert "unreadable" not in done.stdout
