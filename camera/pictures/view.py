"""How a region becomes the model's square: padded, squashed or its middle cut out; or in tiles. Pure."""

from __future__ import annotations

import math
from typing import Final, Literal

ViewName = Literal["fit", "fill", "crop"]
"""Padded to a square; squashed into one; the largest square in the middle. The last one loses the ends."""
ViewSetting = Literal["auto", "fit", "fill", "crop"]
ResizeMode = Literal["longest", "squash", "shortest"]
"""The same three as open_clip calls them."""

NEARLY_SQUARE: Final = 1.05
"""Up to this ratio of its sides a region is square enough for a cut: it loses less than a twentieth."""

OVERLAP: Final = 1 / 8
"""Share of its side that a tile has in common with the next one: what is smaller is whole in one of them."""
MOST_TILES: Final = 8
"""In a row or a column."""

_NATIVE: Final[dict[ResizeMode, ViewName]] = {"longest": "fit", "squash": "fill", "shortest": "crop"}


def native(mode: ResizeMode) -> ViewName:
    """Return the view that a model was trained with."""
    return _NATIVE[mode]


def resolve(
    view: ViewSetting, mode: ResizeMode, width: int, height: int, measured: ViewSetting | None = None
) -> ViewName:
    """Return how a region is shown to a model.

    What the config names holds. `auto` is what the station's baseline was measured with; without a baseline
    it is the model's own, but a cut that would lose the ends becomes `fit`.

    Args:
        view: of the station.
        mode: of the model.
        width: in pixels of what is to become one square: the region, or one of its tiles.
        height: the same.
        measured: what the station's baseline was measured with: a view, or `auto` where it was measured by
            this very rule; None without a baseline. One of a release that did not say it was measured with
            the model's own view: `native`.
    """
    wanted = measured if view == "auto" and measured is not None else view
    if wanted != "auto":
        return wanted
    own = native(mode)
    return "fit" if own == "crop" and max(width, height) > NEARLY_SQUARE * min(width, height) else own


def parse_tiles(text: str) -> tuple[int, int]:
    """Return columns and rows of ``2x1``, as the config has checked it."""
    columns, _, rows = text.partition("x")
    return int(columns), int(rows)


def spans(length: int, count: int) -> tuple[tuple[int, int], ...]:
    """Return where `count` equal tiles along a side begin and end, in pixels.

    The first begins at 0, the last ends at `length`. Neighbours share at least `OVERLAP` of a tile, less one
    pixel of rounding.

    Args:
        length: of the side in pixels, at least 1.
        count: of the tiles, at least 1.
    """
    if count == 1:
        return ((0, length),)
    side = math.ceil(length / (count - (count - 1) * OVERLAP))
    starts = [round(place * (length - side) / (count - 1)) for place in range(count)]
    return tuple((start, start + side) for start in starts)


def seen_share(width: int, height: int, tiles: tuple[int, int], view: ViewName) -> float:
    """Return the share of a region that the model sees, 0..1.

    Args:
        width: of the region in pixels.
        height: of the region in pixels.
        tiles: columns and rows.
        view: of each tile.
    """
    if view != "crop":
        return 1.0
    columns, rows = spans(width, tiles[0]), spans(height, tiles[1])
    side = min(columns[0][1], rows[0][1])
    return _covered(columns, side) / width * _covered(rows, side) / height


def _covered(tiles: tuple[tuple[int, int], ...], side: int) -> float:
    """Return how many pixels of a side lie in the middle `side` of at least one tile."""
    total, until = 0.0, 0.0
    for start, end in tiles:
        first = start + (end - start - side) / 2
        total += first + side - max(first, until)
        until = first + side
    return total
