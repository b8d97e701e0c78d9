"""Is the agent well? Pure functions from the parts' numbers to conditions that a person can act on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agent.publisher import PublisherStats
from camera.feed import FeedStats

Level = Literal["ok", "degraded", "down"]


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong.

    Attributes:
        code: of a closed set, for machines: ``camera_offline``, ``picture_unusable``, ``broker``, ``store``,
            ``results_lost``.
        subject: the station, or the part of the agent.
        message: one sentence for people.
    """

    code: str
    subject: str
    message: str


def conditions(publisher: PublisherStats, feeds: Sequence[FeedStats]) -> tuple[Condition, ...]:
    """Return everything that is wrong now, in a stable order."""
    found = []
    for feed in feeds:
        if feed.ended:
            continue
        if not feed.connected:
            found.append(
                Condition("camera_offline", feed.station, "no picture from the camera; it is tried again")
            )
        elif feed.last_fault is not None:
            found.append(
                Condition(
                    "picture_unusable",
                    feed.station,
                    f"the picture is {feed.last_fault}: parts are not inspected",
                )
            )
    if publisher.link_problem is not None:
        found.append(Condition("broker", "mqtt", f"{publisher.link_problem}; results wait on disk"))
    if publisher.store_problem is not None:
        found.append(Condition("store", "store", publisher.store_problem))
    if publisher.lost or publisher.given_up:
        # Numbers that grow stand in the stats; here they would make every message a new condition.
        found.append(Condition("results_lost", "store", "results were lost or given up since the start"))
    return tuple(found)


def level(found: Sequence[Condition], feeds: Sequence[FeedStats]) -> Level:
    """``down`` when no station can inspect, ``degraded`` while anything is wrong."""
    blind = {c.subject for c in found if c.code in ("camera_offline", "picture_unusable")}
    watched = [feed.station for feed in feeds if not feed.ended]
    if watched and blind.issuperset(watched):
        return "down"
    return "degraded" if found else "ok"
