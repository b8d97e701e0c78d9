"""What is kept, and what goes first where it is too much: pure decisions, without clock, file or database."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from agent.base.event_id import ulid_of
from agent.config.models import EvidenceSettings, StorageSettings

_MB = 1_000_000


class Rank(IntEnum):
    """How much a picture is worth as evidence; where space is needed the lowest goes first."""

    SAMPLED = 0
    LABELLED = 1
    UNSURE = 2
    FAIL = 3


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of the past is kept. What waits for delivery is never touched by any of it.

    Attributes:
        keep_results: delivered results per station.
        max_waiting: results that may wait for delivery; beyond it the oldest are given up and counted.
        keep_days: results older than this go, with their pictures and labels; None keeps them.
        max_bytes: database and pictures together; None: no limit.
        image_days: pictures older than this go; None keeps them as long as their results.
        image_bytes: pictures alone; None: no limit.
        min_free_bytes: below this much free disk pictures go, and nothing is written.
        ballast_bytes: of the file that is given up where the disk is full, so that deleting is possible.
    """

    keep_results: int
    max_waiting: int
    keep_days: float | None = None
    max_bytes: int | None = None
    image_days: float | None = None
    image_bytes: int | None = None
    min_free_bytes: int = 0
    ballast_bytes: int = 0

    @classmethod
    def of(cls, storage: StorageSettings) -> Retention:
        """Return what a config says."""
        images = storage.images
        return cls(
            keep_results=storage.keep_results,
            max_waiting=storage.max_waiting,
            keep_days=storage.keep_days,
            max_bytes=None if storage.max_mb is None else storage.max_mb * _MB,
            image_days=images.keep_days,
            image_bytes=None if images.max_mb is None else images.max_mb * _MB,
            min_free_bytes=storage.min_free_mb * _MB,
            ballast_bytes=storage.ballast_mb * _MB,
        )


@dataclass(frozen=True, slots=True)
class Holdings:
    """What is there now, in bytes.

    Attributes:
        database: without its free pages.
        images: of all pictures.
        disk_free: on the disk on which they lie.
    """

    database: int
    images: int
    disk_free: int


@dataclass(frozen=True, slots=True)
class Excess:
    """What is to go.

    Attributes:
        results_before: results decided before this moment; None: none for their age.
        images_before: pictures of events whose id is lower; "" for none.
        image_bytes: of pictures in the order of evidence.
        result_bytes: of results, the oldest first, once these pictures are gone.
    """

    results_before: datetime | None
    images_before: str
    image_bytes: int
    result_bytes: int


def excess(retention: Retention, held: Holdings, now: datetime) -> Excess:
    """Say what is too old or too much.

    Pictures go before results: they are most of the bytes, and a result without its picture still says
    everything that was decided. For the floor of the disk pictures alone go: results are small, and the
    space may well be another program's.
    """
    over_all = 0 if retention.max_bytes is None else held.database + held.images - retention.max_bytes
    over_images = 0 if retention.image_bytes is None else held.images - retention.image_bytes
    over_floor = retention.min_free_bytes - held.disk_free
    image_bytes = min(held.images, max(0, over_all, over_images, over_floor))
    return Excess(
        results_before=_before(now, retention.keep_days),
        images_before=_ids_before(_before(now, retention.image_days)),
        image_bytes=image_bytes,
        result_bytes=max(0, over_all - image_bytes),
    )


def rank_of(verdict: str, *, labelled: bool) -> Rank:
    """Return what a picture of a part with this verdict is worth."""
    if verdict == "fail":
        return Rank.FAIL
    if verdict == "unsure":
        return Rank.UNSURE
    return Rank.LABELLED if labelled else Rank.SAMPLED


def wanted(settings: EvidenceSettings, verdict: str, event_id: str) -> Rank | None:
    """Return the rank of a part's picture, or None where it is not to be kept.

    Which passes are sampled follows from their event ids alone: nobody can choose, and everybody can check.
    """
    if not settings.enabled:
        return None
    if verdict in settings.verdicts:
        return rank_of(verdict, labelled=False)
    if verdict == "pass" and _share_of(event_id) < settings.sampled_passes:
        return Rank.SAMPLED
    return None


def _share_of(event_id: str) -> float:
    """Return a number in [0, 1) that is as good as drawn."""
    return int.from_bytes(hashlib.sha256(event_id.encode()).digest()[:8], "big") / 2**64


def _before(now: datetime, days: float | None) -> datetime | None:
    try:
        return None if days is None else now - timedelta(days=days)
    except OverflowError:  # nothing is as old as that
        return None


def _ids_before(moment: datetime | None) -> str:
    # Event ids are ULIDs: they sort by time.
    return "" if moment is None else ulid_of(max(0, int(moment.timestamp() * 1000)), 0)
