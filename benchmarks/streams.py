"""What a learner meets on a line in hours: streams of parts with a known truth, as frozen values.

One frame is one part and one second: an hour has 3600. A stream is a sequence of segments; a segment says how
many parts are defective, whether defects come in bursts, and what lamp, lens and sensor do meanwhile. The same
schedules are drawn for every model, each with the severities that cost its frozen form about the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Content = Literal["parts", "black", "foreign", "wrong"]
"""What lies under the camera: parts; nothing that can be seen; every second part under something; another product."""

STRONG: Mapping[str, Mapping[str, float]] = {
    "line": {"dim": 4.0, "glare": 3.0, "dirt": 2.0, "defocus": 3.0, "motion": 2.7, "noise": 3.4, "fog": 3.6, "contrast": 4.0, "cast": 3.2},
    "steel": {"dim": 2.8, "glare": 2.7, "defocus": 2.5, "motion": 2.0, "noise": 2.5, "fog": 2.5, "contrast": 2.2, "cast": 2.8},
    "photos": {"dim": 4.2, "glare": 4.5, "defocus": 4.0, "motion": 4.5, "noise": 2.2, "fog": 3.5, "contrast": 2.2, "cast": 4.5},
}  # fmt: skip
"""Product -> severity of each kind that costs the frozen model some 10 to 30 points at its operating point.

Found on 300 pictures each of parts that no stream shows. Dirt costs nothing on photos up to severity 5, and
much more on some flanges' lenses than on others'.
"""

NIGHT: Mapping[str, float] = {"line": 0.5, "steel": 0.7, "photos": 0.7}
"""Share of the strong severity of fog and of contrast at night, when both come together."""

UNKNOWN = -1
"""The label of a picture about which nothing is right or wrong."""

BURST_PARTS = 25
BURST_DEFECTS = 12
"""As on the simulated line: one cause spoils half of a block of parts, all in the same way."""

BURST_SHARE = 0.5
"""Of all defects, those that come in bursts."""


@dataclass(frozen=True, slots=True)
class Shift:
    """One degradation during one segment; its severity runs straight from `first` to `last`."""

    kind: str
    first: float
    last: float

    def at(self, place: float) -> float:
        """Return the severity at a place of 0..1 in the segment."""
        return self.first + (self.last - self.first) * place

    @property
    def steady(self) -> bool:
        """Say whether the severity stays."""
        return self.first == self.last


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a stream under one regime.

    Attributes:
        name: what a table calls it; segments of one name are judged together.
        frames: how many.
        shifts: what degrades the picture, in the order in which light passes it.
        defects: expected share of defective parts.
        mix: ``line``, with bursts; or ``balanced``, every class as often as any other, shuffled.
        content: what lies under the camera.
    """

    name: str
    frames: int
    shifts: tuple[Shift, ...] = ()
    defects: float = 0.03
    mix: Literal["line", "balanced"] = "line"
    content: Content = "parts"

    @property
    def clean(self) -> bool:
        """Say whether it is as at commissioning."""
        return not self.shifts and self.content == "parts"

    @property
    def steady(self) -> bool:
        """Say whether the conditions stay."""
        return all(shift.steady for shift in self.shifts)

    def severities(self, place: float) -> tuple[tuple[str, float], ...]:
        """Return kind and severity of what degrades the picture at a place of 0..1."""
        return tuple((shift.kind, shift.at(place)) for shift in self.shifts)


