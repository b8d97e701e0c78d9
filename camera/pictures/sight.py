"""What of a picture the model sees, and how finely, in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from camera.core.settings import RegionOfInterest
from camera.pictures.framing import Framing
from camera.pictures.region import region_size
from camera.pictures.view import MOST_TILES, ViewName, seen_share, spans

LEAST_MODEL_PX = 2.0
"""A defect of fewer pixels at the model's input is at best a spot that the resizing has left a trace of."""

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True)
class PictureSight:
    """What a model sees of pictures of one size.

    Attributes:
        picture, region, tile: their sizes; without tiles the last two are equal.
        tiles: columns and rows.
        view: of each tile.
        side: of the model's input in pixels.
    """

    picture: Size
    region: Size
    tile: Size
    tiles: tuple[int, int]
    view: ViewName
    side: int

    @classmethod
    def of(cls, picture: Size, region: Size, framing: Framing) -> PictureSight:
        """Return it for a region of this size."""
        return cls(
            picture,
            region,
            framing.tile_px(*region),
            framing.tiles,
            framing.resolved(*region),
            framing.spec.size,
        )

    @property
    def scale(self) -> tuple[float, float]:
        """Picture pixels that one model pixel stands for, across and down."""
        width, height = self.tile
        if self.view == "fill":
            return width / self.side, height / self.side
        each = (min if self.view == "crop" else max)(width, height) / self.side
        return each, each

    @property
    def seen(self) -> float:
        """Share of the region that is seen, 0..1."""
        return seen_share(*self.region, self.tiles, self.view)

    def sentence(self) -> str:
        """Say it in one line, such as ``1920x1080, region 960x1080, fit into 224x224: all of it is seen``."""
        into = f"{self.side}x{self.side}"
        how = {
            "fit": f"fit into {into}",
            "fill": f"squashed into {into}",
            "crop": f"its middle cut out and scaled to {into}",
        }[self.view]
        tiles = "" if self.tiles == (1, 1) else f"{_times(self.tiles)} tiles of {_times(self.tile)}, each "
        share = self.seen
        seen = "all of it is seen" if share > 1 - 1e-9 else f"{_percent(share)} of it is seen"
        across, down = self.scale
        scale = f"{across:.1f}" if f"{across:.1f}" == f"{down:.1f}" else f"{across:.1f} x {down:.1f}"
        return (
            f"{_times(self.picture)}, region {_times(self.region)}, {tiles}{how}: {seen},"
            f" {scale} picture pixels per model pixel"
        )

    def lost(self, defect_px: float | None) -> str | None:
        """Say that a defect would be too small to be seen; None where it would not, or none is stated.

        Args:
            defect_px: how large the smallest one is, in pixels of the camera's picture.
        """
        if defect_px is None or defect_px / max(self.scale) >= LEAST_MODEL_PX:
            return None
        enough = self._enough(defect_px)
        remedy = (
            f"set tiles: {_times(enough)}"
            if enough is not None
            else f"not even tiles: {MOST_TILES}x{MOST_TILES} would do"
        )
        return (
            f"a defect of {defect_px:g} picture pixels, the recipe's smallest_defect_px, is"
            f" {defect_px / max(self.scale):.1f} model pixels, {LEAST_MODEL_PX:.0f} are needed: {remedy},"
            " or a smaller roi.crop"
        )

    def _enough(self, defect_px: float) -> tuple[int, int] | None:
        """Return the fewest tiles with which it would be seen, nothing of the region being cut off."""
        counts = product(range(1, MOST_TILES + 1), repeat=2)
        for columns, rows in sorted(counts, key=lambda each: (each[0] * each[1], each)):
            width, height = self.region
            longest = max(spans(width, columns)[0][1], spans(height, rows)[0][1])
            if defect_px * self.side >= LEAST_MODEL_PX * longest:
                return columns, rows
        return None


def sight(picture: Size, roi: RegionOfInterest, framing: Framing) -> PictureSight:
    """Return what a model sees of pictures of this size at a station.

    Args:
        picture: width and height in pixels, as the camera gives it.
        roi: of the station.
        framing: of the station and the model.
    """
    return PictureSight.of(picture, region_size(roi, *picture), framing)


def _times(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"


def _percent(share: float) -> str:
    """Round down: what is not all of it must not read as if it were."""
    return f"{int(100 * share)}%"
