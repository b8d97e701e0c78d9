"""Addresses of network cameras: what one must look like, and what of any text may be shown.

An address holds a password more often than not, in its user part, in its path or in its query. A misspelt one
holds it in a place that nobody expects, so it is refused without being shown, and everything that is printed,
logged or published of a text that somebody else wrote goes through `masked` or `shown`.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from dataclasses import dataclass, field

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "rtp", "srt", "tcp", "udp")
MASK = "***"

_USUAL = ("rtsp", "http", "https", "rtmp")  # what is meant by one that is misspelt
_LISTENING = frozenset({"rtp", "srt", "tcp", "udp"})  # may name a port of this machine alone
_ANY = "|".join(SCHEMES)
_BEGINS = re.compile(rf"({_ANY})://", re.IGNORECASE)
_BEGINS_BADLY = re.compile(rf"({_ANY})(:|//|;//)", re.IGNORECASE)
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)[:;]")
_PIPELINE = re.compile(r"\s!|!\s|[A-Za-z][\w-]*\s+[\w-]+\s*=")
_USER = re.compile(r"[\w.~!$&'()*+,;=:%-]*", re.ASCII)
_HOST = re.compile(r"(?P<host>[\w.-]*|\[(?P<six>[^\[\]]*)\])(:(?P<port>[0-9]{1,5}))?", re.ASCII)
_IN_NO_ADDRESS = re.compile(r"[^!-~]|[\\\"<>`]")
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# A name of a file, as people give them. The others may be addresses whose beginning was forgotten.
_NO_NAME = re.compile(r"[@:;=&%#\\]|//|[0-9]{1,3}(\.[0-9]{1,3}){3}(/|$)")
# Greedy on purpose: a password may hold an @ and blanks of its own. In a log line it ends with the word.
_CREDENTIALS = re.compile(r"(?<=://)\S*@")
_QUOTED = re.compile(r"\"(?:\\.|[^\"\\])*(\"|$)|'[^']*('|$)")
_NAMED = re.compile(
    r"((?:password|passwd|pwd|passphrase|secret|token|user-pw)\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s&,;]+)",
    re.IGNORECASE,
)

_ENCODE = (
    "in user and password write @ as %40, / as %2F, : as %3A, # as %23, ? as %3F, % as %25, or take"
    " them from ${env:NAME} or ${file:path}, where they stand as they are"
)
_HIDDEN = "it is not shown, it may hold a password"


class AddressError(ValueError):
    """A text is no address of a camera; says why without showing it."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address that a camera can be opened at.

    Attributes:
        text: the whole of it, for OpenCV alone; FFmpeg knows schemes in small letters only.
        host: without the brackets of IPv6; empty where this machine listens.
        port: None where the scheme's own is meant.
        shown: what may be printed of it: scheme, host and port.
    """

    text: str = field(repr=False)
    scheme: str
    host: str
    port: int | None
    shown: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that `text` is.

        Raises:
            AddressError: it is none, or cannot be taken apart without doubt.
        """
        begins = _BEGINS.match(text)
        if begins is None:
            raise AddressError(f"is no address of a camera: {_begin(text)}; {_HIDDEN}")
        if _IN_NO_ADDRESS.search(text):
            raise AddressError(
                f"holds a character that stands in no address: write a blank as %20, others alike; {_HIDDEN}"
            )
        if _NO_ESCAPE.search(text):
            raise AddressError(f"holds a % that begins no escape such as %2F: write it as %25; {_HIDDEN}")
        after = text[begins.end() :]
        place = re.split(r"[/?#]", after, maxsplit=1)[0]
        rest = after[len(place) :]
        if place.count("@") > 1 or "@" in rest:
            raise AddressError(f"its user, password and host cannot be told apart: {_ENCODE}; {_HIDDEN}")
        user, at, where = place.rpartition("@")
        found = _HOST.fullmatch(where)
        if found is None or not _USER.fullmatch(user) or not _is_host(found["host"], found["six"]):
            raise AddressError(
                f"its host and port cannot be told apart: {_ENCODE};"
                f" an IPv6 address stands in brackets; {_HIDDEN}"
            )
        scheme, port = begins[1].lower(), int(found["port"]) if found["port"] else None
        if port is not None and port > 65535:
            raise AddressError(f"its port is more than 65535; {_HIDDEN}")
        if not found["host"] and scheme not in _LISTENING:
            raise AddressError(f"names no host: write {scheme}://host/...; {_HIDDEN}")
        # Cameras take passwords in the path as well as in the query: the host alone is shown.
        kept = rest if len(rest) < 2 else f"{rest[0]}{MASK}"
        shown = f"{scheme}://{f'{MASK}@' if at and user else ''}{where}{kept}"
        return cls(f"{scheme}{text[len(scheme) :]}", scheme, found["six"] or found["host"], port, shown)


def is_address(text: str) -> bool:
    """Whether `text` begins as the address of a network camera does."""
    return _BEGINS.match(text) is not None


def check_source(text: str) -> None:
    """Raise AddressError where `text` is meant as an address and is none; other sources pass."""
    if is_address(text):
        Address.parse(text)
    elif _PIPELINE.search(text) or text.startswith(("./", "../")):
        return
    elif "://" in text or _BEGINS_BADLY.match(text.strip()) or text.startswith("//"):
        raise AddressError(f"is no address of a camera: {_begin(text)}; {_HIDDEN}")
    elif not text.startswith("/") and re.search(r":.*@|@.*:", text):
        raise AddressError(f"looks like an address without its beginning: {_begin('')}; {_HIDDEN}")


def shown(text: str) -> str:
    """Return what may be shown of a text that somebody wrote as a setting: all, or what is no secret."""
    if is_address(text):
        try:
            return Address.parse(text).shown
        except AddressError:
            return MASK
    return MASK if "@" in text or "//" in text or _NAMED.search(text) else text


def shown_name(name: str) -> str:
    """Return what may be shown of a text that is taken for the name of a file: all, or nothing."""
    return MASK if _NO_NAME.search(name) else name


def shown_pipeline(pipeline: str) -> str:
    """Return the elements of a GStreamer pipeline without their properties."""
    bare = _QUOTED.sub("", pipeline)  # a value may hold what parts elements
    elements = (part.split(None, 1)[0] if part.strip() else "" for part in bare.split("!"))
    return " ! ".join(element if re.fullmatch(r"[\w-]+", element) else MASK for element in elements)


def masked(line: str) -> str:
    """Return a line of a log or an error without passwords of addresses in it, whoever wrote it."""
    return _NAMED.sub(rf"\1{MASK}", _CREDENTIALS.sub(f"{MASK}@", line))


def _begin(text: str) -> str:
    """Say what an address should begin with, and which of these was meant."""
    said = _SCHEME.match(text)
    close = difflib.get_close_matches(said[1].lower(), _USUAL, n=1) if said else []
    hint = f": did you mean {close[0]}://?" if close else ""
    return f"it should begin with one of {', '.join(SCHEMES)} and ://{hint}"


def _is_host(host: str, six: str | None) -> bool:
    if six is None:
        return ":" not in host
    try:
        ipaddress.IPv6Address(six.replace("%25", "%"))
    except ValueError:
        return False
    return True
