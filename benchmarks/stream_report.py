"""Figures of many runs to tables in Markdown and JSON: per stream, per segment, and what is required of the learner."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.machine import in_words, table
from benchmarks.stream_methods import RIVALS
from benchmarks.stream_metrics import TOLERANCE, WINDOW, over_seeds
from benchmarks.streams import Stream

OURS = "ours"
"""What the names of the learner's variants begin with."""

GOLDEN_STREAMS = ("S2", "S2-rare", "S3", "S7")
"""Where half of the gap to the oracle has to be closed, on real photos (S8) as on the line."""

OVERALL_TOLERANCE = 0.005

SEEDS = 5
"""That a claim needs."""

RATES = ("false_rejects", "missed", "balanced", "against_frozen", "auroc", "gap")
COUNTS = (
    "updates",
    "promotions",
    "rollbacks",
    "learned_on_clean",
    "flips",
    "harmful_flips",
    "labels",
    "cpu_ms",
)

Judged = Mapping[tuple[str, str, int], Mapping[str, Any]]
"""Stream, method, seed -> what `stream_metrics.judge` returns."""


def figures(model: str, judged: Judged, machine: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Return everything that is reported about one model, with 95 % intervals over seeds."""
    results: dict[str, dict[str, Any]] = {}
    for stream, method in dict.fromkeys((stream, method) for stream, method, _ in judged):
        of_seed = {s: of for (t, m, s), of in judged.items() if (t, m) == (stream, method)}
        results.setdefault(stream, {})[method] = _over_seeds(of_seed)
    return {"model": model, "machine": dict(machine), "share_of_frames": share, "results": results}


def _over_seeds(of_seed: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    runs = list(of_seed.values())
    windows = [run["window"] for run in runs]
    return {
        "seeds": sorted(of_seed),
        "overall": {name: over_seeds([run["overall"][name] for run in runs]) for name in RATES},
        "overall_worst_seed": min((run["overall"]["against_frozen"] for run in runs), default=None),
        "segments": {
            segment: {name: over_seeds([run["segments"][segment][name] for run in runs]) for name in RATES}
            for segment in runs[0]["segments"]
        },
        "window": {
            "worst": min(window["against_frozen"] for window in windows),
            "mean_worst": over_seeds([window["against_frozen"] for window in windows]),
            "smallest_p": min(window["p"] for window in windows),
            "seeds_beyond_chance": [
                seed for seed, run in sorted(of_seed.items()) if run["window"]["beyond_chance"]
            ],
        },
        "recovery": {
            name: over_seeds([run["recovery"].get(name) for run in runs])
            for name in dict.fromkeys(name for run in runs for name in run["recovery"])
        },
        "never_recovered": sum(time is None for run in runs for time in run["recovery"].values()),
        **{name: over_seeds([run[name] for run in runs]) for name in COUNTS},
        "per_seed": {str(seed): run for seed, run in sorted(of_seed.items())},
    }


def markdown(all_of: Mapping[str, Any], streams: Mapping[str, Stream], notes: str) -> str:
    """Return the report of one model."""
    share = all_of["share_of_frames"]
    parts = [
        f"# Streams with {all_of['model']}\n",
        "Written by `python -m benchmarks.bench_streams`."
        f"{'' if share == 1 else f' **A quick look: {share:g} of the frames of each stream.**'} {notes}"
        " One frame is one part is one second. Every verdict is at the method's operating point: for all but the"
        " learner and the oracle the one fixed at commissioning. Rates in percent, 95 % intervals over seeds"
        " (Student's t); `seeds` says over how many. AUROC is the mean over segments."
        f" Worst window: of {WINDOW} frames, in points of balanced accuracy against the frozen model on the same"
        f" frames; `beyond chance` counts the seeds in which a window is more than {100 * TOLERANCE:g} points"
        " below by more than chance explains (exact test on the parts on which the two disagree, 5 % per stream"
        " and seed). Gap closed: of that between the frozen model and the oracle. Recovery: frames until half of"
        " that gap is closed, mean over segments, with the number of changes after which it never was. CPU time is"
        " beside the frozen model's where a method uses its answers, and with its own forward pass where it has one."
        f" Machine: {in_words(all_of['machine'])}.\n",
    ]
    required = requirements(all_of["results"])
    if required:
        heads = ["stream", "method", "seeds", "windows beyond chance", "overall, worst seed", "gap closed", "best rival", "kept"]  # fmt: skip
        parts.append("## What is required of the learner\n\n" + table(heads, required))
    for name, of_method in all_of["results"].items():
        stream = streams[name]
        parts.append(f"## {name}: {stream.title}\n\n{stream.frames} frames.\n\n{_overall(of_method)}")
        parts.append(_segments(of_method))
    return "\n".join(parts)


def requirements(results: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return a row per stream and variant of the learner: what is required, what it did, whether that will do.

    Never below the frozen model: no window beyond chance, no seed overall below by more than half a point. With
    golden pictures also half of the gap, and better than every other method, on the streams that ask for it. With
    fewer seeds than `SEEDS`, or before every rival and the oracle has run, nothing is kept more than so far.
    """
    rows = []
    for stream, of_method in results.items():
        rivals = {
            method: of["overall"]["balanced"][0]
            for method, of in of_method.items()
            if not method.startswith(OURS)
            and method not in ("oracle", "frozen")
            and of["overall"]["balanced"]
        }
        best = max(rivals, key=lambda method: rivals[method], default=None)
        for method, of in of_method.items():
            if not method.startswith(OURS):
                continue
            beyond = of["window"]["seeds_beyond_chance"]
            kept = not beyond and of["overall_worst_seed"] >= -OVERALL_TOLERANCE
            closed = gap_closed(of["overall"])
            enough = len(of["seeds"]) >= SEEDS
            if stream in GOLDEN_STREAMS and "golden" in method:
                enough &= {*RIVALS, "oracle"} <= set(of_method)
                kept &= closed is not None and closed >= 0.5
                kept &= best is None or of["overall"]["balanced"][0] > rivals[best]
            rows.append(
                [
                    stream,
                    method,
                    str(len(of["seeds"])),
                    str(len(beyond)),
                    _points(of["overall_worst_seed"]),
                    _percent(closed),
                    f"{best} {_percent(rivals[best], 1)}" if best else "",
                    ("yes" if enough else "so far") if kept else "**no**",
                ]
            )
    return rows


def gap_closed(of: Mapping[str, Any]) -> float | None:
    """Return the share of the gap to the oracle that is closed: ratio of means over the seeds that have both."""
    gap, gain = of["gap"], of["against_frozen"]
    # Below half a point there is no gap to speak of, and the ratio is noise.
    return gain[0] / gap[0] if gap is not None and gain is not None and gap[0] >= 0.005 else None


def _overall(of_method: Mapping[str, Any]) -> str:
    heads = ["method", "seeds", "balanced", "against frozen", "false rejects", "missed", "AUROC", "gap closed", "worst window", "beyond chance", "recovery", "updates", "promotions", "rollbacks", "learned on clean", "flips (harmful)", "labels", "CPU ms a frame"]  # fmt: skip
    rows = []
    for method, of in of_method.items():
        overall = of["overall"]
        times = [time[0] for time in of["recovery"].values() if time]
        never = of["never_recovered"]
        rows.append(
            [
                method,
                str(len(of["seeds"])),
                _interval(overall["balanced"]),
                "" if method == "frozen" else _interval(overall["against_frozen"], "+.1f"),
                _interval(overall["false_rejects"]),
                _interval(overall["missed"]),
                _number(overall["auroc"], ".3f"),
                "" if method == "frozen" else _percent(gap_closed(overall)),
                "" if method == "frozen" else _points(of["window"]["worst"]),
                "" if method == "frozen" else str(len(of["window"]["seeds_beyond_chance"])),
                _recovery(times, never),
                *(_number(of[name], ".0f") for name in ("updates", "promotions", "rollbacks")),
                _number(of["learned_on_clean"], ".0f"),
                f"{_number(of['flips'], '.0f')} ({_number(of['harmful_flips'], '.0f')})",
                _number(of["labels"], ".0f"),
                _number(of["cpu_ms"], ".1f"),
            ]
        )
    return table(heads, rows)


def _segments(of_method: Mapping[str, Any]) -> str:
    names = list(dict.fromkeys(name for of in of_method.values() for name in of["segments"]))
    rows = []
    for name in names:
        for method, of in of_method.items():
            segment = of["segments"].get(name)
            if segment is None or segment["balanced"] is None:
                continue
            rows.append(
                [
                    name,
                    method,
                    _interval(segment["balanced"]),
                    "" if method == "frozen" else _interval(segment["against_frozen"], "+.1f"),
                    _interval(segment["false_rejects"]),
                    _interval(segment["missed"]),
                    _number(segment["auroc"], ".3f"),
                ]
            )
    return table(
        ["segment", "method", "balanced", "against frozen", "false rejects", "missed", "AUROC"], rows
    )


def _interval(value: Sequence[float] | None, form: str = ".1f") -> str:
    if value is None:
        return ""
    mean, low, high = (format(100 * x, form) for x in value[:3])
    return mean if math.isnan(value[1]) else f"{mean} ({low}..{high})"


def _number(value: Sequence[float] | None, form: str) -> str:
    return "" if value is None else format(value[0], form)


def _percent(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{100 * value:.{digits}f} %"


def _points(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f}"


def _recovery(times: Sequence[float], never: int) -> str:
    mean = f"{sum(times) / len(times):.0f}" if times else ""
    return f"{mean}, {never} never".removeprefix(", ") if never else mean
