"""How storing and sending are doing, and what of it an end did not keep: values."""

from __future__ import annotations

from dataclasses import dataclass

NOT_YET = "not connected yet"
"""The problem of a connection that nothing is known of so far."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept now.

    Attributes:
        database_bytes: without its free pages.
        oldest_at: when the oldest result was decided, ISO-8601; None where there is none.
        purging: whether something is being deleted.
        purged, purged_images: results and pictures that were deleted since the start.
    """

    database_bytes: int = 0
    images: int = 0
    image_bytes: int = 0
    oldest_at: str | None = None
    purging: bool = False
    purged: int = 0
    purged_images: int = 0


NOTHING_KEPT = Kept()


@dataclass(frozen=True, slots=True)
class PublisherStats:
    """What the publisher has done since the start.

    Attributes:
        lost: verdicts that never reached the disk, because it was full for too long.
        given_up: verdicts on disk whose delivery was given up, because too many waited.
        waiting: results not yet delivered.
        too_large: results on disk that the broker cannot take.
        same_id: what speaks for another agent with our id; None where nothing does.
        store_problem, link_problem: one sentence, or None while all is well.
        kept: how much of the past is kept.
        damage: what is to be done about a database that was damaged; None where none was.
        pictures_dropped: that were to be kept and are not.
        pictures_problem: one sentence, or None while all is well.
    """

    stored: int
    published: int
    waiting: int
    lost: int
    given_up: int
    store_problem: str | None
    link_problem: str | None
    kept: Kept = NOTHING_KEPT
    damage: str | None = None
    pictures_dropped: int = 0
    pictures_problem: str | None = None
    too_large: int = 0
    same_id: str | None = None


NOT_YET = "not connected yet"
"""The problem of a connection that nothing is known of so far."""


@dataclass(frozen=True, slots=True)
class Unsaved:
    """What was decided, or was to be kept, and is not on disk.

    Attributes:
        problem: why, in one sentence; None where the store has none.
    """

    results: int
    pictures: int
    problem: str | None
