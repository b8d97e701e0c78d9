"""Which thing of this picture is which of the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from camera.core.presence_settings import Direction
from camera.presence.blobs import Blob, blob_of, divide
from camera.presence.track import Track

_GATE: Final = 0.12
"""Of the picture's diagonal: how far from where it is expected a thing is still taken for the same."""
_FIRST_GATE: Final = 0.3
"""The same of what was seen once, and may have any speed."""
_WHOLE: Final = 1.35
"""A piece belongs to a thing if both together are at most so many times as large as the thing was."""

_AS_ONE: Final = 3
"""For so many pictures halves of one thing have moved alike."""
_BORN_APART: Final = 4
_SAME_PX: Final = 2.5
_STRIP_PX: Final = 6
"""So wide may be what lies between the halves."""


def follow(
    tracks: Sequence[Track], blobs: Sequence[Blob], usual: tuple[float, float], direction: Direction
) -> tuple[dict[int, Blob], list[Blob]]:
    """Return what was found of each track, by key, and what is new.

    Things that meet are divided again, as each was expected: they stay two. A thing that breaks up for some
    pictures, a bright part on a bright belt, stays one.

    Args:
        tracks: of the last picture.
        blobs: of this one.
        usual: speed of the things before, which is expected of one that was seen once.
        direction: where parts go.
    """
    found: dict[int, Blob] = {}
    fresh = list[Blob]()
    expected = {track.key: _expected(track, usual) for track in tracks}
    owners: list[list[Track]] = [[] for _ in blobs]
    for track in tracks:
        owner = _best(track, expected[track.key], blobs)
        if owner is not None:
            owners[owner].append(track)
    # A thing that was seen as a whole has the first say; what several claim is divided where it is as large
    # as several, else it is the nearest one's.
    for blob, claims in zip(blobs, owners, strict=True):
        if not claims:
            fresh.append(blob)
            continue
        if len(claims) > 1:
            nearest = min(claims, key=lambda track: _far(expected[track.key], blob.centre))
            others = [track for track in claims if track is not nearest]
            together = sum(track.area or track.blob.area for track in claims)
            if blob.area < 0.7 * together:
                claims = [nearest, *(o for o in others if _covers(blob, expected[o.key]))][:1]
        if len(claims) == 1:
            found[claims[0].key] = blob
            continue
        pieces = divide(blob, [expected[track.key] for track in claims], direction)
        found.update({t.key: piece for t, piece in zip(claims, pieces, strict=True) if piece is not None})
    return _joined(tracks, found, fresh, direction)


def together(tracks: Sequence[Track], direction: Direction) -> list[Track]:
    """Return the tracks with those made one that are two halves of one thing.

    What is like the belt in a strip along it, such as a rail behind a part, cuts a part in two that lie side
    by side and move as one. Things behind each other are never made one, however near.
    """
    left = list[Track]()
    for track in tracks:
        for number, other in enumerate(left):
            if _halves(other, track):
                blob = blob_of(np.maximum(other.blob.mask, track.blob.mask), direction)
                area = max(other.area + track.area, blob.area) if blob.inside else 0
                left[number] = replace(other, blob=blob, area=area, inside=min(other.inside, track.inside))
                break
        else:
            left.append(track)
    return left


def _halves(one: Track, other: Track) -> bool:
    if one.told or other.told or one.unseen or other.unseen or min(one.seen, other.seen) < _AS_ONE:
        return False
    if abs(one.seen - other.seen) > _BORN_APART or _far(one.velocity, other.velocity) > _SAME_PX:
        return False
    speed = abs(one.velocity[0]), abs(one.velocity[1])
    if max(speed) < 1.0:
        return False  # nobody knows which way they go
    way = 0 if speed[0] >= speed[1] else 1
    a, b = one.blob.box, other.blob.box
    gap = max(a[1 - way], b[1 - way]) - min(a[3 - way], b[3 - way])
    common = min(a[2 + way], b[2 + way]) - max(a[way], b[way])
    return gap <= _STRIP_PX and common >= 0.5 * min(a[2 + way] - a[way], b[2 + way] - b[way])


def _expected(track: Track, usual: tuple[float, float]) -> tuple[float, float]:
    if track.seen > 1:
        return track.expected
    (x, y), steps = track.blob.centre, 1 + track.unseen
    return x + steps * usual[0], y + steps * usual[1]


def _best(track: Track, at: tuple[float, float], blobs: Sequence[Blob]) -> int | None:
    """Return the number of the thing in which a track goes on."""
    height, width = track.blob.mask.shape
    gate = (_GATE if track.seen > 1 else _FIRST_GATE) * float(np.hypot(height, width)) + 0.5 * track.blob.size
    best, least = None, gate
    for number, blob in enumerate(blobs):
        far = 0.3 * _far(at, blob.centre) if _covers(blob, at) else _far(at, blob.centre)
        if far < least:
            best, least = number, far
    return best


def _joined(
    tracks: Sequence[Track], found: dict[int, Blob], fresh: list[Blob], direction: Direction
) -> tuple[dict[int, Blob], list[Blob]]:
    """Give pieces back to the things from which they broke off."""
    left = list[Blob]()
    by_key = {track.key: track for track in tracks}
    for blob in fresh:
        for key, whole in found.items():
            track = by_key[key]
            largest = max(track.area, track.blob.area)
            # What comes in at an edge behind a thing that is all there is the next one.
            piece = blob.inside or not (whole.inside or track.inside)
            if piece and _near(whole, blob) and whole.area + blob.area <= _WHOLE * largest:
                found[key] = blob_of(np.maximum(whole.mask, blob.mask), direction)
                break
        else:
            left.append(blob)
    return found, left


def _near(one: Blob, other: Blob) -> bool:
    """Whether no more than a strip lies between the boxes of two things."""
    apart = [
        max(one.box[axis], other.box[axis]) - min(one.box[axis + 2], other.box[axis + 2]) for axis in (0, 1)
    ]
    return max(apart) <= _STRIP_PX


def _covers(blob: Blob, at: tuple[float, float]) -> bool:
    x, y = round(at[0]), round(at[1])
    left, top, right, bottom = blob.box
    return left <= x < right and top <= y < bottom


def _far(one: tuple[float, float], other: tuple[float, float]) -> float:
    return float(np.hypot(one[0] - other[0], one[1] - other[1]))
