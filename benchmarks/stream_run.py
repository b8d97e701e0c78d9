"""One contender before one stream: what it answered, what it cost, what it did; kept on disk."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.core.protocol import Floats
from benchmarks.stream_frames import Frames, save
from benchmarks.stream_methods import Answers, Contender
from benchmarks.stream_site import Site
from benchmarks.streams import UNKNOWN

DAY_FRAMES = 28_800
"""A shift of eight hours at one part a second: what `labels_a_day` counts by."""

RECENT_FRAMES = 500
"""Parts that are still at hand when somebody comes to label one."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a contender made of a stream of N frames.

    Attributes:
        scores: ``(N,)`` log-odds above its operating point: fails from 0 on.
        raw: ``(N,)`` log-odds, for the ranking.
        labels: ``(N,)`` class it named.
        cpu_ms: of CPU time a frame, beside what the frozen model took where its answers are used.
        told: numbers of the frames whose label it was given.
        events: as `Contender.events`.
        trace: as `Contender.trace`.
    """

    scores: Floats
    raw: Floats
    labels: NDArray[np.int64]
    cpu_ms: float
    told: list[int]
    events: list[dict[str, Any]]
    trace: dict[str, list[float]]


def run(
    contender: Contender, site: Site, frames: Frames, frozen: Floats, day_frames: int = DAY_FRAMES
) -> Run:
    """Show a stream to a contender, call by call.

    Labels are given evenly over time: one every ``day_frames / labels_a_day`` frames, the first after half of
    that; a stream shorter than a day gets its share of a day's labels. See `worth_a_label` for which frames.

    Args:
        contender: is started here.
        site: what it starts from.
        frames: the stream.
        frozen: ``(N,)`` the frozen model's scores above the operating point.
        day_frames: length of a day; shorter where a stream stands for more time than its frames take.
    """
    contender.start(site)
    count = len(frames.pictures)
    every = day_frames / contender.labels_a_day if contender.labels_a_day else np.inf
    due = every / 2
    told: list[int] = []
    parts: list[Answers] = []
    scores = np.full(count, np.nan, np.float32)
    spent_s = 0.0
    for first in range(0, count, contender.call_frames):
        pictures = np.array(frames.pictures[first : first + contender.call_frames])
        began = time.process_time()
        answers = contender.see(first, pictures, frames.usable[first : first + len(pictures)])
        spent_s += time.process_time() - began
        parts.append(answers)
        seen = first + len(pictures)
        scores[first:seen] = answers.scores
        while seen >= due:
            due += every
            number = worth_a_label(scores[:seen], frozen[:seen], _answerable(frames, seen), told)
            if number is not None:
                told.append(number)
                began = time.process_time()
                contender.tell(number, int(frames.labels[number]))
                spent_s += time.process_time() - began
    return Run(
        scores,
        np.concatenate([part.raw for part in parts]),
        np.concatenate([part.labels for part in parts]),
        1e3 * spent_s / count,
        told,
        contender.events(),
        contender.trace(),
    )


def worth_a_label(
    scores: Floats, frozen: Floats, answerable: NDArray[np.bool_], told: list[int]
) -> int | None:
    """Return which of the recent frames somebody should label, None if there is none.

    The newest one on which the contender and the frozen model disagree; without one, the one that the
    contender is least sure of.
    """
    numbers = np.arange(max(0, len(scores) - RECENT_FRAMES), len(scores))
    numbers = numbers[answerable[numbers] & ~np.isin(numbers, told)]
    if not len(numbers):
        return None
    different = numbers[(scores[numbers] >= 0) != (frozen[numbers] >= 0)]
    if len(different):
        return int(different[-1])
    return int(numbers[np.argmin(np.abs(scores[numbers]))])


def run_file(
    out: Path, cell: str, model: str, weights: str, name: str, contender: Contender, day_frames: int
) -> Path:
    """Name a run by all that it follows from."""
    labels = (contender.labels_a_day, day_frames) if contender.labels_a_day else ()
    made_of = f"{model} {weights} {contender.fingerprint} {contender.call_frames} {labels}"
    digest = hashlib.sha256(made_of.encode()).hexdigest()[:10]
    short = "".join(letter if letter.isalnum() else "-" for letter in name)
    return out / f"{cell}-run-{model}-{short}-{digest}.npz"


def save_run(file: Path, made: Run) -> None:
    """Write a run; the file is complete or not there."""
    story = {"cpu_ms": made.cpu_ms, "told": made.told, "events": made.events, "trace": made.trace}
    # default: numpy's numbers, which a contender may well put into an event.
    text = np.array(json.dumps(story, default=lambda number: number.item()))
    save(
        file,
        lambda unfinished: np.savez_compressed(
            unfinished, story=text, scores=made.scores, raw=made.raw, labels=made.labels
        ),
    )


def load_run(file: Path) -> Run:
    """Read what `save_run` wrote."""
    with np.load(file) as kept:
        story = json.loads(str(kept["story"]))
        return Run(kept["scores"], kept["raw"], kept["labels"], **story)


def _answerable(frames: Frames, count: int) -> NDArray[np.bool_]:
    return np.asarray(frames.usable[:count] & (frames.labels[:count] != UNKNOWN))
