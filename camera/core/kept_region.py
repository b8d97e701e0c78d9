"""Which region of a camera's picture a kept one shows: a comment in the file, so that it is not cut again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic_core import from_json

from camera.core.settings import RegionOfInterest

_MARK = b"mekiki.region.v1 "
_HEAD_BYTES = 1 << 16
_PNG = b"\x89PNG\r\n\x1a\n"
PNG_KEY = "Comment"
"""Of the text in a PNG."""
_WHOLE = (0.0, 0.0, 1.0, 1.0)


MAP_SUFFIX: Final = ".map.png"
"""Of a drawing beside a kept picture that shows where the part differs from good ones."""


@dataclass(frozen=True, slots=True)
class KeptRegion:
    """What was looked at when a picture was kept.

    Attributes:
        station: that kept it, for people.
        crop: left, top, right, bottom in shares of the camera's picture.
        roi: digest of crop and masks together.
        masked: masks are burnt in.
        sample: view and tiles by which it became the model's input, where it is that already; else "".
    """

    station: str
    crop: tuple[float, float, float, float]
    roi: str
    masked: bool
    sample: str = ""

    @classmethod
    def of(cls, station: str, roi: RegionOfInterest, sample: str = "") -> KeptRegion:
        """Return what is kept of a station's region."""
        return cls(station, roi.crop, _digest(roi), bool(roi.masks), sample)

    @property
    def whole(self) -> bool:
        """Whether all of the camera's picture is there."""
        return self.crop == _WHOLE and not self.masked

    def shows(self, roi: RegionOfInterest) -> bool:
        """Whether it is just what a station looks at."""
        return self.roi == _digest(roi)

    def comment(self) -> bytes:
        """Return it as the comment of a JPEG, or the text of a PNG."""
        facts = {"station": self.station, "crop": self.crop, "roi": self.roi, "masked": self.masked}
        if self.sample:
            facts["sample"] = self.sample
        return _MARK + json.dumps(facts, allow_nan=False).encode()

    @classmethod
    def parse(cls, comment: bytes) -> KeptRegion | None:
        """Return what a comment says; None where it is not of ours, or damaged."""
        if not comment.startswith(_MARK):
            return None
        try:
            facts = from_json(comment[len(_MARK) :], allow_inf_nan=False)
            left, top, right, bottom = (float(share) for share in facts["crop"])
            crop, sample = (left, top, right, bottom), str(facts.get("sample", ""))
            return cls(str(facts["station"]), crop, str(facts["roi"]), facts["masked"] is True, sample)
        except (ValueError, TypeError, KeyError, OverflowError):
            return None


def kept_region(path: Path) -> KeptRegion | None:
    """Return which region a picture file shows; None where it does not say so."""
    try:
        if not path.is_file():  # to open a pipe would wait for somebody to write into it
            return None
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:  # who reads the picture says so
        return None
    return _in_png(head) if head.startswith(_PNG) else _in_jpeg(head)


def _in_jpeg(head: bytes) -> KeptRegion | None:
    at = 2
    while head.startswith(b"\xff\xd8") and head[at : at + 1] == b"\xff" and head[at + 1 : at + 2] != b"\xda":
        end = at + 2 + max(2, int.from_bytes(head[at + 2 : at + 4], "big"))
        found = KeptRegion.parse(head[at + 4 : end]) if head[at + 1 : at + 2] == b"\xfe" else None
        if found is not None:
            return found
        at = end
    return None


def _in_png(head: bytes) -> KeptRegion | None:
    at, key = len(_PNG), PNG_KEY.encode() + b"\0"
    while (kind := head[at + 4 : at + 8]) not in (b"", b"IDAT", b"IEND"):
        length = int.from_bytes(head[at : at + 4], "big")
        text = head[at + 8 : at + 8 + length]
        if kind == b"tEXt" and text.startswith(key):
            return KeptRegion.parse(text[len(key) :])
        at += 12 + length
    return None


def _digest(roi: RegionOfInterest) -> str:
    facts = {"crop": roi.crop, "masks": sorted(roi.masks.values())}
    return "sha256:" + hashlib.sha256(json.dumps(facts, allow_nan=False).encode()).hexdigest()
