"""The one way from a region of a picture to what the model gets: its view, in one piece or in tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from camera.core.frame import Image, Shares
from camera.pictures.preprocess import InputSpec, prepare
from camera.pictures.view import ViewName, ViewSetting, native, resolve, seen_share, spans


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """One region as the model gets it.

    Attributes:
        pixels: ``(T, 3, S, S)`` float32, read-only: the tiles row by row; one where there are no tiles.
        view: how each became a square.
        boxes: left, top, right and bottom of each tile in shares of the region.
    """

    pixels: NDArray[np.float32]
    view: ViewName
    boxes: tuple[Shares, ...]


@dataclass(frozen=True, slots=True)
class Framing:
    """How the regions of one station are shown to one model.

    Attributes:
        spec: of the model.
        view: of the station.
        tiles: columns and rows.
        measured: what the station's baseline was measured with; see `camera.pictures.view.resolve`.
    """

    spec: InputSpec
    view: ViewSetting = "auto"
    tiles: tuple[int, int] = (1, 1)
    measured: ViewSetting | None = None

    def tile_px(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of a tile of a region, in pixels; without tiles those of the region."""
        columns, rows = self.tiles
        return spans(width, columns)[0][1], spans(height, rows)[0][1]

    def resolved(self, width: int, height: int) -> ViewName:
        """Return the view of a region of this size; with tiles it goes by the size of one of them."""
        return resolve(self.view, self.spec.resize_mode, *self.tile_px(width, height), self.measured)

    def cropped(self, width: int, height: int) -> float | None:
        """Return the share of a region that nobody sees because its baseline was measured so; None otherwise.

        A crop that the config names, or that a nearly square region loses hardly anything by, is meant.
        """
        view = self.resolved(width, height)
        anew = replace(self, measured=None).resolved(width, height)
        if self.view != "auto" or view != "crop" or anew == "crop":
            return None
        return 1 - seen_share(width, height, self.tiles, view)

    def inputs(self, image: Image) -> ModelInput:
        """Return what the model gets of an ``(H, W, 3)`` uint8 RGB region."""
        height, width = image.shape[:2]
        columns, rows = (spans(side, count) for side, count in zip((width, height), self.tiles, strict=True))
        view = self.resolved(width, height)
        spec = seen_by(self.spec, view)
        places = [(left, top, right, bottom) for top, bottom in rows for left, right in columns]
        pixels = np.stack(
            [prepare(image[top:bottom, left:right], spec) for left, top, right, bottom in places]
        )
        pixels.setflags(write=False)
        boxes = tuple(
            (left / width, top / height, right / width, bottom / height)
            for left, top, right, bottom in places
        )
        return ModelInput(pixels, view, boxes)


def seen_by(spec: InputSpec, view: ViewName) -> InputSpec:
    """Return how a model's input is made under a view; its own stays as it is, to the last bit.

    Where the model was not trained on padded pictures, the padding has the mean colour that it normalises
    with: 0 at its input. The model's `fill` means nothing there, and black beside a bright part is the
    strongest edge of the picture (DECISIONS.md, "What the model sees").
    """
    if view == native(spec.resize_mode):
        return spec
    if view == "fill":
        return replace(spec, resize_mode="squash")
    if view == "crop":
        return replace(spec, resize_mode="shortest")
    red, green, blue = (round(255 * share) for share in spec.mean)
    return replace(spec, resize_mode="longest", fill=(red, green, blue))


def in_picture(box: Shares, crop: Shares) -> Shares:
    """Return a box in shares of the camera's picture, given in shares of a region of it.

    Args:
        box: in shares of the region.
        crop: of the region, in shares of the picture.
    """
    left, top, right, bottom = crop
    wide, high = right - left, bottom - top
    return left + box[0] * wide, top + box[1] * high, left + box[2] * wide, top + box[3] * high


def in_tile(box: Shares, width: int, height: int, view: ViewName) -> Shares:
    """Return a box in shares of a tile, given in shares of the square that it became; clipped to the tile.

    Args:
        box: in shares of the square.
        width: of the tile in pixels.
        height: of the tile in pixels.
        view: how it became the square.
    """
    if view == "fill":
        return box
    side = max(width, height) if view == "fit" else min(width, height)
    edges = []
    for edge, length in zip(box, (width, height, width, height), strict=True):
        # The square lies around the middle of the tile, or the tile around that of the square.
        edges.append(min(1.0, max(0.0, 0.5 + (edge - 0.5) * side / length)))
    left, top, right, bottom = edges
    return left, top, right, bottom
