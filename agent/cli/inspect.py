"""`mekiki inspect`: pictures, folders and clips, judged as the line would judge them, without a daemon."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adapters.core.protocol import Engine
from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, UsageError
from agent.base.text import on_one_line
from agent.cli.inspection.file_judging import Judged, judge
from agent.cli.inspection.map_files import MapFiles
from agent.cli.output import as_json as to_json
from agent.cli.output import put, say
from agent.domain.comparison import Box
from agent.domain.verdict import Decision, Outcome
from agent.versions.file_plan import FilePlan
from camera.core.frame import CameraError, Capture, Fault
from camera.core.kept_region import kept_region
from camera.core.settings import OpenCVCamera
from camera.core.source import file_id, stamp
from camera.pictures.images import read_image
from camera.sources.factory import open_source
from camera.sources.folder import picture_files

_BATCH = 8
_SIZES = 4
"""Of pictures of which it is said what the model sees."""
CLIP_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm", ".wmv"}
)


def inspect(
    paths: Sequence[str], plan: FilePlan, engine: Engine, *, as_json: bool, maps: Path | None = None
) -> int:
    """Print one line per picture to stdout, reasons and totals to stderr; return the exit code.

    It is 1 where something could not be read, so that not every part has its verdict.

    Args:
        paths: of pictures, folders and clips.
        plan: what they are judged with.
        engine: of the model.
        as_json: print for programs.
        maps: where to draw in which places a picture differs from the reference; None: nowhere.

    Raises:
        UsageError: a path does not exist, or a map cannot be drawn there; nothing was inspected.
    """
    missing = [path for path in paths if not Path(path).exists()]
    if missing:
        raise UsageError(f"{missing[0]}: no such file or folder")
    drawn = None if maps is None else MapFiles.of(maps, paths, plan)
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
        for judged in judge(captures, plan, engine, seen.append if as_json else _say, _say):
            totals.add(judged.decision)
            file = None if drawn is None else drawn.draw(judged)
            put(_json(judged, file) if as_json else _text(judged))
            progress.advance(task)
    say(to_json({**totals.facts(), "seen": seen}) if as_json else totals.sentence())
    return EXIT_CHECK_FAILED if totals.reasons[Fault.UNREADABLE] else EXIT_OK


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


def _say(text: str) -> None:
    """Say one thing on one line, whatever a file's name holds."""
    say(on_one_line(text))


def _json(judged: Judged, drawn: Path | None) -> str:
    d, one = judged.decision, judged.comparison
    scores = None if d.scores is None else {label: round(score, 6) for label, score in d.scores.items()}
    said = {
        "path": judged.path,
        "verdict": d.verdict,
        "reason": d.reason,
        "label": d.label,
        "score": None if d.score is None else round(d.score, 6),
        "scores": scores,
        "view": judged.view,
        "tile": _shares(judged.tile),
        "reference": None
        if one is None or not one.finite
        else {"score": round(one.score, 6), "threshold": round(one.threshold, 6), "box": _shares(one.box)},
    }
    return to_json(said if drawn is None else {**said, "map": str(drawn)})


def _shares(box: Box | None) -> list[float] | None:
    return None if box is None else [round(share, 4) for share in box]


def _text(judged: Judged) -> str:
    d, one = judged.decision, judged.comparison
    words = [judged.path, d.verdict]
    if d.scores is None or d.score is None:
        words += [d.reason if d.label is None else f"{d.reason} {d.label}"]
    else:
        words += [str(d.label), f"{d.score:.3f}"]
    if d.scores is not None:
        words.append(" ".join(f"{label}={score:.3f}" for label, score in d.scores.items()))
    if judged.tile is not None:
        words.append(f"tile={_short(judged.tile)}")
    if one is not None:
        place = "" if one.box is None or not one.differs else f" at {_short(one.box)}"
        words.append(f"reference={one.score:.3f} (fails above {one.threshold:.3f}){place}")
    return "  ".join(words)


def _short(box: Box) -> str:
    return ",".join(f"{share:.2f}" for share in box)
