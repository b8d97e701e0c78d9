"""Addresses of cameras: taken apart without doubt, or refused without being shown."""

from __future__ import annotations

import urllib.parse

import pytest

from agent.base.encoding import UnfitError, fitted
from camera.core.address import Address, AddressError, check_source, masked, shown, shown_name, shown_pipeline

SECRET = "Geh@/#?%:+&\\ü'\"x imnis7"
PASSWORDS = [f"Gehe{odd}imnis" for odd in "/@#?% ü\\"] + ["1234/imnis"]


def pieces(secret: str) -> list[str]:
    """Return what must not be seen: every piece of four letters or more between what takes a text apart."""
    words = "".join(letter if letter.isalnum() else " " for letter in secret).split()
    return [word for word in words if len(word) >= 4]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "begin",
    ["rtsp://", "rtps://", "rtsp:/", "rtsp//", "rtsp:", "rtsp:\\\\", "rtsp;//", " rtsp://", "rtsp ://", "://",
     "//", "", "RTPS://", "ftp://", "x-rtsp://", "\thttp://", "http:"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_being_shown(begin: str, password: str) -> None:
    """Misspelt, without a beginning, or with a password that takes it apart: the message says what to do."""
    with pytest.raises(AddressError) as refused:
        check_source(f"{begin}admin:{password}@10.0.0.1/stream")
    said = str(refused.value)
    assert not [piece for piece in (*pieces(password), "admin", "10.0.0.1") if piece in said]
    assert "rtsp" in said or "%40" in said or "%20" in said or "%25" in said
    assert said.endswith("it is not shown, it may hold a password")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("rtsp://10.0.0.11/stream", "rtsp://10.0.0.11/***"),
        ("RTSP://u:p@cam:554/", "rtsp://***@cam:554/"),
        ("rtsp://u:%40%2f%23@[2001:db8::1]:554/a?b=c", "rtsp://***@[2001:db8::1]:554/***"),
        ("rtsp://u@h/", "rtsp://***@h/"),
        ("rtsp://u:a:b@h", "rtsp://***@h"),
        ("http://cam/axis-cgi/mjpg/video.cgi?resolution=640x480&camera=1", "http://cam/***"),
        ("http://cam?user=a", "http://cam?***"),
        ("udp://@239.0.0.1:1234", "udp://239.0.0.1:1234"),
        ("srt://:9000?mode=listener", "srt://:9000?***"),
    ],
)
def test_an_address_shows_its_scheme_host_and_port(text: str, seen: str) -> None:
    """Nothing else of it; for OpenCV it stays as it is but for capitals in the scheme."""
    address = Address.parse(text)
    assert address.shown == seen
    assert address.text.lower() == text.lower()
    assert address.text.startswith(address.scheme)
    assert "u:p" not in repr(address)


@pytest.mark.parametrize(
    "text",
    ["rtsp://", "rtsp:///x", "rtsp://u:p@", "rtsp://u:p@h:99999/", "rtsp://u:p@h:x/", "rtsp://u:p@fe80::1/x",
     "rtsp://u:p@[fe80::x]/", "rtsp://u:p@[::1/", "rtsp://u:[p]@h/", "rtsp://u:p@h/a b", "rtsp://u:p@h/%zz",
     "rtsp://u:p@h/%", "rtsp://u:p@h/a\nb", "rtsp://h/a@b", "rtsp://u:p@h@i/", 'rtsp://u:"p"@h/'],
)  # fmt: skip
def test_an_address_that_can_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        Address.parse(text)


@pytest.mark.parametrize(
    "source",
    ["0", "/dev/video0", "/dev/v4l/by-id/usb-a:b@c", "clips/part.mp4", "2026-11-29T12:30:05.mp4",
     "./a:b@c.mp4", "/clips/12:30@2.mp4", "videotestsrc ! appsink",
     "rtspsrc location=rtsp://u:p/w@h/1 ! appsink",
     "http/clip.mp4", "rtsp.mp4", "a@b.mp4"],
)  # fmt: skip
def test_other_sources_are_no_addresses(source: str) -> None:
    """Devices, files and pipelines pass, colons and all."""
    check_source(source)


