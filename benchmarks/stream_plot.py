"""One stream as a picture: what the verdicts did, the true condition, and what the learner was up to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from benchmarks.stream_metrics import RECENT, Truth, rolling
from benchmarks.stream_run import Run

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

MARKS = {"promotion": "tab:green", "recall": "tab:cyan", "rollback": "tab:red", "reset": "tab:orange"}
"""Events that get a line of their own; updates are too many."""

MOST_TRACES = 6
STATES = ("tab:gray", "tab:blue", "tab:olive", "tab:purple", "tab:cyan", "tab:pink", "tab:brown", "tab:red")
DEFECT_WINDOW = 1000
"""Misses need a longer window than false rejects: in 250 frames there are some seven defects."""


def draw(file: Path, title: str, truth: Truth, runs: Mapping[str, Run], learner: str | None) -> None:
    """Plot false rejects and misses of some runs of one stream, and below them the learner's own numbers.

    Args:
        file: PNG to write.
        title: says which stream, model and seed.
        truth: of the stream.
        runs: by method, in the order of the legend.
        learner: which of them has the states, events and numbers to show.
    """
    story = runs[learner] if learner is not None else None
    traces = _traces(story) if story else {}
    panels = 3 + bool(story) + len(traces)
    heights = [2.4, 2.4, 1.0, *([0.5] if story else []), *([0.9] * len(traces))]
    figure, axes = plt.subplots(
        panels, 1, figsize=(13, 1.4 * sum(heights)), sharex=True, squeeze=False, height_ratios=heights
    )
    column: list[Axes] = list(axes[:, 0])
    bad = truth.defective & truth.counted
    for name, run in runs.items():
        failed = run.scores >= 0
        column[0].plot(100 * rolling(failed, truth.counted & ~bad), label=name, linewidth=1)
        column[1].plot(100 * rolling(~failed, bad, DEFECT_WINDOW), label=name, linewidth=1)
    column[0].set_ylabel(f"false rejects, %\nlast {RECENT} frames")
    column[1].set_ylabel(f"missed, %\nlast {DEFECT_WINDOW} frames")
    column[0].legend(fontsize=8, loc="upper left")
    _conditions(column[2], truth)
    if story is not None:
        _states(column[3], story, len(truth.defective))
        for axis in column[:3]:
            _marks(axis, story)
    for axis, (name, (frames, values)) in zip(column[4:], traces.items(), strict=False):
        axis.plot(frames, values, linewidth=1)
        axis.set_ylabel(name.replace("_", "\n"), fontsize=8)
    column[0].set_title(title)
    column[-1].set_xlabel("frame")
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=80)
    plt.close(figure)


def _conditions(axis: Axes, truth: Truth) -> None:
    """Draw the severity of each kind over time, and shade what is no part."""
    stream = truth.stream
    kinds = dict.fromkeys(shift.kind for segment in stream.segments for shift in segment.shifts)
    numbers = range(0, stream.frames, max(1, stream.frames // 2000))
    severities = [dict(stream.severities(number)) for number in numbers]
    for kind in kinds:
        axis.plot(numbers, [of.get(kind, 0.0) for of in severities], label=kind, linewidth=1)
    for first, segment in zip(stream.starts, stream.segments, strict=True):
        if segment.content != "parts":
            axis.axvspan(first, first + segment.frames, color="black", alpha=0.25)
            axis.text(first, 0.1, segment.content, fontsize=7)
    axis.set_ylabel("severity")
    if kinds:
        axis.legend(fontsize=7, loc="upper left", ncols=len(kinds))


def _states(axis: Axes, story: Run, frames: int) -> None:
    """Colour the time that was spent in each state, in the order in which they first come."""
    changes = [event for event in story.events if event["event"] == "state"]
    colours: dict[str, str] = {}
    ends = [*changes[1:], {"frame": frames}] if changes else []
    for change, then in zip(changes, ends, strict=True):
        state = str(change["state"])
        new = state not in colours
        colour = colours.setdefault(state, STATES[len(colours) % len(STATES)])
        axis.axvspan(change["frame"], then["frame"], color=colour, alpha=0.6, label=state if new else None)
    axis.set_yticks([])
    axis.set_ylabel("state")
    if colours:
        axis.legend(fontsize=7, loc="upper left", ncols=len(colours))


def _marks(axis: Axes, story: Run) -> None:
    for event in story.events:
        if event["event"] in MARKS:
            axis.axvline(event["frame"], color=MARKS[event["event"]], linewidth=0.8, alpha=0.7)


def _traces(story: Run) -> dict[str, tuple[Any, Any]]:
    """Return frames and values of the first few numbers that the learner left."""
    names = [name for name in story.trace if name != "frame"][:MOST_TRACES]
    frames = np.array(story.trace.get("frame", []), np.float64)
    return {name: (frames, np.array(story.trace[name], np.float64)) for name in names if len(frames)}
