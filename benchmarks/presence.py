"""Parts found in the picture: real clips, the simulated belt with what disturbs it, and what a picture costs.

``python -m benchmarks.presence`` writes results/presence.{json,md}. Real clips: ../shared/data/video-open, counted
by eye (`benchmarks/splits/presence.csv`). The belt: seed 20, other than the one it was made with (1).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np

from benchmarks import machine
from camera.core.frame import Capture, Image
from camera.core.presence_settings import PresenceTrigger
from camera.presence.watch import Chosen, PresenceWatch
from camera.simulation.belt import DIAMETER, HEIGHT, WIDTH, Disturbance, SimulatedBelt

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "video-open"
COUNTS = Path(__file__).parent / "splits" / "presence.csv"
FPS = 30.0


def watched(
    pictures: Iterator[Image], settings: PresenceTrigger, fps: float
) -> tuple[list[Chosen], PresenceWatch]:
    """Return the pictures that are chosen of some; the part id of a capture is its number from 0 on."""
    watch, chosen = PresenceWatch(settings), list[Chosen]()
    for number, image in enumerate(pictures):
        chosen += watch.look(Capture(image, datetime.now(UTC), int(number / fps * 1e9), str(number)))
    return chosen + watch.flush(), watch


def frames(path: Path) -> Iterator[Image]:
    """Yield the pictures of a clip as RGB."""
    clip = cv2.VideoCapture(str(path))
    while True:
        ok, image = clip.read()
        if not ok:
            return
        yield np.ascontiguousarray(image[:, :, ::-1])


def of_clips() -> list[dict[str, Any]]:
    """Return what is found in the real clips beside what was counted by eye."""
    counted = list(
        csv.DictReader(line for line in COUNTS.read_text().splitlines() if not line.startswith("#"))
    )
    rows = []
    for name in dict.fromkeys(row["file"] for row in counted):
        parts = [row for row in counted if row["file"] == name]
        fps = float(cv2.VideoCapture(str(CLIPS / name)).get(cv2.CAP_PROP_FPS))
        region = tuple(float(edge) for edge in parts[0]["region"].split())
        settings = PresenceTrigger(region=(region[0], region[1], region[2], region[3]))
        chosen, watch = watched(frames(CLIPS / name), settings, fps)
        shown = [int(one.capture.part_id or 0) for one in chosen]
        ranges = [(int(row["first_frame"]), int(row["last_frame"])) for row in parts]
        rows.append({
            "file": name, "by_eye": len(parts), "found": len(chosen), "pictures": shown,
            "in_range": sum(any(first <= at <= last for at in shown) for first, last in ranges),
            "no_part": watch.count.no_part, "disturbances": watch.count.disturbances,
        })  # fmt: skip
    return rows


def of_belt(kind: Disturbance, parts: int, seed: int) -> dict[str, Any]:
    """Return how many parts of a simulated belt are missed and counted twice."""
    belt = SimulatedBelt(parts, kind, seed)
    chosen, watch = watched((belt.picture(n) for n in range(len(belt))), PresenceTrigger(), FPS)
    times: Counter[int] = Counter()
    false = 0
    for one in chosen:
        x, y = (one.box[0] + one.box[2]) / 2 * WIDTH, (one.box[1] + one.box[3]) / 2 * HEIGHT
        near = [
            (float(np.hypot(column - x, row - y)), number)
            for number, column, row in belt.in_view(int(one.capture.part_id or 0))
        ]
        far, number = min(near, default=(np.inf, 0))
        if far < DIAMETER / 2:
            times[number] += 1
        else:
            false += 1
    missed = sum(times[one.number] == 0 for one in belt.parts)
    doubled = sum(times[one.number] > 1 for one in belt.parts)
    return {
        "kind": kind, "parts": parts, "pictures": len(belt), "found": len(chosen), "missed": missed,
        "doubled": doubled, "false": false, "disturbances": watch.count.disturbances,
        "no_part": watch.count.no_part, "missed_numbers": [o.number for o in belt.parts if not times[o.number]][:20],
        "doubled_numbers": [o.number for o in belt.parts if times[o.number] > 1][:20],
    }  # fmt: skip


def cost() -> dict[str, float]:
    """Return ms of a core per 1080p picture with up to four parts in view, besides decoding."""
    belt = SimulatedBelt(60, "gaps", 5)
    start = 60
    pictures = [
        cv2.resize(belt.picture(start + n), (1920, 1080), interpolation=cv2.INTER_CUBIC) for n in range(200)
    ]
    took = []
    for _ in range(3):
        watch = PresenceWatch(PresenceTrigger())
        for number, image in enumerate(pictures):
            capture = Capture(image.astype(np.uint8), datetime.now(UTC), int(number / FPS * 1e9))
            before = time.thread_time()
            watch.look(capture)
            took.append(1000 * (time.thread_time() - before))
    return {
        "mean_ms": float(np.mean(took)),
        "p50_ms": float(np.median(took)),
        "p99_ms": float(np.quantile(took, 0.99)),
    }


def upper(errors: int, of: int) -> float:
    """Return the upper end of the 95 % Wilson interval of a rate, per 1000."""
    z, rate = 1.96, errors / of
    return (
        1000
        * (rate + z * z / 2 / of + z * sqrt(rate * (1 - rate) / of + z * z / 4 / of / of))
        / (1 + z * z / of)
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--only", choices=get_args(Disturbance))
    given = parser.parse_args()
    cv2.setNumThreads(1)
    if given.only:
        print(of_belt(given.only, given.parts, given.seed))
        return
    clips, belts = of_clips(), [of_belt(kind, given.parts, given.seed) for kind in get_args(Disturbance)]
    took = cost()
    described = machine.describe("numpy", "opencv-python-headless")
    figures = {"machine": described, "seed": given.seed, "clips": clips, "belt": belts, "cost": took}
    told = [
        "# Parts found in the picture", "", machine.in_words(described), "",
        "Real clips, counted by eye (benchmarks/splits/presence.csv); pictures that lie in the range of a part:", "",
        machine.table(["clip", "by eye", "found", "in range", "no part", "disturbances"], [
            [str(row[key]) for key in ("file", "by_eye", "found", "in_range", "no_part", "disturbances")]
            for row in clips
        ]), "",
        f"The simulated belt, seed {given.seed}; per 1000 parts, with the upper end of the 95 % interval:", "",
        machine.table(["belt", "parts", "missed", "doubled", "pictures of no part", "disturbances"], [
            [row["kind"], str(row["parts"]), *(
                f"{1000 * row[key] / row['parts']:.1f} (at most {upper(row[key], row['parts']):.1f})"
                for key in ("missed", "doubled", "false")
            ), str(row["disturbances"])]
            for row in belts
        ]), "",
        f"One 1080p picture takes {took['mean_ms']:.2f} ms of a core besides decoding"
        f" (median {took['p50_ms']:.2f}, p99 {took['p99_ms']:.2f}).", "",
    ]  # fmt: skip
    machine.write("presence", figures, "\n".join(told))


if __name__ == "__main__":
    main()
