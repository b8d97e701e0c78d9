"""Where `mekiki inspect --map` draws in which places a picture differs from good parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, cast

from agent.base.errors import UsageError
from agent.cli.inspection.file_judging import Judged
from agent.versions.file_plan import FilePlan
from camera.core.kept_region import MAP_SUFFIX
from camera.pictures.difference_picture import draw_difference, encode_png
from camera.pictures.view import ViewName

WIDEST_PX: Final = 8192


@dataclass(frozen=True, slots=True)
class MapFiles:
    """Where maps go.

    Attributes:
        folder: of a map for each picture, by the picture's name.
        file: of the one map, where one picture is inspected and this was asked for.
    """

    folder: Path
    file: Path | None = None

    @classmethod
    def of(cls, asked: Path, paths: Sequence[str], plan: FilePlan) -> Self:
        """Return where maps go, a folder made if it is not there.

        Args:
            asked: a file, for one picture; or a folder.
            paths: of what is inspected.
            plan: what it is judged with.

        Raises:
            UsageError: nothing can be drawn, or not there.
        """
        if not any(one.compared is not None for one in (plan, *plan.others.values())):
            raise UsageError(
                "--map: nothing is compared with a reference here: name a station, with --station, whose"
                " recipe has reference: {}"
            )
        single = len(paths) == 1 and Path(paths[0]).is_file()
        if asked.suffix.lower() == ".png" and not asked.is_dir():
            if not single:
                raise UsageError(f"--map {asked}: is one file, for one picture: name a folder")
            if not asked.absolute().parent.is_dir():
                raise UsageError(f"--map {asked}: {asked.parent}: no such folder: name one that is there")
            return cls(asked.parent, asked)
        try:
            asked.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--map {asked}: cannot be made: {error.strerror or error}") from error
        return cls(asked)

    def draw(self, judged: Judged) -> Path | None:
        """Draw the map of one picture and return its file; None where it was compared with nothing.

        Raises:
            UsageError: it cannot be written.
        """
        one = judged.difference
        if one is None or judged.region is None:
            return None
        name = judged.path.replace("/", "_").lstrip("._")
        file = self.file or self.folder / f"{name}{MAP_SUFFIX}"
        view = cast(ViewName, one.view)
        drawn = draw_difference(judged.region, one.maps, one.tiles, view, max_width_px=WIDEST_PX)
        try:
            file.write_bytes(encode_png(drawn))
        except OSError as error:
            raise UsageError(f"--map {file}: cannot be written: {error.strerror or error}") from error
        return file
