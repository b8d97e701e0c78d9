"""`mekiki inspect`: pictures, folders and clips, judged as the line would judge them, without a daemon."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adapters.core.protocol import Engine
from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, UsageError
from agent.base.text import on_one_line
from agent.cli.output import as_json as to_json
from agent.cli.output import put, say
from agent.domain.comparison import Box
from agent.domain.verdict import Decision, Outcome, decide
from agent.inspection.judging import decided_by, encode
from agent.versions.file_plan import FilePlan
from camera.core.frame import CameraError, Capture, Fault, Image, Quality
from camera.core.kept_region import kept_region
from camera.core.settings import OpenCVCamera, RegionOfInterest
from camera.core.source import file_id, stamp
from camera.pictures.framing import ModelInput, in_picture
from camera.pictures.images import read_image
from camera.pictures.quality import assess, too_small
from camera.pictures.region import OtherRegion, Region
from camera.pictures.sight import PictureSight
from camera.sources.factory import open_source
from camera.sources.folder import picture_files

_BATCH = 8
_SIZES = 4
"""Of pictures of which it is said what the model sees."""
CLIP_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm", ".wmv"}
)


@dataclass(frozen=True, slots=True)
class Judged:
    """One picture and what was decided about it.

    Attributes:
        view: how it was shown to the model; None where it was not.
        tile: the box that decided, in shares of the picture; None without tiles.
    """

    path: str
    decision: Decision
    view: str | None = None
    tile: Box | None = None


def inspect(paths: Sequence[str], plan: FilePlan, engine: Engine, *, as_json: bool) -> int:
    """Print one line per picture to stdout, reasons and totals to stderr; return the exit code.

    It is 1 where something could not be read, so that not every part has its verdict.

    Raises:
        UsageError: a path does not exist; nothing was inspected.
    """
    missing = [path for path in paths if not Path(path).exists()]
    if missing:
        raise UsageError(f"{missing[0]}: no such file or folder")
    captures, total = _captures([Path(path) for path in paths], plan.bit_depth)
    if plan.said:
        _say(plan.said)
    totals, seen = Totals(), list[str]()
    # On a terminal the lines themselves are the progress; a bar is for lines that go elsewhere.
    with Progress(
        TextColumn("inspecting"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty() or (sys.stdout.isatty() and not as_json),
    ) as progress:
        task = progress.add_task("inspecting", total=total)
        # With --json standard error has nothing but one object, for programs.
        for judged in judge(captures, plan, engine, seen.append if as_json else _say):
            totals.add(judged.decision)
            put(_json(judged) if as_json else _text(judged))
            progress.advance(task)
    say(to_json({**totals.facts(), "seen": seen}) if as_json else totals.sentence())
    return EXIT_CHECK_FAILED if totals.reasons[Fault.UNREADABLE] else EXIT_OK


class ToldSights:
    """Says what the model sees of pictures of a size, once each; files may have a size each. One thread."""

    def __init__(self, plan: FilePlan, tell: Callable[[str], None]) -> None:
        self._plan, self._tell = plan, tell
        self._told: list[PictureSight] = []

    def tell(self, whole: Image, region: Image) -> None:
        """Say it of a picture and what is looked at of it, where that is news."""
        (height, width), (whole_height, whole_width) = region.shape[:2], whole.shape[:2]
        sight = PictureSight.of((whole_width, whole_height), (width, height), self._plan.framing)
        if sight in self._told or len(self._told) == _SIZES:
            return
        self._told.append(sight)
        self._tell(sight.sentence())
        if lost := sight.lost(self._plan.recipe.smallest_defect_px):
            self._tell(lost)


class Totals:
    """Counts verdicts, and the reasons of those that are none. One thread."""

    def __init__(self) -> None:
        self.verdicts = Counter[str]()
        self.reasons = Counter[str]()

    def add(self, decision: Decision) -> None:
        """Count one."""
        self.verdicts[decision.verdict] += 1
        if decision.verdict == Outcome.NOT_INSPECTED:
            self.reasons[decision.reason] += 1

    def facts(self) -> dict[str, Any]:
        """Return them for programs."""
        return {
            "results": self.verdicts.total(),
            "verdicts": {str(each): self.verdicts[each] for each in Outcome},
            "not_inspected": dict(sorted(self.reasons.items())),
        }

    def sentence(self) -> str:
        """Return them for people."""
        counts = ", ".join(f"{self.verdicts[each]} {each}" for each in Outcome)
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(self.reasons.items()))
        return f"{self.verdicts.total()} results: {counts}{f' ({why})' if why else ''}"


def judge(
    captures: Iterable[tuple[str, Capture]], plan: FilePlan, engine: Engine, tell: Callable[[str], None]
) -> Iterator[Judged]:
    """Judge captures in batches; in the order in which they come.

    Args:
        captures: with the names to print.
        plan: what they are judged with.
        engine: of the model.
        tell: is told what the model sees of pictures of a size, once.
    """
    region = Region(plan.roi or RegionOfInterest())
    told = ToldSights(plan, tell)
    captures = iter(captures)
    while batch := list(islice(captures, _BATCH)):
        seen = [_seen(path, capture, region, plan, told) for path, capture in batch]
        plans = [plan.of(capture.part_id) for _, capture in batch]
        parts = [(shown, own) for (shown, _), own in zip(seen, plans, strict=True) if shown is not None]
        adapters = [own.predictor.adapter for _, own in parts]
        features = iter(encode(engine, [shown.pixels for shown, _ in parts], adapters))
        for (path, capture), own, (shown, quality) in zip(batch, plans, seen, strict=True):
            if capture.detail:
                _say(capture.detail)  # beside the line that says unreadable
            if shown is None:
                yield Judged(path, decide(None, quality, own.recipe))
                continue
            tile, scores = decided_by(own.predictor, next(features), engine.info.logit_scale)
            crop = (plan.roi or RegionOfInterest()).crop
            box = in_picture(shown.boxes[tile], crop) if len(shown.boxes) > 1 else None
            yield Judged(path, decide(scores.tolist(), quality, own.recipe), shown.view, box)


def _captures(
    paths: Sequence[Path], bit_depth: int | None
) -> tuple[Iterator[tuple[str, Capture]], int | None]:
    """Return captures with the names to print, and how many, unless a clip is among them."""
    expanded: list[tuple[Path, Path]] = []  # a file and where its part id begins, as a folder camera has it
    for path in paths:
        try:
            expanded += (
                [(one, path) for one in picture_files(path)] if path.is_dir() else [(path, path.parent)]
            )
        except CameraError as error:
            raise UsageError(str(error)) from error
    clips = any(_is_clip(path) for path, _ in expanded)
    captures = (item for path, folder in expanded for item in _read(path, folder, bit_depth))
    return captures, None if clips else len(expanded)


def _is_clip(path: Path) -> bool:
    return path.suffix.lower() in CLIP_SUFFIXES


def _read(path: Path, folder: Path, bit_depth: int | None) -> Iterator[tuple[str, Capture]]:
    name = file_id(path)
    try:
        if _is_clip(path):
            clip = open_source(OpenCVCamera(source=SecretStr(str(path.absolute())), pace="full"))
            own = file_id(Path(path.name))
            for capture in clip.captures(Event()):
                yield f"{name}{(capture.part_id or '').removeprefix(own)}", capture
        else:
            image = read_image(path, bit_depth, _say)
            yield name, stamp(image, part_id=file_id(path.relative_to(folder)), kept=kept_region(path))
    except CameraError as error:
        yield name, stamp(fault=Fault.UNREADABLE, detail=str(error))


def _seen(
    path: str, capture: Capture, region: Region, plan: FilePlan, told: ToldSights
) -> tuple[ModelInput | None, Quality]:
    """Return what the model gets of a picture, None where it is not to be judged, and how good it is."""
    if capture.image is None:
        return None, Quality(fault=capture.fault)
    try:
        image, unmasked = region.cut(capture.image, None if plan.roi is None else capture.kept)
    except OtherRegion as error:
        _say(f"{path}: {error}")
        return None, Quality(fault=Fault.UNREADABLE)
    if small := too_small(image, plan.framing.tiles):
        _say(f"{path}: {small}")
        return None, Quality(fault=Fault.UNREADABLE)
    quality = assess(image, plan.limits, unmasked)
    if quality.fault is not None:
        return None, quality
    told.tell(capture.image, image)
    return plan.framing.inputs(image), quality


def _say(text: str) -> None:
    """Say one thing on one line, whatever a file's name holds."""
    say(on_one_line(text))


def _json(judged: Judged) -> str:
    d = judged.decision
    scores = None if d.scores is None else {label: round(score, 6) for label, score in d.scores.items()}
    return to_json(
        {
            "path": judged.path,
            "verdict": d.verdict,
            "reason": d.reason,
            "label": d.label,
            "score": None if d.score is None else round(d.score, 6),
            "scores": scores,
            "view": judged.view,
            "tile": None if judged.tile is None else [round(share, 4) for share in judged.tile],
        }
    )


def _text(judged: Judged) -> str:
    d = judged.decision
    if d.scores is None or d.score is None:
        return f"{judged.path}  {d.verdict}  {d.reason}"
    scores = " ".join(f"{label}={score:.3f}" for label, score in d.scores.items())
    box = "" if judged.tile is None else "  tile=" + ",".join(f"{share:.2f}" for share in judged.tile)
    return f"{judged.path}  {d.verdict}  {d.label}  {d.score:.3f}  {scores}{box}"
