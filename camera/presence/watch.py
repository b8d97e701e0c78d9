"""Looks at every picture of a station and says which of them are of which part."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from camera.core.frame import Capture, Shares
from camera.core.presence_settings import PresenceTrigger
from camera.presence.background import BeltBackground, Mask
from camera.presence.best_picture import Candidate, keep_best, rate
from camera.presence.blobs import Blob, fall_apart, find_blobs
from camera.presence.count import NOTHING_YET, PresenceCount
from camera.presence.following import follow, together
from camera.presence.small_picture import Small, small_picture
from camera.presence.track import Track

SEEN: Final = 3
"""In so many pictures a thing is seen before it is a part."""
GONE: Final = 4
"""After so many pictures without it a thing is gone."""
STILL_S: Final = 0.3
STOPPED_S: Final = 1.0
"""So long a part stands still before its picture is chosen; where parts pass, the belt has stopped."""
_JUMP: Final = 0.05
"""A change of light by so much from one picture to the next: nothing that appears with it is a part."""
_SETTLE_S: Final = 0.4
"""So long after a jump of the light what differs from the background is taken over."""
_STAYS_S: Final = 10.0
"""After that time a thing that is no part and stands still belongs to the background."""
_STEP_S: Final = (0.01, 0.5)
"""Pictures come at least and at most so far apart; of a file as fast as it is read nothing is known."""
_KNOWN: Final = 31
"""Parts by whose size one is known from two that touch."""
_TWICE: Final = 1.55
_ALIKE: Final = 1.5
_WIDER: Final = np.ones((5, 5), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """A picture of a part that is to be judged.

    Attributes:
        capture: the whole picture.
        part: number of the part, 1, 2, ... at the station.
        place: of the picture among those of the part, from 1 on, in the order of capture.
        of: how many pictures of the part there are.
        box: where the part is, in shares of the whole picture.
    """

    capture: Capture
    part: int
    place: int
    of: int
    box: Shares


class PresenceWatch:
    """Finds the parts of one station. Owned and used by the thread of its feed alone.

    A thing is a part once it was seen in `SEEN` pictures, in one of them with no edge of the region cutting
    it, it is neither too small nor too large, and has not gone elsewhere than parts do. Its pictures are
    chosen when it reaches an edge again or is gone, or once it stands still; each part once.

    The result depends on the pictures and their times alone.

    Args:
        settings: of the station.
        count: what was counted before.
    """

    def __init__(self, settings: PresenceTrigger, count: PresenceCount = NOTHING_YET) -> None:
        self.settings = settings
        self.count = count
        self._background: BeltBackground | None = None
        self._tracks: list[Track] = []
        self._kept: dict[int, tuple[Candidate, ...]] = {}
        self._sizes: deque[int] = deque(maxlen=_KNOWN)
        self._usual = (0.0, 0.0)
        self._next = 0
        self._last_ns: int | None = None
        self._jumped_s = np.inf
        self._strange_s = 0.0  # for how long something too large has been there
        self._before: Small | None = None

    def look(self, capture: Capture) -> list[Chosen]:
        """Take note of a picture; return the pictures that are chosen by now, often none."""
        assert capture.image is not None
        small = small_picture(capture.image, self.settings.region)
        if self._background is None or small.shape != self._background.shape:
            self._begin(small)
        dt_s = self._passed(capture.captured_ns)
        background = self._background
        assert background is not None
        change = background.follow_light(small, self._known(small))
        self._jumped_s = 0.0 if change > _JUMP else self._jumped_s + dt_s
        differs = background.differs(small)
        blobs, strange = self._things(differs)
        chosen = self._follow(blobs, capture, small, dt_s)
        self._forgive(small, differs, strange, dt_s)
        background.learn(small, self._known(small, strange), dt_s)
        self._before = small
        there = any(not track.unseen and track.seen >= SEEN for track in self._tracks)
        if not there and not chosen:
            self.count = replace(self.count, no_part=self.count.no_part + 1)
        return chosen

    def flush(self) -> list[Chosen]:
        """Return the pictures of the parts that are in view, and forget these: no picture follows."""
        chosen = [picture for track in self._tracks for picture in self._tell(track)]
        self._tracks, self._kept = [], {}
        return chosen

    def _begin(self, small: Small) -> None:
        self._background = BeltBackground(small)
        self._tracks, self._kept, self._before = [], {}, None

    def _passed(self, captured_ns: int) -> float:
        before, self._last_ns = self._last_ns, captured_ns
        passed_s = 0.0 if before is None else (captured_ns - before) / 1e9
        return float(np.clip(passed_s, *_STEP_S))

    def _things(self, differs: Mask) -> tuple[list[Blob], list[Blob]]:
        """Return what may be parts, and what is too large for one."""
        way, total = self.settings.direction, differs.size
        usual = float(np.median(self._sizes)) if len(self._sizes) >= 3 else None
        things, strange = list[Blob](), list[Blob]()
        for blob in find_blobs(differs, self.settings.min_size * total, way):
            pieces = [blob]
            most = self.settings.max_size * total
            if usual is not None and blob.area > _TWICE * usual:
                pieces = fall_apart(blob, round(blob.area / usual) + 1, way)
                # A hand falls apart too, but not into what is as large as the parts here.
                if any(piece.inside and not usual / _ALIKE < piece.area < usual * _ALIKE for piece in pieces):
                    pieces = [blob]
            elif blob.area > most:
                pieces = fall_apart(blob, 4, way)
            things += [piece for piece in pieces if piece.area <= most]
            strange += [piece for piece in pieces if piece.area > most]
        return things, strange

    def _follow(self, blobs: Sequence[Blob], capture: Capture, small: Small, dt_s: float) -> list[Chosen]:
        found, fresh = follow(self._tracks, blobs, self._usual, self.settings.direction)
        chosen, tracks = list[Chosen](), list[Track]()
        for track in self._tracks:
            blob = found.get(track.key)
            after = track.missed(dt_s) if blob is None else track.met(blob, dt_s)
            if after.unseen >= GONE:
                chosen += self._tell(after)
                self._leave(after)
                continue
            if not after.told:
                self._consider(after, capture)
                if self._due(after, track):
                    chosen += self._tell(after)
                    after = replace(after, told=True)
            tracks.append(after)
        for blob in fresh:
            self._next += 1
            track = Track(self._next, blob, blob.centre, (0.0, 0.0), inside=int(blob.inside))
            if blob.inside and self._background is not None and self._background.is_hole(small, blob.mask):
                self._background.take_over(small, np.asarray(cv2.dilate(blob.mask, _WIDER), np.uint8))
                continue
            self._consider(track, capture)
            tracks.append(track)
        self._tracks = together(tracks, self.settings.direction)
        return chosen

    def _consider(self, track: Track, capture: Capture) -> None:
        """Keep the picture if it is among the best of a part."""
        if track.unseen or not track.blob.inside or capture.image is None:
            return
        score = rate(capture.image, self.settings.region, track)
        if self.settings.still:
            # One that never stands still has a picture none the less.
            score += 100.0 * (track.still_s > 0.0)
        kept = self._kept.get(track.key, ())
        self._kept[track.key] = keep_best(
            kept, Candidate(capture, score, self._box(track.blob)), self.settings.pictures
        )

    def _box(self, blob: Blob) -> Shares:
        height, width = blob.mask.shape
        left, top, right, bottom = self.settings.region
        across, along = (right - left) / width, (bottom - top) / height
        x0, y0, x1, y1 = blob.box
        return left + x0 * across, top + y0 * along, left + x1 * across, top + y1 * along

    def _due(self, track: Track, before: Track) -> bool:
        """Whether no better picture of a thing is to be waited for."""
        if track.still_s >= (STILL_S if self.settings.still else STOPPED_S) and self._is_part(track):
            return True
        leaves = not track.unseen and before.blob.inside and not track.blob.inside
        return leaves and self._is_part(track) and track.moved > track.blob.size

    def _is_part(self, track: Track) -> bool:
        return track.seen >= SEEN and track.key in self._kept and track.goes(self.settings.direction)

    def _tell(self, track: Track) -> list[Chosen]:
        """Return the pictures of a part, once."""
        if track.told or not self._is_part(track):
            return []
        kept = self._kept.pop(track.key)
        number = self.count.parts + 1
        self.count = replace(self.count, parts=number)
        self._sizes.append(track.area)
        if track.moved > track.blob.size:
            old, new = np.asarray(self._usual), np.asarray(track.velocity)
            mixed = new if number == 1 else 0.7 * old + 0.3 * new
            self._usual = float(mixed[0]), float(mixed[1])
        return [Chosen(one.capture, number, place, len(kept), one.box) for place, one in enumerate(kept, 1)]

    def _leave(self, track: Track) -> None:
        if self._kept.pop(track.key, None) is not None or (
            not track.told and track.seen >= SEEN and not track.inside
        ):
            self.count = replace(self.count, disturbances=self.count.disturbances + 1)

    def _forgive(self, small: Small, differs: Mask, strange: Sequence[Blob], dt_s: float) -> None:
        """Take over what stands still and is no part."""
        assert self._background is not None
        rest = (
            self._before is not None
            and float(np.abs(small - self._before)[differs > 0].mean() if differs.any() else 0.0) < 4.0
        )
        if strange:
            self.count = replace(self.count, disturbances=self.count.disturbances + (self._strange_s == 0.0))
            self._strange_s = self._strange_s + dt_s if rest else dt_s
        else:
            self._strange_s = 0.0
        patience = _SETTLE_S if self._jumped_s < 2.0 else _STAYS_S
        if strange and self._strange_s > patience:
            for blob in strange:
                self._background.take_over(small, blob.mask)
            self._strange_s = 0.0

    def _known(self, small: Small, strange: Sequence[Blob] = ()) -> Mask:
        """Return where things are."""
        known = np.zeros(small.shape[:2], np.uint8)
        for blob in (*(track.blob for track in self._tracks), *strange):
            known |= blob.mask
        return known
