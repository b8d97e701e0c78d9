"""A replay as a picture for process engineers: what was rejected, what the pictures did, what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from agent.replay.runner import Course, Moment

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

RECENT = 200
"""Frames over which the share of rejects is taken."""

PHASES = {
    "watch": "tab:gray",
    "learn": "tab:blue",
    "hold": "tab:olive",
    "tripped": "tab:red",
    "off": "white",
}
MARKS = {
    "promoted": "tab:green",
    "recalled": "tab:cyan",
    "refused": "tab:orange",
    "reset": "tab:purple",
    "rolled_back": "tab:red",
}


def draw(file: Path, title: str, rejects: Sequence[tuple[bool, bool]], course: Course) -> None:
    """Write a picture with time running to the right, counted in frames.

    Args:
        file: what its name ends with says which kind of picture: .png, .svg, .pdf.
        title: stands above it.
        rejects: of each frame, whether the frozen model and what answered reject it.
        course: of the learner.

    Raises:
        OSError: it cannot be written.
        ValueError: nobody can draw such a kind of file.
    """
    heights = (2.4, 1.4, 1.2, 1.4, 0.5)
    figure, grid = plt.subplots(len(heights), 1, figsize=(12, 9), sharex=True, height_ratios=heights)
    shares, drift, offset, error, phase = (axis for axis in grid)
    _shares(shares, rejects)
    _drift(drift, course)
    moments = course.moments
    offset.step([m.frame for m in moments], [m.offset for m in moments], where="post", linewidth=1.2)
    offset.set_ylabel("operating point\nlog-odds")
    _errors(error, course)
    _phases(phase, moments)
    for axis in (shares, offset, error):
        _marks(axis, course)
    if course.events:
        shares.legend(fontsize=8, loc="upper left", ncols=3)
    shares.set_title(title)
    phase.set_xlabel("frame")
    figure.tight_layout()
    try:
        figure.savefig(file, dpi=90)
    finally:
        plt.close(figure)


def rolling(values: NDArray[np.bool_], recent: int = RECENT) -> NDArray[np.float64]:
    """Return ``(N,)`` the share of True among the last `recent` values, fewer at the beginning."""
    total = np.concatenate([[0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - recent)
    return np.asarray((total[ends] - total[starts]) / (ends - starts), np.float64)


def _shares(axis: Axes, rejects: Sequence[tuple[bool, bool]]) -> None:
    both = np.array(rejects, bool).reshape(-1, 2)
    frames = np.arange(1, len(both) + 1)
    for column, name, colour in (
        (0, "model as it was trained", "tab:gray"),
        (1, "what answered", "tab:blue"),
    ):
        axis.plot(frames, 100 * rolling(both[:, column]), label=name, color=colour, linewidth=1.2)
    axis.set_ylabel(f"rejects, %\nlast {RECENT} frames")
    axis.legend(fontsize=8, loc="upper left")


def _drift(axis: Axes, course: Course) -> None:
    frames = [report.frame for report in course.drift]
    axis.plot(frames, [report.distance for report in course.drift], label="distance", linewidth=1.2)
    axis.plot(frames, [report.gradual for report in course.drift], label="evidence", linewidth=1.2)
    axis.axhline(1.0, color="black", linewidth=0.6, linestyle="--")
    # The evidence multiplies from block to block: only its order of magnitude says something.
    axis.set_yscale("symlog", linthresh=1.0)
    axis.set_ylabel("drift\n1: as far as never")
    if course.drift:
        axis.legend(fontsize=8, loc="upper left", ncols=2)


def _errors(axis: Axes, course: Course) -> None:
    for key, name, colour in (
        ("source_error", "model as it was trained", "tab:gray"),
        ("error", "proposal or version", "tab:blue"),
    ):
        known = [(e["frame"], e["numbers"][key]) for e in course.events if key in e["numbers"]]
        if known:
            axis.plot(*zip(*known, strict=True), ".-", label=name, color=colour, linewidth=0.8, markersize=4)
            axis.legend(fontsize=8, loc="upper left", ncols=2)
    axis.set_ylabel("error of\nknown parts")


def _phases(axis: Axes, moments: Sequence[Moment]) -> None:
    start, shown = 0, set[str]()
    for row, moment in enumerate(moments):
        if row + 1 < len(moments) and moments[row + 1].phase == moment.phase:
            continue
        label = moment.phase if moment.phase not in shown else None
        axis.axvspan(start, moment.frame, color=PHASES[moment.phase], alpha=0.7, label=label)
        start = moment.frame
        shown.add(moment.phase)
    axis.set_yticks([])
    axis.set_ylabel("learner")
    if shown:
        axis.legend(fontsize=8, loc="upper left", ncols=len(shown))


def _marks(axis: Axes, course: Course) -> None:
    shown = set[str]()
    for event in course.events:
        name = event["event"]
        if name in MARKS:
            label = name.replace("_", " ") if name not in shown else None
            shown.add(name)
            axis.axvline(event["frame"], color=MARKS[name], linewidth=0.8, alpha=0.7, label=label)