def test_what_is_shown_of_other_texts() -> None:
    """A setting, a file's name, a pipeline, a line of a log."""
    assert shown("info") == "info"
    assert shown("rtsp://u:p@h/x") == "rtsp://***@h/***"
    assert {shown(t) for t in ("rtps://u:p/w@h", "u:p@h", "smb://nas/x", "x?password=y", "//u:p")} == {"***"}
    assert shown_name("clips/line 3.mp4") == "clips/line 3.mp4"
    assert {shown_name(t) for t in ("u:p@h", "a@b.mp4", "10.0.0.1/x", "x?pw=1", "a%40b", "\\\\nas\\x")} == {
        "***"
    }
    assert shown_pipeline("rtspsrc location=rtsp://u:p@h user-pw='a ! b' ! x") == "rtspsrc ! x"
    for value in ('"Top ! Secret ! x"', r'"a\" ! Secret ! \""', '"never ends ! Secret', "'a ! Secret'"):
        assert "Secret" not in shown_pipeline(f"rtspsrc user-pw={value} ! decodebin ! appsink")
    line = "tried rtps://u:p/w@h/x and http://h/?user=a&password=b c"
    assert masked(line) == "tried rtps://***@h/x and http://h/?user=a&password=*** c"
    for own in ("config: mqtt.password: nothing -> ${env:PW} (live)", "camera a: http://***@h/***: hung up"):
        assert masked(own) == own


@pytest.mark.parametrize("after", ["@h/x", ":${b}@h/x", "@[::1]:554"])
@pytest.mark.parametrize(
    "before", ["rtsp://u:", "RTSP://", "rtspsrc location=rtsp://u:", 'rtspsrc location="http://u:']
)
def test_a_password_is_encoded_for_the_user_part(before: str, after: str) -> None:
    """Whatever it holds it comes out of the address as it went in, and takes nothing apart."""
    tail = after if before[:4].lower() == "rtsp" and "src" not in before else f'{after}" ! x'
    written = fitted(SECRET, before, tail.replace("${b}", "xxxx"))
    assert not set(written) & set("@/#?\\ \"'")
    assert urllib.parse.unquote(written) == SECRET
    if "src" not in before:
        Address.parse(f"{before}{written}{after.replace('${b}', 'y')}")


def test_a_reference_may_be_user_and_password_together() -> None:
    """A user's name cannot hold a colon, so the first one ends it."""
    assert fitted("admin:a:b@c", "rtsp://", "@h/x") == "admin:a%3Ab%40c"
    assert fitted("admin", "rtsp://", "@h/x") == "admin"


def test_a_reference_elsewhere_in_an_address_is_encoded_for_its_place() -> None:
    """One value behind =, pieces of a path or a query elsewhere, the host as it is."""
    assert fitted("a&b=/c", "http://h/x?user=y&password=", "&z=1") == "a%26b%3D%2Fc"
    assert fitted("a/b c?x=1&y=%20%zz#@ü", "http://h/", "") == "a/b%20c?x=1&y=%20%25zz%23%40%C3%BC"
    assert fitted("10.0.0.1:554", "rtsp://u:p@", "/x") == "10.0.0.1:554"
    assert fitted("u:p@10.0.0.1", "rtsp://", "/x") == "u:p@10.0.0.1"


def test_a_reference_in_another_text_is_taken_as_it_is() -> None:
    """A password of the broker, a whole address, a prompt."""
    for before, after in (("", ""), ("a photo of ", "{}"), ("see rtsp:", ""), ("/run/", "/x")):
        assert fitted(SECRET, before, after) == SECRET


def test_a_reference_in_a_pipeline_takes_nothing_apart() -> None:
    """It is put in quotes; where that cannot be, the message says what to do."""
    assert fitted("plain-1.2", "rtspsrc user-pw=", " ! x") == "plain-1.2"
    assert fitted('a"b ! c\\', "rtspsrc user-pw=", " ! x") == '"a\\"b ! c\\\\"'
    assert fitted('a"b ! c\\', 'rtspsrc user-pw="', '" ! x') == 'a\\"b ! c\\\\'
    with pytest.raises(UnfitError, match="whole value of a property"):
        fitted("a b", "rtspsrc user-pw=c", " ! x")