@dataclass(frozen=True)
class Stream:
    """One after another, without a sign between them."""

    name: str
    title: str
    segments: tuple[Segment, ...]

    @property
    def frames(self) -> int:
        """How many in all."""
        return sum(segment.frames for segment in self.segments)

    @property
    def starts(self) -> tuple[int, ...]:
        """Number of the first frame of each segment."""
        return tuple(int(n) for n in np.cumsum([0, *(s.frames for s in self.segments[:-1])]))

    @cached_property
    def segment_of(self) -> NDArray[np.int64]:
        """``(N,)`` index of each frame's segment."""
        return np.repeat(np.arange(len(self.segments)), [segment.frames for segment in self.segments])

    def severities(self, number: int) -> tuple[tuple[str, float], ...]:
        """Return kind and severity of what degrades this frame."""
        index = int(self.segment_of[number])
        segment = self.segments[index]
        return segment.severities((number - self.starts[index]) / max(1, segment.frames - 1))

    def shortened(self, share: float) -> Stream:
        """Return the same with so many of the frames, for a quick look."""
        short = tuple(replace(s, frames=max(2, round(share * s.frames))) for s in self.segments)
        return replace(self, segments=short)

    def truth(self, seed: int, fails: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Draw ``(N,)`` what each part is.

        Args:
            seed: another one gives other parts in another order.
            fails: ``(C,)`` the classes of the recipe that fail.
        """
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        return np.concatenate([_labels(segment, fails, rng) for segment in self.segments])


def schedules(product: str) -> dict[str, Stream]:
    """Return every stream of one of the products in `STRONG`, by name."""
    strong = STRONG[product]
    film = "dirt" if "dirt" in strong else "fog"  # what settles on the lens

    def at(kind: str, share: float = 1.0) -> tuple[Shift, ...]:
        return (Shift(kind, share * strong[kind], share * strong[kind]),)

    def ramp(kind: str) -> tuple[Shift, ...]:
        return (Shift(kind, 0.0, strong[kind]),)

    gradual = (
        Segment("clean", 600),
        Segment("lens gets dirty", 2000, ramp(film)),
        Segment("lens cleaned", 400),
        Segment("lamp fades", 2000, ramp("dim")),
        Segment("lamp faded", 600, at("dim")),
        Segment("new lamp", 400),
    )
    streams = [
        Stream("S0", "clean for 50 000 parts, 97 % ok", (Segment("clean", 50_000),)),
        Stream(
            "S1",
            "every degradation in turn, classes balanced and shuffled",
            (
                Segment("clean", 300, mix="balanced"),
                *(Segment(kind, 600, at(kind), mix="balanced") for kind in strong),
            ),
        ),
        Stream("S2", "gradual drift, 97 % ok with bursts", gradual),
        Stream(
            "S2-rare",
            "gradual drift, 99.5 % ok with bursts",
            tuple(replace(segment, defects=0.005) for segment in gradual),
        ),
        Stream(
            "S3",
            "abrupt changes and return to normal, 97 % ok",
            (
                Segment("clean", 600),
                Segment("glare", 800, at("glare")),
                Segment("defocus", 800, at("defocus")),
                Segment("normal again", 500),
                Segment("motion", 800, at("motion")),
                Segment("noise", 800, at("noise")),
                Segment("normal at last", 700),
            ),
        ),
        Stream(
            "S4",
            "one class for an hour, under fog",
            (
                Segment("clean", 500),
                Segment("an hour of ok", 3600, at("fog"), defects=0.0),
                Segment("defects again", 900, at("fog")),
                Segment("normal again", 400),
            ),
        ),
        Stream(
            "S5",
            "poison while learning: black, foreign objects, wrong product, 10 minutes each",
            (
                Segment("clean", 500),
                Segment("fog", 600, at("fog")),
                Segment("black", 600, content="black"),
                Segment("fog after black", 600, at("fog")),
                Segment("foreign objects", 600, at("fog"), content="foreign"),
                Segment("fog after objects", 600, at("fog")),
                Segment("wrong product", 600, at("fog"), content="wrong"),
                Segment("fog after wrong product", 600, at("fog")),
                Segment("normal again", 600),
            ),
        ),
        Stream(
            "S6",
            "ten times the defects, no drift",
            (
                Segment("3 % defects", 1500),
                Segment("30 % defects", 2500, defects=0.3),
                Segment("3 % again", 1500),
            ),
        ),
        Stream(
            "S7",
            "day and night, 20 times",
            (
                Segment("clean", 300),
                *(
                    Segment(name, 130, shifts)
                    for _ in range(20)
                    for name, shifts in (
                        ("day", (*at("dim", 0.4), *at("cast", 0.4))),
                        ("night", (*at("fog", NIGHT[product]), *at("contrast", NIGHT[product]))),
                    )
                ),
            ),
        ),
        Stream(
            "S8",
            "abrupt changes to what stays: a dirty lens, then a faint lamp",
            (
                Segment("clean", 600),
                Segment("dirty lens", 2200, at(film)),
                Segment("faint lamp", 2200, at("dim")),
            ),
        ),
    ]
    return {stream.name: stream for stream in streams}


def _labels(segment: Segment, fails: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the truth about each part of a segment."""
    if segment.mix == "balanced":
        labels = rng.integers(len(fails), size=segment.frames)
    else:
        labels = _with_bursts(segment, fails, rng)
    if segment.content == "foreign":
        labels[::2] = UNKNOWN
    elif segment.content != "parts":
        labels[:] = UNKNOWN
    return labels


def _with_bursts(segment: Segment, fails: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    good, bad = np.flatnonzero(~fails), np.flatnonzero(fails)
    labels = rng.choice(good, segment.frames)
    alone = rng.random(segment.frames) < (1 - BURST_SHARE) * segment.defects
    labels[alone] = rng.choice(bad, int(alone.sum()))
    chance = BURST_SHARE * segment.defects * BURST_PARTS / BURST_DEFECTS
    for first in range(0, segment.frames, BURST_PARTS):
        if rng.random() < chance:
            spoilt = first + rng.permutation(BURST_PARTS)[:BURST_DEFECTS]
            labels[spoilt[spoilt < segment.frames]] = rng.choice(bad)
    return labels
