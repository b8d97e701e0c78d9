"""`mekiki inspect`: pictures, folders and clips, judged as the line would judge them, without a daemon."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from threading import Event

import numpy as np
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adapters.engine import Engine
from adapters.prompts import TextCache, probabilities
from agent.config import Recipe
from agent.errors import UsageError
from agent.output import as_json as to_json
from agent.output import put, say
from agent.plans import prompts
from agent.text import on_one_line
from agent.verdict import Decision, decide
from camera.folder import picture_files
from camera.frame import CameraError, Capture, Fault, Quality
from camera.images import read_image
from camera.preprocess import Preprocess, prepare
from camera.quality import assess
from camera.settings import OpenCVCamera, QualityLimits
from camera.source import file_id, open_source, stamp

_BATCH = 8
CLIP_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm", ".wmv"}
)
_NO_LIMITS = QualityLimits(frozen_s=None, stale_s=None)
"""Files are neither frozen nor stale; black and saturated pictures are not judged, as on the line."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One picture and what was decided about it."""

    path: str
    decision: Decision


def inspect(paths: Sequence[str], recipe: Recipe, engine: Engine, *, as_json: bool) -> int:
    """Print one line per picture to stdout and return the exit code.

    Raises:
        UsageError: a path does not exist; nothing was inspected.
    """
    missing = [path for path in paths if not Path(path).exists()]
    if missing:
        raise UsageError(f"{missing[0]}: no such file or folder")
    captures, total = _captures([Path(path) for path in paths])
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
        for judged in judge(captures, recipe, engine):
            put(_json(judged) if as_json else _text(judged))
            progress.advance(task)
    return 0


def judge(captures: Iterable[tuple[str, Capture]], recipe: Recipe, engine: Engine) -> Iterator[Judged]:
    """Judge captures in batches; in the order in which they come."""
    spec = Preprocess(**asdict(engine.info.preprocess))
    features = TextCache(engine).features(prompts(recipe), engine.source)
    captures = iter(captures)
    while batch := list(islice(captures, _BATCH)):
        seen = [_quality(capture) for _, capture in batch]
        pixels = [
            prepare(capture.image, spec)
            for (_, capture), quality in zip(batch, seen, strict=True)
            if capture.image is not None and quality.fault is None
        ]
        rows = iter(())
        if pixels:
            images = engine.encode_image(np.stack(pixels), [engine.source] * len(pixels))
            rows = iter(probabilities(images, features, engine.info.logit_scale).tolist())
        for (path, _), quality in zip(batch, seen, strict=True):
            yield Judged(path, decide(next(rows) if quality.fault is None else None, quality, recipe))


def _captures(paths: Sequence[Path]) -> tuple[Iterator[tuple[str, Capture]], int | None]:
    """Return captures with the names to print, and how many, unless a clip is among them."""
    expanded: list[Path] = []
    for path in paths:
        try:
            expanded += picture_files(path) if path.is_dir() else [path]
        except CameraError as error:
            raise UsageError(str(error)) from error
    clips = [path for path in expanded if _is_clip(path)]
    return (item for path in expanded for item in _read(path)), None if clips else len(expanded)


def _is_clip(path: Path) -> bool:
    return path.suffix.lower() in CLIP_SUFFIXES


def _read(path: Path) -> Iterator[tuple[str, Capture]]:
    name = file_id(path)
    try:
        if _is_clip(path):
            clip = open_source(OpenCVCamera(source=SecretStr(str(path.absolute())), pace="full"))
            for number, capture in enumerate(clip.captures(Event())):
                yield f"{name}#{number}", capture
        else:
            yield name, stamp(read_image(path))
    except CameraError as error:
        say(on_one_line(str(error)))  # the reason, beside the line that says unreadable
        yield name, stamp(fault=Fault.UNREADABLE, detail=str(error))


def _quality(capture: Capture) -> Quality:
    if capture.image is None:
        return Quality(fault=capture.fault)
    return assess(capture.image, _NO_LIMITS)


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
        }
    )


def _text(judged: Judged) -> str:
    d = judged.decision
    if d.scores is None or d.score is None:
        return f"{judged.path}  {d.verdict}  {d.reason}"
    scores = " ".join(f"{label}={score:.3f}" for label, score in d.scores.items())
    return f"{judged.path}  {d.verdict}  {d.label}  {d.score:.3f}  {scores}"
