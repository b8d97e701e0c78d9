"""Thread `evidence`: pictures of inspected parts on the disk, and maps of what differs in them."""

from __future__ import annotations

import logging
import shutil
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from agent.config.models import EvidenceSettings
from agent.domain.comparison import DifferenceMap
from agent.domain.verdict import Verdict
from agent.store.image_files import ImageFiles, Written
from agent.store.retention import Rank, wanted
from camera.core.frame import Frame, Image
from camera.core.kept_region import KeptRegion
from camera.pictures.difference_picture import draw_difference, encode_png
from camera.pictures.images import encode_jpeg
from camera.pictures.view import ViewName

log = logging.getLogger(__name__)

MAX_PICTURES = 16
"""That may wait to be encoded: some 100 MB of 1080p."""
MAX_STAGED = 64
"""Written pictures that may wait to be recorded, while the database is busy or its disk is full."""
_TAKE_S = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class _Offer:
    rank: Rank
    event_id: str
    image: Image
    kept: KeptRegion
    difference: DifferenceMap | None


class ImageWriter:
    """When 16 pictures wait, the least valuable is given up, of equals the oldest, and counted; nobody waits.

    The inspector offers, the thread `evidence` encodes and writes, the publisher takes what was written and
    records it. `settings` may be replaced by any thread; the next offer goes by it.

    Args:
        files: where pictures are staged.
        settings: whose pictures are kept, and how.
        floor: returns how many bytes of the disk are to stay free; below it no picture is written.

    Attributes:
        problem: why the last one could not be written; None while all is well.
    """

    def __init__(
        self, files: ImageFiles, settings: EvidenceSettings, floor: Callable[[], int] = lambda: 0
    ) -> None:
        self.settings = settings
        self._dropped = 0
        self.problem: str | None = None
        self._files = files
        self._floor = floor
        self._changed = threading.Condition()
        self._offers: list[_Offer] = []
        self._written: deque[Written] = deque()
        self._in_hand = False
        self._ended = False

    @property
    def dropped(self) -> int:
        """Pictures that were to be kept and are not, those without their result included; any thread."""
        return self._dropped + self._files.discarded

    def offer(self, frame: Frame, verdict: Verdict) -> None:
        """Take a picture where it is to be kept; from the inspector's thread, at once.

        Args:
            frame: its `image` has the masks burnt in.
            verdict: was given to the publisher before.
        """
        rank = wanted(self.settings, verdict.decision.verdict, verdict.event_id)
        if rank is None or frame.image is None:
            return
        kept = KeptRegion.of(frame.station, frame.roi)
        with self._changed:
            offer = _Offer(rank, verdict.event_id, frame.image, kept, verdict.difference)
            self._offers.append(offer)
            if len(self._offers) > MAX_PICTURES:
                self._offers.remove(min(self._offers, key=lambda offer: (offer.rank, offer.event_id)))
                self._dropped += 1
            self._changed.notify_all()

    def take(self) -> list[Written]:
        """Return what was written since the last call; for the publisher."""
        with self._changed:
            written = list(self._written)
            self._written.clear()
            self._changed.notify_all()
        return written

    @property
    def unwritten(self) -> int:
        """How many pictures that are to be kept are not on disk yet; any thread may ask."""
        with self._changed:
            return len(self._offers) + self._in_hand

    def staged(self) -> list[Written]:
        """Return what was written and not taken yet; any thread may ask."""
        with self._changed:
            return list(self._written)

    def end(self) -> None:
        """Let `run` end once what was offered is written; from any thread."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def run(self) -> None:
        """Encode and write until `end`."""
        while (offer := self._next()) is not None:
            try:
                self._write(offer)
            except OSError as error:
                self._discard_all(str(error))
            self._in_hand = False

    def _next(self) -> _Offer | None:
        with self._changed:
            while True:
                # At the end nobody may take any more: what is staged then is recorded at no time.
                if self._offers and len(self._written) < MAX_STAGED:
                    self._in_hand = True
                    return self._offers.pop(0)
                if self._ended:
                    self._dropped += len(self._offers)
                    return None
                self._changed.wait(_TAKE_S)

    def _write(self, offer: _Offer) -> None:
        settings = self.settings
        jpeg = encode_jpeg(
            offer.image,
            max_width_px=settings.max_width_px,
            quality=settings.jpeg_quality,
            comment=offer.kept.comment(),
        )
        drawn = None if offer.difference is None else _drawn(offer.image, offer.difference, settings)
        size = len(jpeg) + (0 if drawn is None else len(drawn))
        free = shutil.disk_usage(self._files.root.parent).free
        if free - size < self._floor():
            free_mb = free // 1_000_000
            self._discard_all(f"{free_mb} MB free on the disk: no pictures are kept (storage.min_free_mb)")
            return
        self._files.stage(offer.event_id, jpeg, drawn)
        if self.problem is not None:
            log.info("evidence: pictures are kept again, %d were not", self._dropped)
            self.problem = None
        with self._changed:
            self._written.append(Written(offer.event_id, size))

    def _discard_all(self, problem: str) -> None:
        with self._changed:
            self._dropped += 1
        if self.problem is None:
            log.warning("evidence: %s", problem)
        self.problem = problem


def _drawn(image: Image, one: DifferenceMap, settings: EvidenceSettings) -> bytes:
    """Return the map of a picture as PNG, as wide as the picture is kept."""
    view, width = cast(ViewName, one.view), settings.max_width_px
    return encode_png(draw_difference(image, one.maps, one.tiles, view, max_width_px=width))
